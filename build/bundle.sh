#!/usr/bin/env bash
# Packs dist/lofthpc-bundle.tar.xz, unless it is newer than all that goes into it: the program and its benchmarks with the
# .NET runtime, without libtorch and MPI; the configs; the first images of Fashion-MNIST; and gpu-check.sh, which proves a
# machine with them. dist/lofthpc-bundle holds the same, unpacked.
#   BUNDLE_PRESET  how hard xz tries, 0 to 9e (default: 6)
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ -z ${LOFTHPC_BUILD_LOCKED:-} ]]; then
    LOFTHPC_BUILD_LOCKED=1 exec flock -o . "$0" "$@"
fi
folder=dist/lofthpc-bundle archive=dist/lofthpc-bundle.tar.xz most_bytes=35000000
# Whole, the images would be as large as all else.
train_images=8000 test_images=2000

DEVICE=external LIBTORCH='' SELF_CONTAINED=1 build/publish.sh src/LoftHpc.Benchmarks "$folder/program"
if [[ -f $archive && -z $(find "$folder/program/.kind" build configs -newer "$archive" -print -quit) ]]; then
    exit 0
fi

echo "Packing $archive"
cp build/bundle/gpu-check.sh build/bundle/pytorch_training.py build/launch.sh "$folder/"
rm -rf "$folder/configs" "$folder/data"
cp -r configs "$folder/"

source=/usr/share/datasets/fashion-mnist
[[ -d $source ]] || source=.data/fashion-mnist
mkdir "$folder/data"
first_of() { # NAME COUNT HEADER_BYTES ITEM_BYTES: a file of IDX with the first items of another
    local from=$source/$1 to=$folder/data/$1 count
    printf -v count '\\x%02x' $(($2 >> 24 & 255)) $(($2 >> 16 & 255)) $(($2 >> 8 & 255)) $(($2 & 255))
    unpacked() { if [[ -f $from ]]; then cat "$from"; else gzip -dc "$from.gz"; fi; }
    # head closes the pipe early.
    set +o pipefail
    { unpacked | head -c 4; printf '%b' "$count"; unpacked | head -c $(($3 + $2 * $4)) | tail -c +9; } 2>/dev/null >"$to"
    set -o pipefail
    [[ $(stat -c %s "$to") == $(($3 + $2 * $4)) ]] || { echo "bundle.sh: $from holds too few images" >&2; exit 1; }
}
first_of train-images-idx3-ubyte $train_images 16 784
first_of train-labels-idx1-ubyte $train_images 8 1
first_of t10k-images-idx3-ubyte $test_images 16 784
first_of t10k-labels-idx1-ubyte $test_images 8 1

tar -C dist --sort=name --owner=0 --group=0 --numeric-owner --exclude='*.pdb' --exclude='*.xml' --exclude=.kind -cf - lofthpc-bundle |
    xz --x86 --lzma2=preset="${BUNDLE_PRESET:-6}" >"$archive.new"
bytes=$(stat -c %s "$archive.new")
if ((bytes > most_bytes)); then
    echo "bundle.sh: $archive would have $bytes bytes; $most_bytes are allowed" >&2
    rm "$archive.new"
    exit 1
fi
mv "$archive.new" "$archive"
echo "$archive: $bytes bytes"
