using LoftHpc.Networks;
using LoftHpc.PyTorch;
using LoftHpc.Results;
using LoftHpc.Training;
using static TorchSharp.torch;

namespace LoftHpc.Stages;

/// <summary>Takes a network that was trained in PyTorch for the dense network of a run.</summary>
public static class ImportStage
{
    /// <summary>Writes the dense weights, and the tables of a pre-training in which nothing was trained, into a folder. Collective.</summary>
    /// <param name="weights">A state_dict of the config's network.</param>
    /// <param name="initial">One of before its training; null: there is none.</param>
    public static void Run(Session session, RunFolder folder, string weights, string? initial)
    {
        WeightsIdentity identity = session.Dense;
        session.Context.Ledger.Phase = "pretrain";
        session.OnRoot(() =>
        {
            folder.Metrics.Write([]);
            folder.Resources.Write([]);
            folder.Communication.Write([]);
            folder.Summary.Write([]);
            if (initial is not null) Save(initial, folder.InitialWeights);
            Save(weights, folder.DenseWeights);
        });
        using LoadedNetwork loaded = LoadedNetwork.Read(session, folder.DenseWeights);
        StepTotals tested = loaded.Evaluate(session, session.TestImages);
        tested.MustBeFinite("import", "on the test images", session.World.Rank, found => found with { Text = $"{found.Text}; these are the weights of {weights}" });
        session.SaveResources(folder, TrainingPhase.Pretrain, default, TrainingMemory.Of(loaded.State, session.Context.Channels.BufferBytes), 0, 0);
        session.SaveCommunication(folder);
        session.OnRoot(() => folder.Summary.Append(identity.Summarize(NetworkState.Dense, tested)));

        void Save(string from, string to)
        {
            using PyTorchWeights read = PyTorchWeights.Open(from, identity);
            NetworkSpec network = identity.Describe();
            using ModelState state = ModelState.Load([.. network.Tensors.Select(TensorSlice.Whole)], read.Read, ScalarType.Float32, CPU, trained: false);
            WeightsFile.Save(to, identity, read.Step, network, state);
        }
    }
}
