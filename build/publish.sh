#!/usr/bin/env bash
# Publishes the program to dist/, unless dist/ is newer than every source and of the wanted kind.
# DEVICE, LIBTORCH and SELF_CONTAINED choose the kind, as in the Makefile.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ -z ${LOFTHPC_BUILD_LOCKED:-} ]]; then
    LOFTHPC_BUILD_LOCKED=1 exec flock -o . "$0" "$@"
fi

device=${DEVICE:-cpu}
kind="device=$device libtorch=${LIBTORCH:-} self-contained=${SELF_CONTAINED:-}"
# The commit is part of the version that the program shows.
watched=(src build Directory.Build.props Directory.Build.targets Directory.Packages.props global.json)
[[ -e .git/logs/HEAD ]] && watched+=(.git/logs/HEAD)
if [[ -x dist/lofthpc && $(cat dist/.kind 2>/dev/null) == "$kind" ]] &&
    [[ -z $(find "${watched[@]}" \( -name bin -o -name obj \) -prune -o -newer dist/.kind -print -quit) ]]; then
    exit 0
fi

# Native libraries of another kind must not stay behind.
[[ $(cat dist/.kind 2>/dev/null) == "$kind" ]] || rm -rf dist
mkdir -p dist
# Stamped with the time before the build: what is changed meanwhile is built next time.
echo "$kind" >dist/.kind.new
echo "Building dist/lofthpc ($device)"
properties=(-p:Device="$device")
[[ -z ${LIBTORCH:-} ]] || properties+=(-p:LibTorch="$(realpath -m "$LIBTORCH")")
[[ -z ${SELF_CONTAINED:-} ]] || properties+=(-p:SelfContained=true)
rm -f dist/.kind
dotnet publish src/LoftHpc -c Release -o dist --nologo -v quiet "${properties[@]}"
mv dist/.kind.new dist/.kind
