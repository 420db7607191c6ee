using System.Runtime.InteropServices;

namespace LoftHpc.Mpi;

/// <summary>The two binary interfaces of MPI in use; which one a library has decides what a handle is.</summary>
public enum MpiFamily
{
    OpenMpi,

    /// <summary>MPICH, Intel MPI, MVAPICH, Cray MPICH and others of the MPICH ABI initiative.</summary>
    Mpich,
}

/// <summary>
/// What differs between the families: the predefined handles and a few constants. In Open MPI a handle is the address
/// of an exported global; in the MPICH ABI it is a 32-bit constant. Both travel as <see cref="nint"/>, since a
/// 32-bit argument is the low half of a 64-bit one in the calling conventions of Linux.
/// </summary>
internal sealed record MpiAbi(
    MpiFamily Family, nint World, nint InfoNull, nint ErrorsReturn, nint InPlace, nint StatusIgnore, int AnySource, int SharedMemoryType,
    nint[] Types, nint[] Operations)
{
    /// <summary>The handle of a data type.</summary>
    public nint Handle(MpiDataType type) => Types[(int)type];

    /// <summary>The handle of a reduction.</summary>
    public nint Handle(MpiOperation operation) => Operations[(int)operation];

    /// <summary>The interface of a loaded library.</summary>
    public static MpiAbi Of(nint library)
    {
        if (!NativeLibrary.TryGetExport(library, "ompi_mpi_comm_world", out nint openMpiWorld)) return Mpich;
        nint Global(string name) => NativeLibrary.GetExport(library, "ompi_" + name);
        return new MpiAbi(
            MpiFamily.OpenMpi, openMpiWorld, Global("mpi_info_null"), Global("mpi_errors_return"),
            InPlace: 1, StatusIgnore: 0, AnySource: -1, SharedMemoryType: 0,
            [Global("mpi_uint8_t"), Global("mpi_int32_t"), Global("mpi_int64_t"), Global("mpi_float"), Global("mpi_double"), Global("mpi_int16_t")],
            [Global("mpi_op_sum"), Global("mpi_op_min"), Global("mpi_op_max")]);
    }

    // From mpi.h of MPICH; the MPICH ABI initiative keeps them fixed. Bytes are MPI_UINT8_T, since MPI_BYTE has no sum.
    private static MpiAbi Mpich => new(
        MpiFamily.Mpich, World: 0x44000000, InfoNull: 0x1c000000, ErrorsReturn: 0x54000001,
        InPlace: -1, StatusIgnore: 1, AnySource: -2, SharedMemoryType: 1,
        [0x4c00013b, 0x4c000439, 0x4c00083a, 0x4c00040a, 0x4c00080b, 0x4c000238],
        [0x58000003, 0x58000002, 0x58000001]);
}
