#!/usr/bin/env bash
# Kills ranks of small runs at random moments, and goes on with each run until it ends. Its files must be those of a run of the
# same kind that nothing has disturbed, to the byte: all but times, peak memory and records of launches. No file may be left over.
#   build/soak.sh [KILLS [SEED [KIND]]]
# KILLS (200) are dealt out to all kinds below; KIND takes one alone. LOFTHPC_PROGRAM names another program than dist/lofthpc. What each
# kind came to is one line. Where something went wrong, its folder is kept and named, and the exit status is 1.
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-200} seed=${2:-1} only=${3:-}
program=${LOFTHPC_PROGRAM:-dist/lofthpc}
[[ -x $program ]] || { echo "soak.sh: there is no $program; make build makes it" >&2; exit 2; }
program=$(realpath "$program")
export OMP_NUM_THREADS=1 LOFTHPC_PROGRESS=lines OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
RANDOM=$seed

# Name, ranks, MPI, settings (of pretrain, where no section is given; ~ stands for a space).
kinds=(
    "dense 1 none method=dense"
    "data-parallel 2 openmpi method=data-parallel"
    "data-parallel-per-rank 3 mpich method=data-parallel batch_norm=per-rank retrain.batch_norm=per-rank"
    "data-parallel-bfloat16 2 openmpi method=data-parallel run.precision=bfloat16"
    "filter-parallel 3 openmpi method=filter-parallel"
    "filter-parallel-local 2 mpich method=filter-parallel backward=local"
    "filter-parallel-random 2 openmpi method=filter-parallel assignment=random checkpoint.every=1~epoch"
    "gpipe 2 openmpi method=gpipe"
    "gpipe-cuts 3 mpich method=gpipe gpipe.micro_batches=2 gpipe.cuts=[layer2.0,layer4.0]"
    "local-sgd 3 openmpi method=local-sgd local_steps=4"
    "local-sgd-shard 2 mpich method=local-sgd local_steps=2 samples=shard checkpoint.every=3~steps"
    "loft 2 openmpi method=loft local_steps=3"
    "loft-shard 3 mpich method=loft local_steps=3 samples=shard"
    "loft-long-round 2 openmpi method=loft local_steps=1000"
    "loft-travel 3 mpich method=loft local_steps=2 loft.momentum=travel"
    "loft-average 2 openmpi method=loft local_steps=3 loft.running_statistics=average"
    "loft-per-batch 2 mpich method=loft local_steps=3 loft.running_statistics=per-batch checkpoint.every=never"
    "loft-norm 3 openmpi method=loft local_steps=2 loft.deal=norm"
    "loft-warmup 2 mpich method=loft local_steps=3 loft.warmup_rounds=1 loft.statistics_images=50"
    "loft-stages 2 openmpi method=loft local_steps=3 loft.stages=[3,4] loft.first_blocks=true"
    "mpi.net 2 mpich method=loft local_steps=3 run.mpi=mpi.net"
)
if [[ -n $only ]]; then
    chosen=()
    for kind in "${kinds[@]}"; do [[ $kind != "$only "* ]] || chosen+=("$kind"); done
    ((${#chosen[@]})) || { echo "soak.sh: no kind $only; allowed are $(printf '%s\n' "${kinds[@]%% *}" | paste -sd ' ')" >&2; exit 2; }
    kinds=("${chosen[@]}")
fi

work=$(mktemp -d)
# What a process of .NET that is killed leaves in the folder of temporary files.
export TMPDIR=$work/tmp
mkdir "$TMPDIR"
cat >"$work/soak.yaml" <<'YAML'
run: {seed: 4, device: cpu, threads: 1}
network: {depth: 18, width: 3}
data: {set: synthetic, train_images: 100, test_images: 30, synthetic: {channels: 1, size: 28, classes: 3}}
pretrain: {epochs: 1, batch: 32, snapshots: [1], optimizer: {learning_rate: 0.05}}
distance: {every: 2 steps}
retrain: {epochs: 1, batch: 32, optimizer: {learning_rate: 0.01}}
latency: {batches: []}
evaluate: {batch: 16}
checkpoint: {every: 1 step}
YAML

fail() { # MESSAGE
    echo "soak.sh: $1: see $work" >&2
    exit 1
}
now() { local t=${EPOCHREALTIME/./}; echo $((t / 1000)); }
nap() { sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))"; }

start() { # FOLDER: a launch in the background; its process is $job
    local command=("$program" run --config "$work/soak.yaml" run.folder="$1" run.name=run --resume auto "${settings[@]}")
    case $mpi in
        openmpi) command=(mpiexec.openmpi --oversubscribe --bind-to none -n "$ranks" "${command[@]}") ;;
        mpich) command=(mpiexec.mpich -n "$ranks" "${command[@]}") ;;
    esac
    echo "--- launch" >>"$1.log"
    "${command[@]}" >>"$1.log" 2>&1 </dev/null &
    job=$!
}
finish() { # MILLISECONDS: waits so long for the launch; its exit code is $code, empty while it runs. Bash would tell of each that was killed.
    local end=$(($(now) + $1))
    while kill -0 "$job" 2>/dev/null; do
        if (($(now) >= end)); then code=; return; fi
        sleep 0.01
    done
    code=0
    wait "$job" || code=$?
} 2>/dev/null
ranks_of_job() {
    [[ $mpi != none ]] || { echo "$job"; return; }
    local child
    pgrep -P "$job" -x lofthpc || for child in $(pgrep -P "$job"); do pgrep -P "$child" -x lofthpc || true; done
}
moment() { # FOLDER: what the run is at, by what lies in its folder
    local run=$1/run rows
    [[ -e $run/initial.safetensors ]] || { echo start; return; }
    if compgen -G "$run/checkpoints/*/*.part" >/dev/null; then echo checkpoint; return; fi
    if compgen -G "$run/*.part" >/dev/null; then echo save; return; fi
    rows=$(grep -c . "$run/summary.csv" 2>/dev/null || true)
    case ${rows:-0} in 0 | 1) echo pretrain ;; 2) echo extract ;; 3) echo retrain ;; *) echo end ;; esac
}
# What must be the same: names, and contents without times.
listing() { # FOLDER
    (cd "$1" && find . | sort)
}
contents() { # FILE
    case $1 in
        */manifest.json) ;;
        */config.yaml) grep -v '^ *folder:' "$1" ;;
        *.csv) awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) skip[i] = $i ~ /^(seconds|images_per_second|data_seconds|peak_memory_bytes)$/ }
            { for (i = 1; i <= NF; i++) printf "%s,", skip[i] ? "" : $i; print "" }' "$1" ;;
        *) cat "$1" ;;
    esac
}
compare() { # FOLDER
    local file
    diff <(listing "$work/$name") <(listing "$1") >"$1.diff" || fail "$name: other files than of an unbroken run ($1.diff)"
    while read -r file; do
        cmp -s <(contents "$work/$name/$file") <(contents "$1/$file") || fail "$name: $1/$file differs from $work/$name/$file"
    done < <(cd "$1" && find . -type f)
}

declare -A at=() by=()
total=0 broken=0 began=$(now)
for ((k = 0; k < ${#kinds[@]}; k++)); do
    quota=$((kills / ${#kinds[@]} + (k < kills % ${#kinds[@]} ? 1 : 0)))
    ((quota)) || continue
    read -r name ranks mpi words <<<"${kinds[k]}"
    if [[ $mpi != none && -z $(command -v "mpiexec.$mpi") ]]; then echo "$name: skipped, there is no mpiexec.$mpi"; continue; fi
    settings=()
    for word in $words; do
        case $word in run.* | retrain.* | checkpoint.*) ;; *) word=pretrain.$word ;; esac
        settings+=("${word//\~/ }")
    done
    from=$(now)
    start "$work/$name"
    finish 300000
    [[ $code == 0 ]] || fail "$name: the unbroken run ends with code ${code:-none}"
    took=$(($(now) - from)) done_kills=0 runs=0
    while ((done_kills < quota)); do
        runs=$((runs + 1))
        cut=$work/$name-$runs
        while true; do
            start "$cut"
            if ((done_kills == quota)); then
                finish 300000
                [[ $code == 0 ]] || fail "$name: run $runs does not end: code ${code:-none} ($cut.log)"
                break
            fi
            finish $((((RANDOM << 15) | RANDOM) % took))
            if [[ -n $code ]]; then
                [[ $code == 0 ]] || fail "$name: run $runs ends with code $code though nothing was done to it ($cut.log)"
                break
            fi
            mapfile -t processes < <(ranks_of_job)
            # The launcher may not have started any.
            ((${#processes[@]})) || processes=("$job")
            one=${processes[RANDOM % ${#processes[@]}]} dice=$((RANDOM % 100))
            if ((dice < 50)); then what="KILL one" signal=KILL targets=("$one")
            elif ((dice < 60)); then what="KILL all" signal=KILL targets=("${processes[@]}")
            elif ((dice < 70)); then what="KILL launcher" signal=KILL targets=("$job")
            elif ((dice < 78)); then what="TERM one" signal=TERM targets=("$one")
            elif ((dice < 86)); then what="TERM all" signal=TERM targets=("${processes[@]}")
            elif ((dice < 93)); then what="USR1 one" signal=USR1 targets=("$one")
            else what="USR1 all" signal=USR1 targets=("${processes[@]}"); fi
            place=$(moment "$cut")
            kill -"$signal" "${targets[@]}" 2>/dev/null || true
            echo "--- $what at $place" >>"$cut.log"
            done_kills=$((done_kills + 1))
            at[$place]=$((${at[$place]:-0} + 1)) by[$what]=$((${by[$what]:-0} + 1))
            finish 120000
            [[ -n $code ]] || fail "$name: run $runs does not end after $what ($cut.log)"
            # It may have been at its end.
            [[ $code != 0 ]] || break
        done
        compare "$cut"
        rm -r "$cut"
    done
    total=$((total + done_kills)) broken=$((broken + runs))
    printf '%-24s %d ranks %-8s %3d kills in %3d runs, %4d ms unbroken: same bytes\n' "$name" "$ranks" "$mpi" "$done_kills" "$runs" "$took"
done
sums() { local -n counts=$1; for key in "${!counts[@]}"; do echo "${counts[$key]} $key"; done | sort -rn | paste -sd , | sed 's/,/, /g'; }
echo "by signal: $(sums by)"
echo "by moment: $(sums at)"
echo "$total kills in $broken runs of $k kinds in $((($(now) - began) / 1000)) s: every run ended with the bytes of an unbroken one, and left no file over"
rm -r "$work"
