using System.Globalization;
using LoftHpc.Configuration;
using LoftHpc.Data;
using LoftHpc.Mpi;
using LoftHpc.Networks;
using LoftHpc.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Benchmarks;

/// <summary>A step of one rank, batch loading included, against a bare TorchSharp loop that is given the same images.</summary>
internal static class StepBenchmark
{
    private const int Width = 32, Batch = 32, WarmUps = 10, Counted = 21;

    public static IEnumerable<BenchmarkRow> Run(AlternatingTimer timer)
    {
        using BenchmarkTraining? training = timer.World.Rank == 0
            ? new BenchmarkTraining(new SelfCommunicator(), Width, WarmUps + Counted, new PretrainSection { Batch = Batch })
            : null;
        using BareLoop? bare = training is null ? null : new BareLoop(training, Width, Batch);
        Sample[] seconds = timer.Alternate(
            new Rounds(WarmUps, Counted),
            training is null ? null : training.Steps,
            bare is null ? null : bare.Steps);

        double difference = training is null ? 0 : Math.Abs(training.Loss - bare!.Loss) / bare.Loss;
        // Two right programs drift apart by rounding, and some steps later a little more.
        if (difference > 1e-3) throw new InvalidOperationException($"the losses differ by {difference}");
        yield return BenchmarkRow.AtMost(
            1.03, "one rank / bare TorchSharp loop", $"step of PreActResNet-18, width {Width}, batch {Batch}", seconds[0], seconds[1],
            string.Create(CultureInfo.InvariantCulture, $"loss of {WarmUps + Counted} steps differs by {difference:0e-0}"));
    }

    /// <summary>A step in bfloat16 against one in float32, on one rank; on a processor with instructions for it, it must be faster.</summary>
    public static IEnumerable<BenchmarkRow> Precisions(AlternatingTimer timer)
    {
        const int width = 64;
        BenchmarkTraining? In(Precision precision) => timer.World.Rank == 0
            ? new BenchmarkTraining(new SelfCommunicator(), width, WarmUps + Counted, new PretrainSection { Method = PretrainMethod.Dense, Batch = Batch }, precision)
            : null;
        using BenchmarkTraining? half = In(Precision.Bfloat16), full = In(Precision.Float32);
        Sample[] seconds = timer.Alternate(new Rounds(2, 9), half is null ? null : half.Steps, full is null ? null : full.Steps);
        yield return BenchmarkRow.AtMost(
            Processor.HasBfloat16 ? 1 : 20, "bfloat16 / float32", $"step of PreActResNet-18, width {width}, batch {Batch}, one rank", seconds[0], seconds[1],
            Processor.HasBfloat16 ? "" : "no instructions for bfloat16 here");
    }

    /// <summary>What a user of TorchSharp would write; the batches are made before.</summary>
    internal sealed class BareLoop : IDisposable
    {
        private readonly BareNetwork _model;
        private readonly optim.Optimizer _optimizer;
        private readonly Batch[] _batches;
        private double _lossSum;
        private int _steps;

        public BareLoop(BenchmarkTraining like, int width, int batch)
        {
            _model = new BareNetwork(width);
            _model.CopyFrom(((FilterParallelTraining)like.Method).State);
            _optimizer = optim.SGD(
                _model.parameters(), like.Optimizer.LearningRate, like.Optimizer.Momentum, weight_decay: like.Optimizer.WeightDecay);
            EpochBatches batches = new(like.Images, batch);
            _batches = [.. Enumerable.Range(0, batches.StepsPerEpoch).Select(step => batches.Load(0, step, Shard.Whole, like.Context))];
        }

        public double Loss => _lossSum / _steps;

        public void Steps(int count)
        {
            for (int i = 0; i < count; i++) Step();
        }

        private void Step()
        {
            using DisposeScope scope = NewDisposeScope();
            Batch batch = _batches[_steps++];
            _optimizer.zero_grad();
            Tensor loss = nn.functional.cross_entropy(_model.forward(batch.Images), batch.Labels);
            loss.backward();
            _optimizer.step();
            _lossSum += loss.item<float>();
        }

        public void Dispose()
        {
            foreach (Batch batch in _batches) batch.Dispose();
            _optimizer.Dispose();
            _model.Dispose();
        }
    }
}
