#!/usr/bin/env bash
# Publishes the program to dist/, or another project to a folder, unless that is newer than every source and of the wanted kind.
#   build/publish.sh [PROJECT FOLDER]
# DEVICE, LIBTORCH and SELF_CONTAINED choose the kind, as in the Makefile.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ -z ${LOFTHPC_BUILD_LOCKED:-} ]]; then
    LOFTHPC_BUILD_LOCKED=1 exec flock -o . "$0" "$@"
fi

project=${1:-src/LoftHpc} folder=${2:-dist}
program=$folder/lofthpc
device=${DEVICE:-cpu}
kind="device=$device libtorch=${LIBTORCH:-} self-contained=${SELF_CONTAINED:-}"
# The commit is part of the version that the program shows.
watched=(src build Directory.Build.props Directory.Build.targets Directory.Packages.props global.json)
[[ -e .git/logs/HEAD ]] && watched+=(.git/logs/HEAD)
if [[ -x $program && $(cat "$folder/.kind" 2>/dev/null) == "$kind" ]] &&
    [[ -z $(find "${watched[@]}" \( -name bin -o -name obj \) -prune -o -newer "$folder/.kind" -print -quit) ]]; then
    exit 0
fi

# Native libraries of another kind must not stay behind. (The bundle in dist/ is of one kind always.)
mkdir -p "$folder"
[[ $(cat "$folder/.kind" 2>/dev/null) == "$kind" ]] || find "$folder" -mindepth 1 -maxdepth 1 ! -name 'lofthpc-bundle*' -exec rm -rf {} +
# Stamped with the time before the build: what is changed meanwhile is built next time.
echo "$kind" >"$folder/.kind.new"
echo "Building $program ($device)"
properties=(-p:Device="$device")
[[ -z ${LIBTORCH:-} ]] || properties+=(-p:LibTorch="$(realpath -m "$LIBTORCH")")
[[ -z ${SELF_CONTAINED:-} ]] || properties+=(-p:SelfContained=true)
rm -f "$folder/.kind"
dotnet publish "$project" -c Release -o "$folder" --nologo -v quiet "${properties[@]}"
mv "$folder/.kind.new" "$folder/.kind"
