#!/usr/bin/env bash
# Builds and runs the benchmarks; their tables are for the README. Arguments: step, collectives, scaling, loft, methods
# (default: all).
# MPIEXEC and MPICC, of one MPI, name another one than Open MPI.
set -euo pipefail
cd "$(dirname "$0")/.."
flock -o . dotnet build src/LoftHpc.Benchmarks -c Release --nologo -v quiet
output=src/LoftHpc.Benchmarks/bin/Release/net10.0/linux-x64
first_of() { command -v "$1" || echo "$2"; }
export MPIEXEC=${MPIEXEC:-$(first_of mpiexec.openmpi mpiexec)}
"${MPICC:-$(first_of mpicc.openmpi mpicc)}" -O2 -Wall -shared -fPIC -o "$output/libmpi_reference.so" src/LoftHpc.Benchmarks/mpi_reference.c
two=() methods=0
for name in "${@:-step collectives scaling loft methods}"; do
    for word in $name; do [[ $word == methods ]] && methods=1 || two+=("$word"); done
done
((${#two[@]} == 0)) || build/launch.sh 2 "$output/lofthpc-benchmarks" "${two[@]}"
((methods == 0)) || build/launch.sh 4 "$output/lofthpc-benchmarks" methods
