using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Output;
using LoftHpc.Planning;

namespace LoftHpc.Commands;

/// <summary>The commands that compute and print only; without MPI, ranks, devices and files of data.</summary>
public static class PlanCommands
{
    /// <summary>Under a launcher rank 0 alone does the work.</summary>
    /// <returns>The exit code of this process.</returns>
    public static int Once(Action<IReporter> work)
    {
        if (LaunchEnvironment.Current.Rank != 0) return ExitCodes.Done;
        try
        {
            work(ConsoleReporter.Create(0, Verbosity.Normal));
            return ExitCodes.Done;
        }
        catch (UserError error)
        {
            Console.Error.WriteLine($"lofthpc: error: {error.Message}");
            return error.ExitCode;
        }
    }

    /// <summary>What the pre-training of a config costs on each of plan.ranks.</summary>
    public static void Plan(RunConfig config, IReporter reporter)
    {
        reporter.Result(PlanTables.Subject(PlanSetting.Of(config, 1)));
        List<PretrainPlan> plans = [];
        foreach (int ranks in config.Plan.Ranks)
        {
            try
            {
                plans.Add(PretrainPlan.Of(PlanSetting.Of(config, ranks)));
            }
            catch (UserError error)
            {
                reporter.Result($"not on {ranks} rank{(ranks == 1 ? "" : "s")}: {error.Message}");
            }
        }
        if (plans.Count == 0) return;
        reporter.Table(PlanTables.Resources(plans), isResult: true);
        foreach (PretrainPlan plan in plans.Where(plan => plan.Setting.Ranks > 1))
        {
            reporter.Table(PlanTables.Communication(plan), isResult: true);
            if (plan.Remark is string remark) reporter.Result(remark);
        }
    }

    /// <summary>The published communication table beside its model and this program's exchange.</summary>
    public static void CommunicationTable(IReporter reporter)
    {
        reporter.Table(PlanTables.Published(PublishedTable.Rows), isResult: true);
        foreach (string line in PublishedTable.Explanations) reporter.Result(line);
        reporter.Result("");
        reporter.Table(PlanTables.Gains(PublishedTable.Rows), isResult: true);
        foreach (string line in PublishedTable.OwnExplanations) reporter.Result(line);
    }
}
