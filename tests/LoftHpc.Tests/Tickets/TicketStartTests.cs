using LoftHpc.Configuration;
using LoftHpc.Networks;
using LoftHpc.Stages;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace LoftHpc.Tests.Tickets;

/// <summary>Starts of retraining that are made and not read; those that are read: <see cref="Commands.TicketRunTests"/>.</summary>
public sealed class TicketStartTests
{
    private static readonly NetworkSpec Network = NetworkCatalog.Create(new NetworkSection { Depth = 18, Width = 8 }, 1, 10)
        .WithInnerCounts(new Dictionary<string, int> { ["layer4.1.conv1"] = 50 });

    [Fact]
    public void Reinitialised_weights_are_initial_ones_of_the_tickets_shape_and_of_another_draw_than_the_runs()
    {
        using ModelState one = Make(1), again = Make(1), other = Make(2), run = ModelState.InitializeWhole(Network, 7, ScalarType.Float32, CPU);
        foreach (TensorSlice slice in one.Slices)
        {
            Assert.Equal(Values(one, slice), Values(again, slice));
            if (slice.Spec.Role is not (TensorRole.ConvWeight or TensorRole.LinearWeight))
            {
                Assert.Equal(slice.Spec.Role is TensorRole.NormWeight or TensorRole.RunningVariance ? 1 : 0, Assert.Single(Values(one, slice).Distinct()));
                continue;
            }
            Assert.All(new[] { other, run }, drawn => Assert.DoesNotContain(Values(one, slice).Zip(Values(drawn, slice)), pair => pair.First == pair.Second));
        }
        // He et al.'s variance, 2 / fan-in: of the ticket's 50 inputs, not of the dense network's 64. 28,800 values: the mean square is within 4 %.
        double variance = Values(one, one.Slices.Single(slice => slice.Name == "layer4.1.conv2.weight")).Average(value => (double)value * value);
        Assert.InRange(variance / (2.0 / (50 * 9)), 0.96, 1.04);

        static ModelState Make(long startSeed)
        {
            ModelState state = Trained();
            long before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
            TicketStart.Reinitialise(state, Network, 7, startSeed);
            Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
            return state;
        }
    }

    [Fact]
    public void Shuffled_weights_are_the_same_in_each_layer_in_another_order()
    {
        using ModelState before = Trained(), one = Make(1), again = Make(1), other = Make(2);
        foreach (TensorSlice slice in before.Slices)
        {
            float[] was = Values(before, slice), now = Values(one, slice);
            Assert.Equal(now, Values(again, slice));
            bool moves = slice.Spec.Role is TensorRole.ConvWeight or TensorRole.LinearWeight;
            Assert.Equal(!moves, was.SequenceEqual(now));
            Assert.Equal(!moves, now.SequenceEqual(Values(other, slice)));
            Assert.Equal(was.Order(), now.Order());
            // All of a tensor, not each filter for itself: of 72 and more values hardly one in eight stays in its row.
            if (slice.Name == "layer1.1.conv1.weight") Assert.InRange(Enumerable.Range(0, 72).Count(i => was.Take(72).Contains(now[i])), 1, 30);
        }

        static ModelState Make(long startSeed)
        {
            ModelState state = Trained();
            long before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
            TicketStart.Shuffle(state, 7, startSeed);
            Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
            return state;
        }
    }

    [Theory]
    [InlineData("1 epoch", true)]
    [InlineData("3 epochs", true)]
    [InlineData("36 steps", true)]
    [InlineData("2 epochs", false)]
    [InlineData("20 steps", true)]
    [InlineData("35 steps", false)]
    public void A_run_rewinds_only_to_a_time_at_which_it_keeps_weights(string time, bool allowed)
    {
        Assert.True(TrainingTime.TryParse(time, out TrainingTime rewind));
        RunConfig config = new() { Pretrain = new() { Snapshots = [1, 3], SnapshotSteps = [20] }, Retrain = new() { Start = RetrainStart.Rewind, Rewind = rewind } };
        UserError? error = Record.Exception(() => TicketStart.CheckTime(config, stepsPerEpoch: 12)) as UserError;
        Assert.Equal(allowed ? null : $"retrain.rewind: {time}, after which no weights are kept; allowed: an epoch of pretrain.snapshots ([1, 3]), its steps (12 an epoch), or steps of pretrain.snapshot_steps ([20])", error?.Message);
        TicketStart.CheckTime(config with { Retrain = config.Retrain with { Start = RetrainStart.Initial } }, 12);
    }

    /// <summary>No value is one of those that are drawn, and none stands twice.</summary>
    private static ModelState Trained()
    {
        ModelState state = ModelState.InitializeWhole(Network, 3, ScalarType.Float32, CPU);
        using IDisposable frozen = no_grad();
        using var scope = NewDisposeScope();
        foreach (TensorSlice slice in state.Slices) state[slice.Name].copy_(arange(slice.Count, float32).view(slice.Shape) + 10);
        return state;
    }

    private static float[] Values(ModelState state, TensorSlice slice)
    {
        using var scope = NewDisposeScope();
        return [.. state[slice.Name].detach().data<float>()];
    }
}
