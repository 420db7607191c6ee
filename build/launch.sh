#!/usr/bin/env bash
# mpiexec for a few ranks on this machine: build/launch.sh RANKS PROGRAM [ARGUMENT ...]
# MPIEXEC names another mpiexec. (lofthpc sweep gives the same flags: src/LoftHpc/Sweeping/RunLauncher.cs.)
set -euo pipefail
ranks=$1
shift
mpiexec=${MPIEXEC:-mpiexec}
flags=(-n "$ranks")
if "$mpiexec" --version 2>/dev/null | grep -qE 'Open MPI|OpenRTE'; then
    # Ranks share out the cores themselves (threads: auto); Open MPI would bind each to a single core.
    flags+=(--bind-to none)
    # More ranks than cores are allowed; with fewer this changes nothing. (--oversubscribe is gone in Open MPI 5.)
    flags+=(--map-by :OVERSUBSCRIBE)
    ((EUID == 0)) && flags+=(--allow-run-as-root)
fi
exec "$mpiexec" "${flags[@]}" "$@"
