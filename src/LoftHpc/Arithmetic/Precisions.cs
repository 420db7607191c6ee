using LoftHpc.Configuration;
using TorchSharp;
using static TorchSharp.torch;

namespace LoftHpc.Arithmetic;

/// <summary>What run.precision means on a device.</summary>
public static class Precisions
{
    /// <summary>What is computed in where the config does not say it.</summary>
    /// <exception cref="UserError">The device does not compute in it.</exception>
    public static Precision Resolve(Precision? asked, Device device)
    {
        bool onGpu = device.type is DeviceType.CUDA;
        if (asked is Precision.Tf32 && !onGpu)
            throw new UserError("run.precision: tf32 is a format of GPUs, and this run is on the CPU (run.device); allowed here: float32, bfloat16, or auto");
        return asked ?? (onGpu ? Precision.Tf32 : Precision.Float32);
    }

    /// <summary>
    /// Has libtorch use TF32, or not, in cuDNN and in cuBLAS. Left to itself it does in cuDNN only. In bfloat16 what stays
    /// float32 is float32.
    /// </summary>
    public static void Use(Precision precision, Device device)
    {
        if (device.type is DeviceType.CUDA) AllowTf32(precision is Precision.Tf32);
    }

    /// <summary>Type of weights and statistics where activations are of a type.</summary>
    public static ScalarType TypeHeld(ScalarType computeType) => computeType is ScalarType.BFloat16 ? ScalarType.Float32 : computeType;

    /// <summary>Whether a product of float32 on a GPU may be one of factors cut to TF32.</summary>
    public static bool Tf32Allowed => backends.cudnn.allow_tf32 || backends.cuda.matmul.allow_tf32;

    /// <summary>Allows it, or not, in convolutions and in matrix products.</summary>
    public static void AllowTf32(bool allow) => backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = allow;
}
