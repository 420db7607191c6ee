using LoftHpc.Arithmetic;
using LoftHpc.Configuration;
using LoftHpc.Mpi;
using static TorchSharp.torch;

namespace LoftHpc.Communication;

/// <summary>Non-blocking sends of tensors; what they read is kept alive until they have completed.</summary>
/// <param name="format">In which order values travel: the same on all ranks.</param>
public sealed class PendingSends(ChannelExchange exchange, MemoryFormat format) : IDisposable
{
    private readonly List<(IMpiRequest Request, Tensor Values)> _pending = [];

    /// <summary>Starts to send [N, C, H, W]. The caller may dispose the tensor, but must not change it before <see cref="Wait"/>.</summary>
    public void Start(Tensor tensor, int destination)
    {
        // Memory of what has arrived by now is given back; asking also lets MPI get on with the others.
        _pending.RemoveAll(send =>
        {
            bool done = send.Request.Test();
            if (done) send.Values.Dispose();
            return done;
        });
        using Tensor detached = tensor.detach();
        Tensor values = MemoryFormats.Rows(detached, format).DetachFromDisposeScope();
        _pending.Add((exchange.StartSend(values, destination), values));
    }

    /// <summary>Waits until all have completed.</summary>
    public void Wait()
    {
        foreach ((IMpiRequest request, Tensor values) in _pending)
        {
            request.Wait();
            values.Dispose();
        }
        _pending.Clear();
    }

    /// <summary>Gives the memory back; waits for nothing, since after a failure nobody may be there to receive.</summary>
    public void Dispose()
    {
        foreach ((_, Tensor values) in _pending) values.Dispose();
        _pending.Clear();
    }
}
