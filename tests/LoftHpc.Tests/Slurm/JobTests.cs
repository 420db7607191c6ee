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

    /// <summary>scancel, once a job's run has trained for some epochs.</summary>
    protected void Send(IEnumerable<string> options, string job, string run)
    {
        string metrics = Path.Combine(Folder, "results", run, "metrics.csv");
        DateTime end = DateTime.UtcNow.AddSeconds(120);
        while (!File.Exists(metrics) || File.ReadAllLines(metrics).Length <= 3)
        {
            if (DateTime.UtcNow > end || cluster.Field(job, "JobState") is not ("PENDING" or "CONFIGURING" or "RUNNING"))
                Assert.Fail($"job {job} does not train: {Wait(job, timeoutSeconds: 0).Log}");
            Thread.Sleep(50);
        }
        cluster.Run("scancel", [.. options, job]);
    }
}

[CollectionDefinition(nameof(SlurmCluster))]
public sealed class SlurmCollection : ICollectionFixture<SlurmCluster>;
