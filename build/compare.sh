#!/usr/bin/env bash
# Pre-trains, prunes and retrains one network by every method of configs/compare/methods.txt, with several seeds, and writes
# results/compare/comparison.csv, statistics.csv and comparison.md anew after each run. Finished runs are kept, so that after a stop the same
# command goes on. A run that fails is told, the others go on, and the exit status is 1 in the end.
#   build/compare.sh [section.key=value ...]
# COMPARE names another folder than results/compare, METHODS another list than configs/compare/methods.txt, SEEDS other
# seeds than "1 2 3". BASELINE is what the other groups are compared with in the end: a run, or KEY=VALUE of a column; empty: none.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${COMPARE:-results/compare}
methods=${METHODS:-configs/compare/methods.txt}
read -ra seeds <<<"${SEEDS:-1 2 3}"
base=configs/compare/base.yaml
runs=$folder/runs
common=("$@")
# One thread a rank, in libraries that are not told by run.threads too.
export OMP_NUM_THREADS=1 LOFTHPC_PROGRESS=lines
trap 'exit 130' INT
trap 'exit 143' TERM

[[ -r $methods ]] || { echo "compare.sh: $methods cannot be read" >&2; exit 2; }
for word in "${common[@]}"; do
    [[ $word != run.seed=* && $word != run.name=* && $word != run.folder=* ]] ||
        { echo "compare.sh: $word: every run has its own; SEEDS and COMPARE choose seeds and the folder" >&2; exit 2; }
done
mapfile -t lines < <(sed 's/#.*//' "$methods" | grep '[^[:space:]]')
((${#lines[@]})) || { echo "compare.sh: $methods names no method" >&2; exit 2; }
# Seed 1 of all methods comes first, so that a table of all is there early.
names=() ranks_of=() settings_of=()
for seed in "${seeds[@]}"; do
    for line in "${lines[@]}"; do
        read -r name counts overrides <<<"$line"
        [[ $counts =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] || { echo "compare.sh: $methods: '$line' is not NAME RANKS[,RANKS] section.key=value ..." >&2; exit 2; }
        for ranks in ${counts//,/ }; do
            names+=("$name-$ranks-$seed")
            ranks_of+=("$ranks")
            settings_of+=("run.seed=$seed $overrides")
        done
    done
done
total=${#names[@]}
twice=$(printf '%s\n' "${names[@]}" | sort | uniq -d | head -n 1)
[[ -z $twice ]] || { echo "compare.sh: two runs are named $twice: a name, number of ranks and seed may stand once in $methods and SEEDS" >&2; exit 2; }

# summary.csv gets its whole line of the ticket last; what may still fail then are plots.
finished() { # NAME
    local summary=$runs/$1/summary.csv
    [[ -e $summary && ! -e $runs/$1.failed ]] && grep -q '^ticket,' "$summary" && [[ -z $(tail -c 1 "$summary") ]]
}
# What a run is made with; the first line of its log.
identity() { # INDEX
    { grep -v '^ *#' "$base"; echo "${ranks_of[$1]} ${settings_of[$1]} ${common[*]}"; } | cksum | cut -d ' ' -f 1
}
# What the program says in a log that went wrong, in one line: its own message, and of a trace the first line too.
reason() { # LOG
    local text
    text=$(grep -m 1 -A 1 '^lofthpc: ' "$1" || tail -n 1 "$1")
    [[ $text == *'failed:'* ]] || text=${text%%$'\n'*}
    echo "${text//$'\n'/ }"
}
duration() { printf '%d:%02d:%02d' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60)); }

mkdir -p "$runs"
# Two at once would replace each other's runs. The runs inherit the lock: they may outlive a script that is killed.
exec {lock}>"$runs/.lock"
flock -n "$lock" || { echo "compare.sh: another comparison is at work in $runs" >&2; exit 2; }
waiting=() stale=()
for ((i = 0; i < total; i++)); do
    name=${names[i]}
    if ! finished "$name"; then
        waiting+=("$i")
    elif [[ -e $runs/$name.log && $(head -n 1 "$runs/$name.log") != "settings $(identity "$i")" ]]; then
        stale+=("$name")
    fi
done
if ((${#stale[@]})); then
    echo "compare.sh: made with other settings than $base, $methods and the arguments have now: ${stale[*]}; remove them from $runs, or choose another folder (COMPARE=FOLDER)" >&2
    exit 2
fi
echo "$total runs into $runs, $((total - ${#waiting[@]})) of them finished already"

# The expected time of the runs that are left: of a run with another seed, else the mean of all so far.
declare -A took=()
left() { # INDEX OF THE FIRST ONE THAT WAITS
    local sum=0 count=0 seconds=0 i key
    for key in "${!took[@]}"; do sum=$((sum + took[$key])) count=$((count + 1)); done
    ((count)) || count=1
    for i in "${waiting[@]:$1}"; do
        key=${names[i]%-*}
        seconds=$((seconds + ${took[$key]:-$((sum / count))}))
    done
    echo "$seconds"
}

compare() { # OPTION ...
    dist/lofthpc compare "$runs" "$@" --output "$folder/comparison.csv" --statistics "$folder/statistics.csv" --summary "$folder/comparison.md"
}

failed=() successes=$((total - ${#waiting[@]}))
start=$SECONDS
for ((w = 0; w < ${#waiting[@]}; w++)); do
    i=${waiting[w]}
    name=${names[i]}
    log=$runs/$name.log
    read -ra overrides <<<"${settings_of[i]}"
    # One of the same settings that was stopped goes on.
    begin=run.overwrite=true
    [[ -e $log && $(head -n 1 "$log") == "settings $(identity "$i")" ]] && begin=run.resume=auto
    echo "settings $(identity "$i")" >"$log"
    began=$SECONDS
    rm -f "$runs/$name.failed"
    status=0
    build/launch.sh "${ranks_of[i]}" dist/lofthpc run --config "$base" "${overrides[@]}" "${common[@]}" \
        run.folder="$runs" run.name="$name" "$begin" >>"$log" 2>&1 </dev/null || status=$?
    if ((status == 0)); then
        took[${name%-*}]=$((SECONDS - began))
        successes=$((successes + 1))
        result="done in $(duration $((SECONDS - began)))"
        # Its output is shown once, in the end.
        compare >/dev/null || failed+=("the table after $name")
    else
        failed+=("$name")
        : >"$runs/$name.failed"
        result="FAILED with status $status, see $log: $(reason "$log")"
    fi
    echo "[$((w + 1))/${#waiting[@]}] $name $result; $(duration $((SECONDS - start))) elapsed, about $(duration "$(left $((w + 1)))") left"
done

# The group of the first run, if there are others.
baseline=${BASELINE-${names[0]}}
(($(printf '%s\n' "${names[@]%-*}" | sort -u | wc -l) > 1)) || baseline=
((successes == 0)) || compare ${baseline:+--baseline "$baseline"} || failed+=("the table")
if ((${#failed[@]})); then
    printf 'compare.sh: failed:' >&2
    printf ' %s' "${failed[@]}" >&2
    echo >&2
    exit 1
fi
