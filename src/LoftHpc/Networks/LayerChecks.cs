using System.Runtime.InteropServices;
using LoftHpc.Arithmetic;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace LoftHpc.Networks;

/// <summary>
/// Batch norm, head and loss as a rank computes them, against float64 in plain loops. What is allowed follows from how many
/// roundings a result has behind it (<see cref="Rounding"/>), carried on from step to step.
/// </summary>
public static class LayerChecks
{
    /// <summary>Both modes of batch norm: output, gradients and running statistics in training, and the output in evaluation.</summary>
    /// <param name="layout">Of the input, the output and their gradients: with bfloat16 parameters and statistics are float32.</param>
    /// <param name="exchange">Whose batch norm it is; alone, without other ranks.</param>
    /// <returns>What is wrong; null where all is right.</returns>
    public static ArithmeticFault? Norm(NormShape shape, ActivationLayout layout, Device device, INetworkExchange exchange)
    {
        ScalarType type = layout.Type;
        const int images = 2;
        (int channels, int pixels) = (shape.Channels, shape.Side * shape.Side);
        int count = images * pixels;
        using DisposeScope scope = NewDisposeScope();
        using Generator generator = new(2, CPU);
        using NanMemory nan = NanMemory.Begin(device);
        Tensor Draw(double low, double high, params long[] size) => rand(size, float32, generator: generator).mul_(high - low).add_(low).to(Precisions.TypeHeld(type), device);

        Tensor Activation() => MemoryFormats.To(Draw(-1, 1, images, channels, shape.Side, shape.Side).to(type), layout.Format);
        Tensor x = Activation().requires_grad_(true), coming = Activation();
        NormTensors norm = new(
            Draw(0.5, 1.5, channels).requires_grad_(true), Draw(-1, 1, channels).requires_grad_(true), Draw(-1, 1, channels), Draw(0.5, 1.5, channels));
        double[] input = Exact(x), gradient = Exact(coming), weight = Exact(norm.Weight), bias = Exact(norm.Bias), meanBefore = Exact(norm.RunningMean), varianceBefore = Exact(norm.RunningVariance);
        Tensor evaluated, trained;
        using (no_grad()) evaluated = exchange.BatchNorm(x, norm, training: false);
        using (enable_grad())
        {
            // A backward pass may use the output's memory again.
            Tensor output = exchange.BatchNorm(x, norm, training: true);
            trained = output.detach().clone();
            exchange.Backward((output * coming).sum());
        }

        double[] expectedEvaluated = new double[input.Length], expectedTrained = new double[input.Length], expectedInput = new double[input.Length];
        double[] expectedWeight = new double[channels], expectedBias = new double[channels], expectedMean = new double[channels], expectedVariance = new double[channels];
        Rounding rounding = Rounding.Of(type);
        double u = rounding.Sum(1), n = rounding.Sum(count + 2);
        // What rounding allows each channel.
        double[] ofEvaluated = new double[channels], ofTrained = new double[channels], ofInput = new double[channels], ofWeight = new double[channels];
        double[] ofBias = new double[channels], ofMean = new double[channels], ofVariance = new double[channels];
        for (int c = 0; c < channels; c++)
        {
            IEnumerable<int> places = from image in Enumerable.Range(0, images) from pixel in Enumerable.Range(0, pixels) select (((image * channels) + c) * pixels) + pixel;
            int[] at = [.. places];
            double mean = at.Sum(i => input[i]) / count, variance = at.Sum(i => (input[i] - mean) * (input[i] - mean)) / count;
            double inverse = 1 / Math.Sqrt(variance + NormTensors.Epsilon), weightSum = 0, biasSum = 0, weightSize = 0, biasSize = 0, largest = 0;
            foreach (int i in at)
            {
                double normalized = (input[i] - mean) * inverse;
                expectedTrained[i] = (weight[c] * normalized) + bias[c];
                weightSum += gradient[i] * normalized;
                biasSum += gradient[i];
                weightSize += Math.Abs(gradient[i] * normalized);
                biasSize += Math.Abs(gradient[i]);
                largest = Math.Max(largest, Math.Abs(normalized));
            }
            double evaluation = 1 / Math.Sqrt(varianceBefore[c] + NormTensors.Epsilon);
            foreach (int i in at)
            {
                double normalized = (input[i] - mean) * inverse;
                expectedInput[i] = weight[c] * inverse * (gradient[i] - (biasSum / count) - (normalized * weightSum / count));
                expectedEvaluated[i] = (weight[c] * (input[i] - meanBefore[c]) * evaluation) + bias[c];
            }
            (expectedWeight[c], expectedBias[c]) = (weightSum, biasSum);
            expectedMean[c] = ((1 - NormTensors.Momentum) * meanBefore[c]) + (NormTensors.Momentum * mean);
            expectedVariance[c] = ((1 - NormTensors.Momentum) * varianceBefore[c]) + (NormTensors.Momentum * variance * count / (count - 1));

            // Inputs are at most 1, so the mean is off by n, and the variance, as a difference of squares, by 3 n.
            double relative = (3 * n / (variance + NormTensors.Epsilon)) + (4 * u), off = (inverse * (n + (2 * u))) + (largest * relative);
            ofWeight[c] = (n * weightSize) + (biasSize * off);
            ofBias[c] = n * biasSize;
            double sums = ((ofBias[c] + (largest * ofWeight[c]) + (Math.Abs(weightSum) * off)) / count) + (8 * u * (1 + (biasSize / count) + (largest * weightSize / count)));
            ofTrained[c] = (weight[c] * off) + (4 * u * ((weight[c] * largest) + 1));
            ofEvaluated[c] = 8 * u * ((weight[c] * evaluation * 2) + 1);
            ofInput[c] = weight[c] * inverse * (sums + (2 * relative * (1 + (biasSize / count) + (largest * weightSize / count))));
            ofMean[c] = (n + (4 * u)) * 2;
            ofVariance[c] = (3 * n) + (8 * u * 2);
        }
        Tensor OfChannels(double[] values) => tensor(values).view(1, channels, 1, 1);
        (string, Tensor, Tensor, Tensor) Activations(string what, Tensor found, double[] expected, double[] allowed) =>
            (what, found, Like(x, expected), rounding.Stored(OfChannels(allowed), Like(x, expected)));
        return ArithmeticFault.FirstOf(
            Activations("output in evaluation", evaluated, expectedEvaluated, ofEvaluated), Activations("output in training", trained, expectedTrained, ofTrained),
            ("running mean", norm.RunningMean, tensor(expectedMean), tensor(ofMean)), ("running variance", norm.RunningVariance, tensor(expectedVariance), tensor(ofVariance)),
            ("weight gradient", norm.Weight.grad!, tensor(expectedWeight), tensor(ofWeight)), ("bias gradient", norm.Bias.grad!, tensor(expectedBias), tensor(ofBias)),
            Activations("input gradient", x.grad!, expectedInput, ofInput));
    }

    /// <summary>Average over the pixels, product with the head's weights, bias, and cross-entropy as a mean and as a sum; with their gradients.</summary>
    /// <returns>What is wrong; null where all is right.</returns>
    public static ArithmeticFault? HeadAndLoss(HeadShape shape, ActivationLayout layout, Device device)
    {
        ScalarType type = layout.Type;
        const int images = 4;
        (int features, int classes, int pixels) = (shape.Features, shape.Classes, shape.Side * shape.Side);
        using DisposeScope scope = NewDisposeScope();
        using Generator generator = new(3, CPU);
        using NanMemory nan = NanMemory.Begin(device);
        Tensor Draw(params long[] size) => rand(size, float32, generator: generator).mul_(2).sub_(1).to(Precisions.TypeHeld(type), device);

        Tensor x = MemoryFormats.To(Draw(images, features, shape.Side, shape.Side).to(type), layout.Format).requires_grad_(true), weight = Draw(classes, features).requires_grad_(true), bias = Draw(classes).requires_grad_(true);
        Tensor labels = arange(images, int64).remainder(classes).to(device);
        (Tensor Logits, Tensor Loss, Tensor[] Gradients) Train(Reduction reduction)
        {
            using IDisposable differentiable = enable_grad();
            (weight.grad, bias.grad, x.grad) = (null, null, null);
            Tensor logits = ResidualNetwork.PartialLogits(x, weight) + bias, loss = functional.cross_entropy(logits, labels, reduction: reduction);
            loss.backward();
            return (logits, loss, [weight.grad!, bias.grad!, x.grad!]);
        }
        (Tensor logits, Tensor mean, Tensor[] ofMean) = Train(Reduction.Mean);
        (_, Tensor sum, Tensor[] ofSum) = Train(Reduction.Sum);

        double[] input = Exact(x), weights = Exact(weight), biases = Exact(bias);
        double[] averages = new double[images * features], expectedLogits = new double[images * classes], delta = new double[images * classes];
        double lossSum = 0, range = 0, longest = 0, longestWeights = 0;
        for (int i = 0; i < averages.Length; i++) averages[i] = input.AsSpan(i * pixels, pixels).ToArray().Average();
        for (int image = 0; image < images; image++)
        {
            Span<double> own = averages.AsSpan(image * features, features), row = expectedLogits.AsSpan(image * classes, classes);
            for (int c = 0; c < classes; c++) row[c] = Dot(own, weights.AsSpan(c * features, features)) + biases[c];
            double highest = row.ToArray().Max(), exponentials = row.ToArray().Sum(logit => Math.Exp(logit - highest));
            int label = image % classes;
            lossSum += highest + Math.Log(exponentials) - row[label];
            for (int c = 0; c < classes; c++) delta[(image * classes) + c] = ((Math.Exp(row[c] - highest) / exponentials) - (c == label ? 1 : 0)) / images;
            range = Math.Max(range, highest - row.ToArray().Min());
            longest = Math.Max(longest, Math.Sqrt(Dot(own, own)));
        }
        double[] expectedWeight = new double[weights.Length], expectedBias = new double[classes], expectedInput = new double[input.Length];
        for (int c = 0; c < classes; c++)
        {
            longestWeights = Math.Max(longestWeights, Math.Sqrt(Dot(weights.AsSpan(c * features, features), weights.AsSpan(c * features, features))));
            for (int image = 0; image < images; image++)
            {
                double own = delta[(image * classes) + c];
                expectedBias[c] += own;
                for (int f = 0; f < features; f++) expectedWeight[(c * features) + f] += own * averages[(image * features) + f];
            }
        }
        for (int i = 0; i < averages.Length; i++)
        {
            double own = 0;
            for (int c = 0; c < classes; c++) own += delta[(i / features * classes) + c] * weights[(c * features) + (i % features)];
            expectedInput.AsSpan(i * pixels, pixels).Fill(own / pixels);
        }

        // All factors are at most 1. Averages first, then logits, then the logarithm of the softmax, whose exponentials are
        // off by what their arguments are; then the gradients, each a sum over what comes before it.
        Rounding rounding = Rounding.Of(type), products = Rounding.OfProducts(Precisions.TypeHeld(type), device.type);
        double u = rounding.Sum(1), average = rounding.Sum(pixels + 1);
        double logit = (products.Sum(features + 1) * ((longest * longestWeights) + 1)) + (Math.Sqrt(features) * longestWeights * average);
        double logarithm = (2 * logit) + ((classes + (2 * range) + 10) * u), loss = logarithm + (rounding.Sum(images + 2) * lossSum / images);
        double deltaOff = (logarithm + (5 * u)) / images, perImage = products.Sum(images);
        double weightOff = (images * deltaOff) + average + perImage, inputOff = ((classes * deltaOff) + (products.Sum(classes) * classes / images)) / pixels;
        // The gradients of the sum are those of the mean, times the number of images.
        (string, Tensor, Tensor, Tensor)[] Gradients(string of, Tensor[] found, int scale)
        {
            Tensor ofInput = Like(x, expectedInput);
            (string Of, Tensor Expected, Tensor Allowed)[] head =
            [
                ("weights", tensor(expectedWeight).view(classes, features), tensor(weightOff)), ("bias", tensor(expectedBias), tensor((images * deltaOff) + perImage)),
                ("input", ofInput, rounding.Stored(tensor(inputOff + (3 * u / pixels)), ofInput)),
            ];
            return [.. head.Select((one, i) => ($"gradient of the head's {one.Of} by the {of} loss", found[i], one.Expected * scale, one.Allowed * scale))];
        }
        return ArithmeticFault.FirstOf(
        [
            ("logits", logits, tensor(expectedLogits).view(images, classes), tensor(logit)),
            ("mean loss", mean, tensor(lossSum / images), tensor(loss)), ("summed loss", sum, tensor(lossSum), tensor(images * loss)),
            .. Gradients("mean", ofMean, 1), .. Gradients("summed", ofSum, images),
        ]);
    }

    private static double Dot(ReadOnlySpan<double> a, ReadOnlySpan<double> b)
    {
        double sum = 0;
        for (int i = 0; i < a.Length; i++) sum += a[i] * b[i];
        return sum;
    }

    /// <summary>The values of a tensor in float64.</summary>
    internal static double[] Exact(Tensor values)
    {
        using DisposeScope scope = NewDisposeScope();
        return MemoryMarshal.Cast<byte, double>(values.detach().cpu().to(float64).contiguous().bytes).ToArray();
    }

    private static Tensor Like(Tensor other, double[] values) => tensor(values).view(other.shape);
}
