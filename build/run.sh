#!/usr/bin/env bash
# Runs dist/lofthpc on a config with $RANKS ranks of this machine, into the first run folder that is free:
# results/NAME, results/NAME-2, ..., NAME being the config's; with --resume=auto into the last one that is there.
#   build/run.sh configs/quick.yaml [--resume=auto] [section.key=value ...]
set -euo pipefail
cd "$(dirname "$0")/.."
config=$1
shift
name=$(basename "$config" .yaml)
free=$name
last=$name
for ((i = 2; ; i++)); do
    [[ -e results/$free ]] || break
    last=$free
    free=$name-$i
done
case " $* " in *" --resume=auto "* | *" --resume auto "* | *" run.resume=auto "*) free=$last ;; esac
echo "Running $config on ${RANKS:=2} ranks into results/$free"
# A make that is killed ends the run, or it would keep the next one out of its folder.
with_parent=()
if [[ -n ${MAKELEVEL:-} ]] && setpriv --pdeathsig TERM true 2>/dev/null; then with_parent=(setpriv --pdeathsig TERM); fi
exec ${with_parent[@]+"${with_parent[@]}"} build/launch.sh "$RANKS" dist/lofthpc run --config "$config" run.name="$free" "$@"
