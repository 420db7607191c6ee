using LoftHpc.Configuration;
using LoftHpc.Data;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.SelfTest;

/// <summary>
/// Batches cut out on the device, and prepared ahead on the host, against those that the host makes when they are asked for: every
/// bit of the images, and the labels. All are asked for before the first is looked at, as in training, where nothing waits for the device.
/// </summary>
internal static class ImageChecks
{
    private const int Batch = 64, Epochs = 3;

    public static void All(Device device, Findings findings)
    {
        // The last batch of an epoch is odd, and there are more than are prepared ahead and under way at a time.
        DataSection section = new() { Set = DataSetName.Synthetic, TrainImages = (6 * Batch) + 5, TestImages = 1 };
        ImageSet set = ImageDataLoader.Load(section, MethodChecks.Seed).Train;
        BatchLoader host = new(set, section, MethodChecks.Seed), cut = new(set, section, MethodChecks.Seed) { CutsOutOnDevice = true };
        using BatchLoader ahead = new(set, section, MethodChecks.Seed) { PreparesAhead = true };
        foreach (ScalarType type in (ScalarType[])[float32, float64])
        {
            using DisposeScope scope = NewDisposeScope();
            BatchRequest[] requests =
            [
                .. from epoch in Enumerable.Range(0, Epochs)
                   let order = host.EpochOrder(epoch)
                   from part in Batches.Of(0, order.Length, Batch)
                   select new BatchRequest(order[part.Start..(part.Start + part.Count)], epoch, Augment: true),
            ];
            foreach ((string what, BatchLoader loader) in new[] { ("cut out on the device", cut), ("prepared ahead", ahead) })
            {
                Batch[] batches = [.. requests.Select((request, i) => loader.Load(request.Samples, request.Epoch, request.Augment, device, type, requests[(i + 1)..]))];
                for (int i = 0; i < requests.Length; i++)
                {
                    using DisposeScope one = NewDisposeScope();
                    Batch expected = host.Load(requests[i].Samples, requests[i].Epoch, requests[i].Augment, CPU, type);
                    findings.True(
                        expected.Images.bytes.SequenceEqual(batches[i].Images.cpu().bytes) && expected.Labels.bytes.SequenceEqual(batches[i].Labels.cpu().bytes),
                        $"batch {i + 1}, {what}, {type}: other bits than the host's");
                }
            }
        }
    }
}
