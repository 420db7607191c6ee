using LoftHpc.Communication;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Results;
using LoftHpc.Tickets;
using LoftHpc.Training;
using static TorchSharp.torch;

namespace LoftHpc.Stages;

/// <summary>A network from a weights file, whole on every rank.</summary>
/// <param name="Step">Optimizer steps that its weights have behind them.</param>
public sealed record LoadedNetwork(WeightsIdentity Identity, NetworkSpec Network, ModelState State, long Step) : IDisposable
{
    /// <summary>
    /// Rank 0 reads the file and sends it to the others, tensor by tensor: on other hosts a file that was renamed a moment
    /// ago may not be there yet. Collective.
    /// </summary>
    /// <exception cref="UserError">Rank 0 cannot read it, the network or images are not the config's, or a number is not finite; on all ranks.</exception>
    /// <param name="trained">Whether it is to be trained on.</param>
    /// <param name="ticket">On rank 0: of the file's dense network only what this ticket keeps is taken; null: all is.</param>
    public static LoadedNetwork Read(Session session, string path, bool trained = false, Ticket? ticket = null)
    {
        RankContext context = session.Context;
        using IDisposable purpose = context.Ledger.For(CommunicationPurpose.Save);
        SafetensorsFile? file = null;
        (string identityText, long step) = ("", 0);
        session.OnRoot(() =>
        {
            file = SafetensorsFile.Open(path);
            WeightsIdentity found = WeightsIdentity.Of(file, path);
            found.MustFit(session.Config, session.Data, path);
            WeightsIdentity.MustBeFinite(file, path);
            if (ticket is not null) found = found with { InnerCounts = ticket.InnerCounts };
            (identityText, step) = (found.ToJson(), WeightsIdentity.StepOf(file, path));
        });
        using (file)
        {
            WeightsIdentity identity = WeightsIdentity.Parse(session.World.Broadcast(identityText, 0));
            session.World.Broadcast(new Span<long>(ref step), 0);
            NetworkSpec network = identity.Describe();
            TensorSlice[] whole = [.. network.Tensors.Select(TensorSlice.Whole)];
            Dictionary<string, TensorSlice>? kept = ticket?.Slices.ToDictionary(slice => slice.Name);
            Tensor Receive(TensorSpec tensor)
            {
                Tensor values = file is null ? empty([.. tensor.Shape]) : kept is null ? file.Read(tensor.Name) : kept[tensor.Name].Take(file.Read(tensor.Name));
                values = values.to(float32);
                context.Communicator.Broadcast(MpiBuffer.Of(values), 0);
                return values;
            }
            return new LoadedNetwork(identity, network, ModelState.Load(whole, Receive, context.Type, context.Device, trained: trained), step);
        }
    }

    /// <summary>Loss and hits on a data set, of which each rank takes a shard. Collective.</summary>
    public StepTotals Evaluate(Session session, BatchLoader images)
    {
        using IDisposable purpose = session.Context.Ledger.For(CommunicationPurpose.Evaluation);
        var network = new ResidualNetwork(Network, State, new SerialExchange(), session.Context.Layout);
        return Evaluation.Of(network, images, session.Config.Evaluate.Batch, session.Context, session.Context.Shard)
            .SumOverRanks(session.Context);
    }

    public void Dispose() => State.Dispose();
}
