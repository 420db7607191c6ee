using LoftHpc.Communication;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Tickets;

/// <summary>
/// First-order Taylor expansion of the loss (Molchanov et al. 2019, with a gate after the batch norm): what the loss of a batch would
/// change by, to first order, if the filter's channel were zero after the norm is gamma dL/dgamma + beta dL/dbeta. The score is the
/// mean of its square over batches, each weighted by its images. The norm goes by its running statistics: by those of a batch the loss
/// would not change with the size of a filter.
/// </summary>
public sealed class TaylorCriterion : IFilterCriterion
{
    private readonly Dictionary<string, double[]> _scores;

    private TaylorCriterion(Dictionary<string, double[]> scores) => _scores = scores;

    public bool ComparesLayers => true;

    /// <summary>
    /// Measures the scores on some training images, drawn by seed and not augmented. Ranks take batches in turn, whole ones, and add up
    /// in the order of the batches, so that the bits are the same at every rank count. Collective.
    /// </summary>
    /// <param name="state">The whole dense network, with gradients, on every rank.</param>
    /// <param name="images">How many; of a smaller set all.</param>
    /// <exception cref="UserError">A score is not finite; on all ranks.</exception>
    public static TaylorCriterion Measure(
        RankContext context, NetworkSpec network, ModelState state, IEnumerable<BlockSpec> blocks, BatchLoader data, int images, int batch, long seed)
    {
        BlockSpec[] layers = [.. blocks];
        int[] chosen = RandomStream.For(seed, "extract/taylor").Permutation(data.Count)[..Math.Min(images, data.Count)];
        (int Start, int Count)[] batches = [.. Batches.Of(0, chosen.Length, batch)];
        ResidualNetwork forward = new(network, state, new SerialExchange(), context.Layout);
        int filters = layers.Sum(block => block.Inner.Count);
        double[] sums = new double[filters], taken = new double[filters * context.Size];
        using IDisposable purpose = context.Ledger.For(CommunicationPurpose.Evaluation);
        for (int first = 0; first < batches.Length; first += context.Size)
        {
            Array.Clear(taken);
            if (first + context.Rank < batches.Length)
            {
                (int start, int count) = batches[first + context.Rank];
                GatesOf(context, network, forward, layers, data, chosen.AsSpan(start, count)).CopyTo(taken.AsSpan(filters * context.Rank));
            }
            context.Communicator.Allreduce(taken.AsSpan(), MpiOperation.Sum);
            for (int rank = 0; rank < context.Size && first + rank < batches.Length; rank++)
            {
                for (int filter = 0; filter < filters; filter++)
                {
                    double gate = taken[(rank * filters) + filter];
                    sums[filter] += batches[first + rank].Count * gate * gate;
                }
            }
        }
        Dictionary<string, double[]> scores = [];
        int at = 0;
        foreach (BlockSpec block in layers)
        {
            double[] own = [.. sums[at..(at += block.Inner.Count)].Select(sum => sum / chosen.Length)];
            int odd = Array.FindIndex(own, score => !double.IsFinite(score));
            if (odd >= 0)
                throw new UserError($"extract: the taylor score of filter {odd} of layer {block.Conv1.Name} is not finite: gradients of these weights leave the range of the type", ExitCodes.NonFiniteLoss);
            scores.Add(block.Conv1.Name, own);
        }
        return new TaylorCriterion(scores);
    }

    public double[] Scores(NetworkSpec network, BlockSpec block, Func<string, Tensor> read) => _scores[block.Conv1.Name];

    /// <summary>gamma dL/dgamma + beta dL/dbeta of every channel of the layers' norms, of the mean loss of some images.</summary>
    private static double[] GatesOf(RankContext context, NetworkSpec network, ResidualNetwork forward, BlockSpec[] layers, BatchLoader data, ReadOnlySpan<int> samples)
    {
        using DisposeScope scope = NewDisposeScope();
        ModelState state = forward.State;
        state.ZeroGradients();
        Batch loaded = data.Load(samples, epoch: 0, augment: false, context.Device, context.Type);
        nn.functional.cross_entropy(forward.Forward(loaded.Images, training: false), loaded.Labels).backward();
        Tensor OfParameter(string name) => state[name].detach().to(float64) * state.Gradient(name).to(float64);
        Tensor gates = cat([.. layers.Select(network.InnerNorm).Select(norm => OfParameter($"{norm.Name}.weight") + OfParameter($"{norm.Name}.bias"))]);
        return [.. gates.cpu().data<double>()];
    }
}
