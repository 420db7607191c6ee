using LoftHpc.Tests.Mpi;
using Xunit;

namespace LoftHpc.Tests.Slurm;

/// <summary>Jobs of the scripts of slurm/ on one cluster for all tests.</summary>
[Collection(nameof(SlurmCluster))]
public abstract class JobTests(SlurmCluster cluster) : IDisposable
{
    protected SlurmCluster Cluster => cluster;

    /// <summary>Where jobs are submitted.</summary>
    protected string Folder { get; } = Directory.CreateTempSubdirectory("lofthpc job-").FullName;

    public void Dispose()
    {
        Directory.Delete(Folder, recursive: true);
        GC.SuppressFinalize(this);
    }

    protected void Write(string file, string text, params (string Old, string New)[] changes)
    {
        string path = Path.Combine(Folder, file);
        File.WriteAllText(path, changes.Aggregate(text, (now, change) => now.Replace(change.Old, change.New, StringComparison.Ordinal)));
    }

    /// <summary>A program in the place of lofthpc.</summary>
    /// <returns>Its path.</returns>
    protected string Stub(string bash)
    {
        string path = Path.Combine(Folder, "stub");
        File.WriteAllText(path, $"#!/bin/bash\n{bash}\n");
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        return path;
    }

    protected void NeedMpi(params string[] families)
    {
        Skip.If(cluster.Unavailable is not null, cluster.Unavailable);
        foreach (string mpi in families) Skip.IfNot(Repository.HasProgram($"mpiexec.{mpi}"), $"{mpi} is not installed");
    }

    protected static Dictionary<string, string?> Variables(string mpi, params (string Name, string? Value)[] more)
    {
        Dictionary<string, string?> all = new() { ["LOFTHPC_MPI"] = mpi, ["LOFTHPC_PROGRAM"] = MpiLauncher.LoftHpc };
        foreach ((string name, string? value) in more) all[name] = value;
        return all;
    }

    protected string Submit(
        string mpi, IEnumerable<string> options, IEnumerable<string> arguments, string script = "run.sbatch", params (string Name, string? Value)[] variables)
    {
        NeedMpi(mpi);
        return cluster.Submit(Folder, script, options, arguments, Variables(mpi, variables));
    }

    /// <summary>Submits a chain.</summary>
    /// <returns>Its jobs, the pre-training first.</returns>
    protected string[] Chain(string mpi, IEnumerable<string> options, params string[] arguments)
    {
        NeedMpi(mpi);
        string said = cluster.Run(Repository.File("slurm", "chain.sh"), [.. options, .. arguments], Folder, Variables(mpi));
        // "job 8: ...", "jobs 9, 10: ..."
        return [.. said.Split('\n').SelectMany(line => line.Split(':')[0].Split(' ', ',').Where(word => int.TryParse(word, out _)))];
    }

    protected JobEnd Wait(string job, int timeoutSeconds = 240)
    {
        JobEnd end = cluster.Wait(Folder, job, timeoutSeconds);
        // Slurm has a plug-in of this name, but it finds no library.
        foreach (string protocol in (string[])["pmix", "pmi2"])
            Skip.If(end.Log.Contains($"Invalid MPI type '{protocol}'", StringComparison.Ordinal), $"this Slurm cannot start ranks by {protocol}");
        return end;
    }

    protected JobEnd Run(string mpi, IEnumerable<string> options, IEnumerable<string> arguments, params (string Name, string? Value)[] variables) =>
        Wait(Submit(mpi, options, arguments, variables: variables));

    /// <summary>scancel, once a job's run has trained for some more epochs.</summary>
    protected void Send(IEnumerable<string> options, string job, string run, int epochs = 3)
    {
        WaitForEpochs(job, run, epochs);
        cluster.Run("scancel", [.. options, job]);
    }

    /// <summary>Until a job's run has trained for some epochs more than now.</summary>
    protected void WaitForEpochs(string job, string run, int epochs)
    {
        string metrics = Path.Combine(Folder, "results", run, "metrics.csv");
        int Rows() => File.Exists(metrics) ? File.ReadLines(metrics).Count() : 0;
        int before = Rows();
        WaitUntil(job, () => Rows() >= before + epochs);
    }

    protected void WaitForLog(string job, string text)
    {
        string log = Path.Combine(Folder, $"lofthpc-{job}.log");
        WaitUntil(job, () => File.Exists(log) && File.ReadAllText(log).Contains(text, StringComparison.Ordinal));
    }

    protected void WaitUntil(string job, Func<bool> isSo)
    {
        DateTime end = DateTime.UtcNow.AddSeconds(240);
        while (!isSo())
        {
            if (DateTime.UtcNow > end || SlurmCluster.IsEnd(cluster.Field(job, "JobState")))
                Assert.Fail($"job {job} has not come so far: {Wait(job, timeoutSeconds: 0).Log}");
            Thread.Sleep(50);
        }
    }
}

[CollectionDefinition(nameof(SlurmCluster))]
public sealed class SlurmCollection : ICollectionFixture<SlurmCluster>;
