using LoftHpc.Communication;
using LoftHpc.Data;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Training;

namespace LoftHpc.Stages;

/// <summary>A network read whole from a weights file, on every rank.</summary>
/// <param name="Step">Optimizer steps that its weights have behind them.</param>
public sealed record LoadedNetwork(WeightsIdentity Identity, NetworkSpec Network, ModelState State, long Step) : IDisposable
{
    /// <summary>Reads a file on every rank. Collective.</summary>
    /// <exception cref="UserError">A rank cannot read it; on all ranks.</exception>
    public static LoadedNetwork Read(Session session, string path) => Agree.OnAllRanks(session.World, () =>
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        WeightsIdentity identity = WeightsIdentity.Of(file, path);
        NetworkSpec network = identity.Describe();
        TensorSlice[] whole = [.. network.Tensors.Select(tensor => new TensorSlice(tensor, null, null))];
        return new LoadedNetwork(
            identity, network, ModelState.Load(whole, file.Read, session.Context.Type, session.Context.Device), WeightsIdentity.StepOf(file));
    });

    /// <summary>Loss and hits on a data set, of which each rank takes a shard. Collective.</summary>
    public StepTotals Evaluate(Session session, BatchLoader images)
    {
        using IDisposable purpose = session.Context.Ledger.For(CommunicationPurpose.Evaluation);
        var network = new ResidualNetwork(Network, State, new SerialExchange());
        return Evaluation.Of(network, images, session.Config.Evaluate.Batch, session.Context, session.Context.Shard)
            .SumOverRanks(session.Context.Communicator);
    }

    public void Dispose() => State.Dispose();
}
