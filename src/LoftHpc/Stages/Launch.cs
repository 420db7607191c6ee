using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using LoftHpc.Output;
using LoftHpc.Results;
using LoftHpc.Training;
using TorchSharp;

namespace LoftHpc.Stages;

/// <summary>What a launch asks for, from the command line.</summary>
/// <param name="Config">The config file; null: every key has its default.</param>
public sealed record LaunchOptions(string Command, string? Config, IReadOnlyList<string> Overrides, Verbosity Verbosity);

/// <summary>One launch on one rank: the config, the other ranks, the device, and who prints.</summary>
public class Launch : IDisposable
{
    private readonly TensorTransport _transport;

    /// <summary>Starts a launch on all ranks. Collective.</summary>
    /// <exception cref="UserError">The config, the environment or the libraries are not as they must be; on all ranks.</exception>
    public Launch(MpiRuntime mpi, LaunchOptions options)
    {
        (Mpi, Options) = (mpi, options);
        Config = ReadConfig(mpi.World, options);
        bool native = Config.Run.Mpi is MpiBinding.Native;
        World = native ? mpi.World : mpi.WorldThroughMpiNet();
        if (options.Verbosity is Verbosity.Verbose) TorchContext.AskForWarnings();
        Torch = Agree.OnAllRanks(World, TorchLibrary.Load);
        Agree.OnSame(World, "libtorch", Torch.Version, "use the same libtorch on all hosts");
        Placement = DeviceBinding.Bind(World, Config.Run.Device, Config.Run.Threads);
        Precision precision = Agree.OnAllRanks(World, () => Precisions.Resolve(Config.Run.Precision, Placement.Device));
        Precisions.Use(precision, Placement.Device);
        MemoryFormat format = MemoryFormats.Resolve(Config.Run.MemoryFormat, precision, Placement.Device.type);
        Agree.OnAllRanks(World, () =>
        {
            if (MemoryFormats.ProblemOf(format, precision, Placement.Device.type, Placement.Threads) is string problem) throw new UserError($"run.memory_format: {problem}");
        });
        Reporter = ConsoleReporter.Create(World.Rank, options.Verbosity);

        // MPI.NET's calls take arrays of .NET, not addresses in GPU memory.
        Direct = Config.Run.CudaAwareMpi && mpi.IsCudaAware && native;
        _transport = TensorTransport.For(Placement.Device, Direct);
        CommunicationLedger ledger = new();
        MeteredCommunicator metered = new(World, ledger);
        Context = new RankContext(metered, ledger, new ChannelExchange(metered, _transport), Placement.Device)
        {
            Precision = precision,
            MemoryFormat = format,
        };
    }

    /// <summary>A part of a launch, under a config of its own, which is the same on all ranks; not collective.</summary>
    protected Launch(Launch whole, RunConfig config)
    {
        (Mpi, Options, Config, World, Torch, Placement) = (whole.Mpi, whole.Options, config, whole.World, whole.Torch, whole.Placement);
        (Reporter, Direct, _transport, Context, FirstRank, Depth) = (whole.Reporter, whole.Direct, whole._transport, whole.Context, whole.FirstRank, whole.Depth + 1);
    }

    /// <summary>A launch as some of its ranks see it, that work by themselves; collective on these.</summary>
    /// <param name="ranks">These ranks.</param>
    /// <param name="firstRank">The number that the first of them has among all.</param>
    protected Launch(Launch whole, ICommunicator ranks, int firstRank)
    {
        (Mpi, Options, Config, World, Torch, Direct, _transport, FirstRank) = (whole.Mpi, whole.Options, whole.Config, ranks, whole.Torch, whole.Direct, whole._transport, firstRank);
        Placement = whole.Placement with { Ranks = [.. whole.Placement.Ranks.Skip(firstRank).Take(ranks.Size).Select(rank => rank with { Rank = rank.Rank - firstRank })] };
        Reporter = ConsoleReporter.CreateForGroup(ranks.Rank, Options.Verbosity);
        MeteredCommunicator metered = new(ranks, whole.Context.Ledger);
        Context = whole.Context with
        {
            Communicator = metered,
            Channels = new ChannelExchange(metered, _transport),
            EarlyStop = new EarlyStop(metered, whole.Context.Ledger),
        };
        IsGroup = true;
    }

    public LaunchOptions Options { get; }

    /// <summary>Whether this is a part of another launch: one ticket of several.</summary>
    public bool IsPart => Depth > 0;

    /// <summary>How many launches this is a part of: none of a whole one, one of a ticket, two of one of its iterations.</summary>
    protected int Depth { get; }

    /// <summary>Whether only some of all ranks are in it.</summary>
    protected bool IsGroup { get; }

    /// <summary>The number that its rank 0 has among all ranks.</summary>
    public int FirstRank { get; }

    /// <summary>The same on every rank: rank 0 reads the file.</summary>
    public RunConfig Config { get; }

    /// <summary>All ranks of it, through the binding that the config names, not metered: for agreements and bookkeeping outside training.</summary>
    public ICommunicator World { get; }

    /// <summary>What training computes and communicates with.</summary>
    public RankContext Context { get; }

    /// <summary>Whether MPI takes addresses in GPU memory.</summary>
    public bool Direct { get; }

    public IReporter Reporter { get; }

    public bool IsRoot => World.Rank == 0;

    protected MpiRuntime Mpi { get; }

    protected TorchLibraryInfo Torch { get; }

    protected Placement Placement { get; }

    /// <summary>Runs something on rank 0; if it is the user's mistake, all ranks throw it. Collective.</summary>
    public void OnRoot(Action action) => Agree.OnRoot(World, action);

    /// <summary>Runs something on all ranks, which may itself be collective; if it is one's mistake, all ranks throw it. Collective.</summary>
    public void OnAllRanks(Action action) => Agree.OnAllRanks(World, action);

    /// <summary>Shows which ranks there are, and warns of what they lack.</summary>
    public void ShowRanks()
    {
        if (Torch.Warning is string torch) Reporter.Warning(torch);
        foreach (string warning in Placement.Warnings) Reporter.Warning(warning);
        if (Config.Run.CudaAwareMpi && !Direct)
        {
            string reason = Config.Run.Mpi is MpiBinding.Native ? "this MPI library does not say that it is CUDA-aware" : "MPI.NET does not take addresses in GPU memory";
            Reporter.Warning($"run.cuda_aware_mpi: {reason}; tensors go through host memory");
        }
        if (Context.Precision is Precision.Bfloat16 && Placement.Device.type is DeviceType.CPU && !Placement.AllHaveBfloat16)
            Reporter.Warning("run.precision: bfloat16 is slower than float32 here, 8 to 10 times where it was measured: not all ranks' processors have instructions for it (avx512_bf16, amx_bf16)");
        Reporter.Table(ResultTables.Ranks(Placement.Ranks, Context.Precision, Context.MemoryFormat));
    }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected virtual void Dispose(bool disposing)
    {
        if (disposing && !IsPart && !IsGroup) _transport.Dispose();
    }

    /// <summary>Rank 0 checks the file, which is the same on all ranks; the others get what it resolved to.</summary>
    private static RunConfig ReadConfig(ICommunicator world, LaunchOptions options)
    {
        (string text, string yaml, string name) = ("", "", options.Config ?? "");
        if (options.Config is string path)
        {
            int isFile = 0;
            Agree.OnRoot(world, () => (isFile, text) = (RegularFile.WhatElse(path) is null ? 1 : 0, RunConfigLoader.ReadText(path)));
            world.Broadcast(new Span<int>(ref isFile), 0);
            // A pipe is read once, by one: then there is only what rank 0 has read.
            if (isFile == 1)
            {
                Agree.OnAllRanks(world, () => text = world.Rank == 0 ? text : RunConfigLoader.ReadText(path));
                Agree.OnSame(world, PlainText.Of(path), text, "give all hosts the same file");
            }
        }
        Agree.OnRoot(world, () => yaml = RunConfigLoader.ToYaml(RunConfigLoader.Parse(text, name, options.Overrides)));
        return RunConfigLoader.Parse(world.Broadcast(yaml, 0), name);
    }
}
