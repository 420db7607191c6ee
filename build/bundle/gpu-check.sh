#!/usr/bin/env bash
# Proves a machine for LoftHpc: its libtorch, its MPI, its GPUs (or, where PyTorch sees none, its CPU, with much smaller
# sizes). Needs bash, a PyTorch installation and mpiexec; neither .NET nor a network.
#
#   ./gpu-check.sh [--brief] [FOLDER]
#
# FOLDER (default: gpu-check) gets a log of each check and the runs; where it exists, FOLDER-2 and so on. The table in the
# end has each check, how it ended, its seconds and what was measured. Exit code: 0 where all passed, 1 where something
# failed, 2 for wrong arguments. --brief: the smallest sizes, and of the self-test the collectives and the methods alone.
#
#   PYTHON                 the python3 that has PyTorch, where it is not the first on PATH
#   MPIEXEC                the mpiexec of an MPI that has a shared library, likewise
#   LOFTHPC_LIBTORCH       another folder of libtorch than that PyTorch's (torch/lib)
#   GPU_CHECK_SECONDS      seconds in which all must be done (300)
#   CUDA_VISIBLE_DEVICES   the GPUs that are to be seen; empty: none, then all is done on the CPU
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=$here/program/lofthpc
python=${PYTHON:-python3}
seconds_in_all=${GPU_CHECK_SECONDS:-300}
export MPIEXEC=${MPIEXEC:-mpiexec}

brief=0 folder=''
for argument; do
    case $argument in
        --brief) brief=1 ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        -*) echo "gpu-check.sh: $argument is not known; allowed are --brief and a folder" >&2; exit 2 ;;
        *) [[ -z $folder ]] || { echo "gpu-check.sh: one folder, not $folder and $argument" >&2; exit 2; }; folder=$argument ;;
    esac
done
[[ $seconds_in_all =~ ^[1-9][0-9]{0,6}$ ]] || { echo "gpu-check.sh: GPU_CHECK_SECONDS=$seconds_in_all is not a number of seconds" >&2; exit 2; }
: "${folder:=gpu-check}"
results=$folder
for ((i = 2; ; i++)); do
    [[ -e $results ]] || break
    results=$folder-$i
done
mkdir -p "$results" || exit 2
results=$(cd "$results" && pwd)

deadline=$((SECONDS + seconds_in_all))
child=''
trap '[[ -z $child ]] || { kill "$child"; wait "$child"; } 2>/dev/null; exit 130' INT TERM HUP

names=() outcomes=() times=() figures=()
note() { # NAME OUTCOME SECONDS FIGURES
    names+=("$1") outcomes+=("$2") times+=("$3") figures+=("${4//$'\n'/ }")
    printf '%-22s %-6s %4s s  %s\n' "$1" "$2" "$3" "${figures[-1]}"
}

# The line of a log that says why it failed.
reason() {
    grep -m 1 -aE '^(wrong|failed): |error: ' "$1" || grep -a . "$1" | tail -n 1
}

check() { # NAME MOST_SECONDS FIGURES_OF COMMAND ...: passes where the command ends with 0 and FIGURES_OF LOG prints figures, and is content
    local name=$1 most=$2 figures_of=$3 log=$results/$1.log left=$((deadline - SECONDS)) start=$SECONDS status figure
    shift 3
    if ((left < 1)); then
        note "$name" FAILED 0 "not done: the $seconds_in_all seconds were over (GPU_CHECK_SECONDS)"
        return 1
    fi
    # A machine that is given more time in all has more for each.
    ((seconds_in_all <= 300)) || most=$((most * seconds_in_all / 300))
    ((most < left)) || most=$left
    echo "$*" >"$log"
    timeout -k 10 "$most" "$@" </dev/null >>"$log" 2>&1 &
    child=$!
    wait "$child"
    status=$?
    child=''
    if ((status == 124 || status == 137)); then
        note "$name" FAILED $((SECONDS - start)) "not done in $most seconds"
    elif ((status != 0)); then
        note "$name" FAILED $((SECONDS - start)) "exit code $status: $(reason "$log")"
    elif ! figure=$("$figures_of" "$log"); then
        note "$name" FAILED $((SECONDS - start)) "$figure"
    else
        note "$name" passed $((SECONDS - start)) "$figure"
        return 0
    fi
    return 1
}

on_ranks() { # RANKS NAME MOST_SECONDS FIGURES_OF PROGRAM ...: the same on ranks of mpiexec; one rank goes without
    local ranks=$1
    shift
    if ((ranks == 1)); then
        check "$@"
    elif ! command -v "$MPIEXEC" >/dev/null; then
        note "$1" FAILED 0 "$MPIEXEC is not there; load an MPI, or name its mpiexec in MPIEXEC"
    else
        check "${@:1:3}" "$here/launch.sh" "$ranks" "${@:4}"
    fi
}

figures_of_doctor() {
    local devices
    devices=$(sed -nE 's/^rank [0-9]+ +.*, local rank [0-9]+, ([a-z0-9:]+), .*/\1/p' "$1" | sort | uniq -c | awk '{ printf "%s%s on %s", (NR > 1 ? ", " : ""), $1, $2 }')
    echo "$(sed -nE 's/^libtorch +(.*) in \/.*/libtorch \1/p' "$1" | head -n 1); rank(s): $devices; $(sed -nE 's/^MPI threads +.*, ((not )?CUDA-aware)$/MPI \1; /p' "$1" | head -n 1)arithmetic $(sed -nE 's/^arithmetic +([^:]*(rank [0-9, ]+: )?[^:]*).*/\1/p' "$1" | head -n 1)"
    if [[ -n $gpu && $devices == *cpu* ]]; then
        echo "PyTorch sees $gpu, but the ranks are on the CPU: $(figures_nothing "$1")"
        return 1
    fi
}
figures_nothing() { grep -am 1 '^warning: ' "$1" || echo "libtorch sees no GPU"; }

figures_of_selftest() {
    # Not the exit code alone, which some launchers lose.
    local passed
    passed=$(grep -m 1 -aE '^[0-9]+ checks passed$' "$1") || { echo "it did not say that its checks passed"; return 1; }
    echo "$passed$(sed -nE 's/^(repaired on .*)/; \1/p; s/^.*: ([0-9]+ to [0-9]+ images\/s a rank).*/; \1/p' "$1" | tr -d '\n')"
}

figures_of_benchmark() {
    sed -nE 's/^figures: //p' "$1" | awk '{ printf "%s%s", (NR > 1 ? "; " : ""), $0 }' | grep . || { echo "no figures"; return 1; }
}

figures_of_run() {
    local run=${1%.log} accuracy dense ticket rate
    dense=$(column "$run/summary.csv" network dense test_accuracy) ticket=$(column "$run/summary.csv" network ticket test_accuracy)
    rate=$(column "$run/metrics.csv" split train images_per_second)
    [[ -n $dense && -n $ticket ]] || { echo "$run/summary.csv has no accuracies"; return 1; }
    awk -v dense="$dense" -v ticket="$ticket" -v rate="$rate" -v least="$least_accuracy" 'BEGIN {
        printf "accuracy of the dense network %.1f %%, of the ticket %.1f %%; %.0f images/s", 100 * dense, 100 * ticket, rate
        if (dense < least || ticket < least) { printf "; at least %.0f %% are expected", 100 * least; exit 1 }
    }'
}
column() { # FILE KEY VALUE NAME: of the first row in which KEY is VALUE
    awk -F, -v key="$2" -v value="$3" -v name="$4" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        (key in at) && (name in at) && $at[key] == value { print $at[name]; exit }' "$1"
}

# What is here.
echo "LoftHpc gpu-check on $(uname -n), $(date -u '+%Y-%m-%d %H:%M:%S UTC'); logs in $results"
echo "processor: $(sed -nE 's/^model name\s*: (.*)/\1/p' /proc/cpuinfo | head -n 1), $(nproc) cores"
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=index,name,memory.total,driver_version --format=csv,noheader 2>&1 | sed 's/^/GPU: /'
command -v "$MPIEXEC" >/dev/null && echo "mpiexec: $(command -v "$MPIEXEC"), $("$MPIEXEC" --version 2>&1 </dev/null | grep -m 1 .)"

gpu='' torch=''
start=$SECONDS
if found=$("$python" -c '
import os, torch
print(torch.__version__)
print(os.path.join(os.path.dirname(os.path.abspath(torch.__file__)), "lib"))
print(torch.cuda.get_device_name(0) if torch.cuda.is_available() else "")' 2>"$results/pytorch.log"); then
    { read -r torch; read -r libtorch; read -r gpu; } <<<"$found"
    : "${LOFTHPC_LIBTORCH:=$libtorch}"
    note pytorch passed $((SECONDS - start)) "PyTorch $torch, ${gpu:-no GPU}; libtorch in $LOFTHPC_LIBTORCH"
else
    note pytorch FAILED $((SECONDS - start)) "$(reason "$results/pytorch.log"); name a python3 that has PyTorch in PYTHON"
fi
export LOFTHPC_LIBTORCH=${LOFTHPC_LIBTORCH:-}

# Sizes.
sizes=(data.train_images=8000 data.test_images=2000) least_accuracy=0.7 selftest=()
if [[ -z $gpu ]]; then
    sizes=(data.train_images=1920 data.test_images=500 pretrain.epochs=1 retrain.epochs=1 retrain.optimizer.milestones=[] pretrain.optimizer.milestones=[])
    least_accuracy=0.2 selftest=(network.width=8)
fi
# Of the self-test, what a precision changes: the rest is done in the first one.
precise=(--part convolutions --part 'batch norm, head, loss, optimizer' --part 'training methods' --part 'rounds of loft and local-sgd')
if ((brief)); then
    precise=()
    sizes=(data.train_images=320 data.test_images=100 pretrain.epochs=1 retrain.epochs=1 retrain.optimizer.milestones=[] pretrain.optimizer.milestones=[] latency.batches=[])
    least_accuracy=0 selftest=(network.width=4 --part collectives --part 'training methods')
fi

# The default of the device comes first. TF32 is the GPUs' own.
precisions=(float32 bfloat16)
if [[ -n $gpu ]]; then precisions=(tf32 bfloat16 float32); else echo "tf32 is not checked: a CPU has none"; fi
if [[ $("$program" plan --config "$here/configs/quick.yaml" run.precision=x 2>&1) == *'unknown key'* ]]; then
    echo "this lofthpc has no choice of precision"
    precisions=('')
fi

for ranks in 1 2; do
    on_ranks $ranks "doctor-$ranks" 60 figures_of_doctor "$program" doctor
done
for precision in "${precisions[@]}"; do
    key=(${precision:+"run.precision=$precision"})
    [[ $precision == "${precisions[0]}" ]] || selftest+=("${precise[@]}") precise=()
    for ranks in 1 2; do
        on_ranks $ranks "selftest-$ranks${precision:+-$precision}" 120 figures_of_selftest "$program" selftest "${key[@]}" "${selftest[@]}"
    done
    if [[ -n $torch ]]; then
        check "speed${precision:+-$precision}" 60 figures_of_benchmark "$here/program/lofthpc-benchmarks" pytorch "$python" "$here/pytorch_training.py" "${key[@]}"
    else
        note "speed${precision:+-$precision}" FAILED 0 "there is no PyTorch to measure beside"
    fi
done
for precision in "${precisions[@]:0:1}"; do
    key=(${precision:+"run.precision=$precision"})
    on_ranks 2 "speed-2" 60 figures_of_benchmark "$here/program/lofthpc-benchmarks" ranks "${key[@]}"
done
on_ranks 2 staging 60 figures_of_benchmark "$here/program/lofthpc-benchmarks" staging
for ranks in 1 2; do
    on_ranks $ranks "quick-$ranks" 120 figures_of_run "$program" run --config "$here/configs/quick.yaml" "data.folder=$here/data" "${sizes[@]}" \
        "run.folder=$results" "run.name=quick-$ranks"
done

failed=()
{
    echo
    printf '| %-22s | %-7s | %7s | %s |\n' check outcome seconds figures
    printf '| %-22s | %-7s | %7s | %s |\n' ---------------------- ------- ------: -------
    for i in "${!names[@]}"; do
        printf '| %-22s | %-7s | %7s | %s |\n' "${names[i]}" "${outcomes[i]}" "${times[i]}" "${figures[i]//|/,}"
    done
    echo
} >"$results/table.md"
for i in "${!names[@]}"; do [[ ${outcomes[i]} == passed ]] || failed+=("${names[i]}"); done
if ((${#failed[@]})); then
    echo "${#failed[@]} of ${#names[@]} checks FAILED: ${failed[*]}; see $results" >>"$results/table.md"
else
    echo "${#names[@]} checks passed in $SECONDS s" >>"$results/table.md"
fi
cat "$results/table.md"
((${#failed[@]} == 0))
