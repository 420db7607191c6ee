#!/usr/bin/env bash
# Builds and runs the benchmarks; their table is for the README.
set -euo pipefail
cd "$(dirname "$0")/.."
flock -o . dotnet build src/LoftHpc.Benchmarks -c Release --nologo -v quiet
exec src/LoftHpc.Benchmarks/bin/Release/net10.0/linux-x64/lofthpc-benchmarks "$@"
