#!/usr/bin/env bash
# Builds and runs the benchmarks; their table is for the README. Arguments: step, collectives, scaling (default: all).
# MPIEXEC and MPICC, of one MPI, name another one than Open MPI.
set -euo pipefail
cd "$(dirname "$0")/.."
flock -o . dotnet build src/LoftHpc.Benchmarks -c Release --nologo -v quiet
output=src/LoftHpc.Benchmarks/bin/Release/net10.0/linux-x64
first_of() { command -v "$1" || echo "$2"; }
export MPIEXEC=${MPIEXEC:-$(first_of mpiexec.openmpi mpiexec)}
"${MPICC:-$(first_of mpicc.openmpi mpicc)}" -O2 -Wall -shared -fPIC -o "$output/libmpi_reference.so" src/LoftHpc.Benchmarks/mpi_reference.c
exec build/launch.sh 2 "$output/lofthpc-benchmarks" "$@"
