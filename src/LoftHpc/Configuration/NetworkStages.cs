namespace LoftHpc.Configuration;

/// <summary>One stage of a network: its blocks, and the filters of each of their convolutions.</summary>
public readonly record struct NetworkStage(int Blocks, long Width);

/// <summary>What a config's network is made of, counted without building it.</summary>
public static class NetworkStages
{
    /// <summary>The stages in the order of the forward pass; empty: the depth is not one of the family's.</summary>
    public static IReadOnlyList<NetworkStage> Of(NetworkSection network)
    {
        bool wide = network.Family is NetworkFamily.WideResnet;
        int[] blocks = network.Depth switch
        {
            _ when wide => network.Depth < 10 || (network.Depth - 4) % 6 != 0 ? [] : [.. Enumerable.Repeat((network.Depth - 4) / 6, 3)],
            18 => [2, 2, 2, 2],
            34 => [3, 4, 6, 3],
            _ => [],
        };
        long first = (long)network.Width * (wide ? network.WidenFactor : 1);
        return [.. blocks.Select((count, stage) => new NetworkStage(count, first << stage))];
    }

    /// <summary>Weights of the largest 3x3 convolution, and of all of them and the shortcuts.</summary>
    public static (long Largest, long All) ConvolutionWeights(NetworkSection network)
    {
        const int kernel = 3 * 3;
        long largest = 0, all = 0, input = network.Width;
        foreach ((int blocks, long width) in Of(network))
        {
            long convolution = kernel * width * width;
            largest = Math.Max(largest, Math.Max(convolution, kernel * input * width));
            // Of the first block the first convolution and the shortcut see another stage's channels.
            all += (kernel + 1) * input * width + (((2L * blocks) - 1) * convolution);
            input = width;
        }
        return (largest, all);
    }

    /// <summary>Convolutions, the stem's and the shortcuts' among them (of a first stage that needs no shortcut one too many).</summary>
    public static int Convolutions(NetworkSection network) => 1 + Of(network).Sum(stage => (2 * stage.Blocks) + 1);
}
