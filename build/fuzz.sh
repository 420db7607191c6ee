#!/usr/bin/env bash
# Builds and runs the fuzzer. Arguments: how many inputs of each format, the number of the first one, one format (default: all).
set -euo pipefail
cd "$(dirname "$0")/.."
flock -o . dotnet build tests/LoftHpc.Fuzz -c Release --nologo -v quiet
exec tests/LoftHpc.Fuzz/bin/Release/net10.0/linux-x64/fuzz "$@"
