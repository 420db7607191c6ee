/* The calls that the benchmarks measure against, in plain C. The caller has started MPI. */
#include <mpi.h>

int allgatherv(const float *send, float *receive, const int *counts, const int *displacements, int calls)
{
    int rank, code = MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (int i = 0; i < calls && code == MPI_SUCCESS; i++)
        code = MPI_Allgatherv(send, counts[rank], MPI_FLOAT, receive, counts, displacements, MPI_FLOAT, MPI_COMM_WORLD);
    return code;
}

int reduce_scatter(const float *send, float *receive, const int *counts, int calls)
{
    int code = MPI_SUCCESS;
    for (int i = 0; i < calls && code == MPI_SUCCESS; i++)
        code = MPI_Reduce_scatter(send, receive, counts, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    return code;
}

/* What the ranks exchange at the end of a LoFT round. */
int round_exchange(
    float *shared, int shared_count, const float *send, const int *send_counts, const int *send_starts,
    float *receive, const int *receive_counts, const int *receive_starts, int calls)
{
    int code = MPI_SUCCESS;
    for (int i = 0; i < calls && code == MPI_SUCCESS; i++) {
        code = MPI_Allreduce(MPI_IN_PLACE, shared, shared_count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        if (code == MPI_SUCCESS)
            code = MPI_Alltoallv(send, send_counts, send_starts, MPI_FLOAT, receive, receive_counts, receive_starts, MPI_FLOAT, MPI_COMM_WORLD);
    }
    return code;
}
