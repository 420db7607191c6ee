#!/usr/bin/env bash
# Builds and runs the benchmarks; their tables are for docs/speed.md. Arguments: step, precision, collectives, staging, scaling, loft, checkpoint, methods,
# mpi.net (default: all).
# MPIEXEC and MPICC, of one MPI, name another one than Open MPI; mpi.net always runs under MPICH.
set -euo pipefail
cd "$(dirname "$0")/.."
flock -o . dotnet build src/LoftHpc.Benchmarks -c Release --nologo -v quiet
output=src/LoftHpc.Benchmarks/bin/Release/net10.0/linux-x64
first_of() { command -v "$1" || echo "$2"; }
export MPIEXEC=${MPIEXEC:-$(first_of mpiexec.openmpi mpiexec)}
two=() methods=0 mpi_net=0
for name in "${@:-step precision collectives staging scaling loft checkpoint methods mpi.net}"; do
    for word in $name; do
        case $word in
            methods) methods=1 ;;
            mpi.net) mpi_net=1 ;;
            *) two+=("$word") ;;
        esac
    done
done
if ((${#two[@]})); then
    "${MPICC:-$(first_of mpicc.openmpi mpicc)}" -O2 -Wall -shared -fPIC -o "$output/libmpi_reference.so" src/LoftHpc.Benchmarks/mpi_reference.c
    build/launch.sh 2 "$output/lofthpc-benchmarks" "${two[@]}"
fi
((methods == 0)) || build/launch.sh 4 "$output/lofthpc-benchmarks" methods
((mpi_net == 0)) || MPIEXEC=$(first_of mpiexec.mpich mpiexec) build/launch.sh 2 "$output/lofthpc-benchmarks" mpi.net
