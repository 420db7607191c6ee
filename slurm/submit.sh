#!/usr/bin/env bash
# make submit: gives sbatch the shape of the job and the script for what is asked. The Makefile sets these:
# CONFIG, NODES, TASKS and GPUS (of each node), OPTIONS (for sbatch); one of SEEDS, LIST and RATIOS at most; arguments are settings.
cd "$(dirname "$0")/.." || exit 1
fail() { echo "submit: $*" >&2; exit 2; }
profile=${LOFTHPC_PROFILE:-slurm/profile.sh}
[[ -e $profile || -z ${LOFTHPC_PROFILE:-} ]] || fail "there is no $profile (LOFTHPC_PROFILE)"
[[ ! -e $profile ]] || source "$(realpath "$profile")"
set -euo pipefail

# One rank a GPU.
tasks=${TASKS:-${GPUS:-2}}
[[ -z ${GPUS:-} || $GPUS == "$tasks" ]] || fail "TASKS=$TASKS, GPUS=$GPUS: each rank takes one GPU; leave TASKS out"
chosen=(${SEEDS:+SEEDS} ${LIST:+LIST} ${RATIOS:+RATIOS})
((${#chosen[@]} <= 1)) || fail "${chosen[*]}: one of them at most"
options=(--nodes="${NODES:-1}" --ntasks-per-node="$tasks" ${GPUS:+--gpus-per-node="$GPUS"})
read -ra more <<<"${OPTIONS:-}"
options+=("${more[@]}")

if [[ -n ${SEEDS:-} ]]; then
    sbatch --array="$SEEDS" "${options[@]}" slurm/array.sbatch "$CONFIG" "$@"
elif [[ -n ${LIST:-} ]]; then
    [[ -r $LIST ]] || fail "there is no list $LIST"
    lines=$(grep -vc '^[[:space:]]*\(#\|$\)' "$LIST") || fail "$LIST has no line"
    sbatch --array="1-$lines" "${options[@]}" slurm/array.sbatch --list="$LIST" ${CONFIG:+"$CONFIG"} "$@"
elif [[ -n ${RATIOS:-} ]]; then
    slurm/chain.sh "${options[@]}" "$CONFIG" "$RATIOS" "$@"
else
    sbatch "${options[@]}" slurm/run.sbatch "$CONFIG" "$@"
fi
