using LoftHpc.Configuration;

namespace LoftHpc.Networks;

/// <summary>The networks that a config can name.</summary>
public static class NetworkCatalog
{
    /// <summary>
    /// Builds the description of a network: pre-activation ResNet (He et al. 2016b), ResNet (He et al. 2016a) or wide
    /// ResNet (Zagoruyko and Komodakis 2016), for <paramref name="imageChannels"/> x H x W images.
    /// </summary>
    /// <exception cref="UserError">It is not allowed (<see cref="RunConfigRules.ProblemOf"/>).</exception>
    public static NetworkSpec Create(NetworkSection network, int imageChannels, int classes)
    {
        bool preActivation = network.Family is not NetworkFamily.Resnet;
        // Whoever asks: a network of any size is described only if it is one of those that a config may name.
        if (RunConfigRules.ProblemOf(network) is string problem) throw new UserError(problem);
        IReadOnlyList<NetworkStage> stages = NetworkStages.Of(network);
        bool imagenet = network.Form is NetworkForm.Imagenet;

        // A stage whose first block changes nothing (stride 1, same width) writes to the stem's own stream.
        var stream = new ChannelSpace("stem", network.Width);
        ConvSpec stem = imagenet
            ? new ConvSpec("conv1", null, stream, imageChannels, 7, 2, 3)
            : new ConvSpec("conv1", null, stream, imageChannels, 3, 1, 1);

        List<BlockSpec> specs = [];
        for (int stage = 1; stage <= stages.Count; stage++)
        {
            int stageWidth = (int)stages[stage - 1].Width;
            for (int index = 0; index < stages[stage - 1].Blocks; index++)
            {
                string name = $"layer{stage}.{index}";
                int stride = index == 0 && stage > 1 ? 2 : 1;
                ChannelSpace input = stream;
                ConvSpec? shortcut = null;
                if (stride != 1 || input.Count != stageWidth)
                {
                    stream = new ChannelSpace($"layer{stage}", stageWidth);
                    shortcut = new ConvSpec($"{name}.shortcut.0", input, stream, input.Count, 1, stride, 0);
                }
                var inner = new ChannelSpace($"{name}.conv1", stageWidth);
                specs.Add(new BlockSpec(
                    name, stage, index,
                    new ConvSpec($"{name}.conv1", input, inner, input.Count, 3, stride, 1),
                    new NormSpec($"{name}.bn1", preActivation ? input : inner),
                    new ConvSpec($"{name}.conv2", inner, stream, stageWidth, 3, 1, 1),
                    new NormSpec($"{name}.bn2", preActivation ? inner : stream),
                    shortcut,
                    shortcut is null || preActivation ? null : new NormSpec($"{name}.shortcut.1", stream)));
            }
        }
        return new NetworkSpec(
            preActivation, imageChannels, classes, stem, preActivation ? null : new NormSpec("bn1", stem.Out), imagenet,
            specs, preActivation ? new NormSpec("bn", stream) : null);
    }
}
