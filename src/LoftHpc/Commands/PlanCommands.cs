using System.Globalization;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Output;
using LoftHpc.Planning;
using LoftHpc.Stages;

namespace LoftHpc.Commands;

/// <summary>The commands that compute and print only; without MPI, ranks, devices and files of data.</summary>
public static class PlanCommands
{
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
                // Where none of the counts can be planned, the mistake is the config's.
                if (plans.Count == 0 && ranks == config.Plan.Ranks[^1]) throw;
                reporter.Result($"not on {ranks} rank{(ranks == 1 ? "" : "s")}: {error.Message}");
            }
        }
        reporter.Table(PlanTables.Resources(plans), isResult: true);
        foreach (PretrainPlan plan in plans.Where(plan => plan.Setting.Ranks > 1))
        {
            reporter.Table(PlanTables.Communication(plan), isResult: true);
            if (plan.Remark is string remark) reporter.Result(remark);
        }
    }

    /// <summary>Under a launcher: a measurement of what the table plans, on so many ranks.</summary>
    public static void MeasureRounds(ICommunicator world, IReporter reporter)
    {
        TorchLibrary.Load();
        PublishedRow row = PublishedTable.Rows[0];
        MeasuredRounds measured = RoundMeasurement.Run(world, row);
        reporter.Result(string.Create(CultureInfo.InvariantCulture,
            $"measured, {row.Setting}, {world.Size} ranks: {measured.CountedBytes / 1e6:F2} MB a round over {measured.Rounds} rounds of loft; planned for the partitions drawn: {measured.PlannedBytes / 1e6:F2} MB, on average over partitions: {measured.AverageBytes / 1e6:F2} MB"));
        if (measured.CountedBytes != measured.PlannedBytes)
            throw new InvalidOperationException($"counted {measured.CountedBytes} bytes a round, planned {measured.PlannedBytes}");
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
