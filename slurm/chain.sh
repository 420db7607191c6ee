#!/usr/bin/env bash
# Many tickets from one pre-training, as jobs of slurm/run.sbatch: one pre-trains; then, for each ratio, one extracts and one retrains.
#
#   slurm/chain.sh [sbatch option ...] CONFIG RATIO[,RATIO ...] [section.key=value ...]
#   slurm/chain.sh --nodes=2 --ntasks-per-node=4 --time=08:00:00 configs/quick.yaml 0.3,0.5,0.8 pretrain.epochs=5
#
# The sbatch options, written as --name=value, and the settings are those of every job. The pre-training goes to
# results/CONFIG-jobJOBID, or results/NAME with run.name=NAME; the ticket of ratio 0.5 to the same with -0.5 behind it.
# A job starts only after the one before it has succeeded (afterok); where that has failed, it is cancelled. With run.name=NAME the
# same command goes on after a failure: what is finished is not done again.
fail() { echo "chain.sh: $*" >&2; exit 2; }
here=$(dirname "$(realpath "$0")")
profile=${LOFTHPC_PROFILE:-slurm/profile.sh}
[[ -e $profile || -z ${LOFTHPC_PROFILE:-} ]] || fail "there is no $profile (LOFTHPC_PROFILE)"
[[ ! -e $profile ]] || source "$(realpath "$profile")"
set -euo pipefail

options=()
while [[ ${1:-} == -* ]]; do
    options+=("$1")
    shift
done
config=${1:-} ratios=${2:-}
[[ -n $config && -n $ratios ]] || fail "slurm/chain.sh [sbatch option ...] CONFIG RATIO[,RATIO ...] [section.key=value ...]"
[[ -f $config ]] || fail "there is no config $config in $PWD"
[[ $ratios =~ ^0?\.[0-9]+(,0?\.[0-9]+)*$ ]] || fail "$ratios: ratios are numbers below 1 with commas between them, such as 0.5,0.8"
shift 2

name='' folder=results settings=()
for word; do
    case $word in
        run.name=*) name=${word#*=} ;;
        run.folder=*) folder=${word#*=} ;;
        extract.from=* | extract.ratio=*) fail "$word: the chain gives each job its own" ;;
        *) settings+=("$word") ;;
    esac
done
settings+=("run.folder=$folder")

submit() { # STAGE ARGUMENT...: sets job
    job=$(sbatch --parsable --job-name="lofthpc-$1" "${options[@]}" "${after[@]}" "$here/run.sbatch" "${@:1:1}" "$config" "${settings[@]}" "${@:2}")
    job=${job%%;*}
}
depend_on() { after=(--dependency="afterok:$1" --kill-on-invalid-dep=yes); }

after=()
submit pretrain ${name:+"run.name=$name"}
pretrain=$job
# The name that run.sbatch gives.
name=${name:-$(basename "$config" .yaml)-job$pretrain}
echo "job $pretrain: pretrain into $folder/$name"
for ratio in ${ratios//,/ }; do
    ticket=$name-$ratio
    depend_on "$pretrain"
    submit extract run.name="$ticket" extract.from="$folder/$name" extract.ratio="$ratio"
    extract=$job
    depend_on "$extract"
    submit retrain run.name="$ticket"
    echo "jobs $extract, $job: extract and retrain into $folder/$ticket"
done
