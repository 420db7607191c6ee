#!/bin/sh
# Fetches CIFAR-10 or CIFAR-100 (the official binary files), checks it, and unpacks it into .data/ of the current folder.
# An archive that is here already is given as the second argument. Nothing appears in .data/ before it is whole.
set -eu

fail() {
    echo "fetch-cifar.sh: $*" >&2
    exit 1
}

case "${1:-}" in
cifar10) archive=cifar-10-binary.tar.gz folder=cifar-10-batches-bin md5=c32a1d4ab5d03f1284b67883e8d87530 ;;
cifar100) archive=cifar-100-binary.tar.gz folder=cifar-100-binary md5=03b5dce01913d631647c71ecec9e9cb8 ;;
*) fail "usage: build/fetch-cifar.sh cifar10|cifar100 [ARCHIVE]" ;;
esac
url=https://www.cs.toronto.edu/~kriz/$archive

if [ -d ".data/$folder" ]; then
    echo ".data/$folder is there already"
    exit 0
fi

mkdir -p .data
aside=$(mktemp -d ".data/$folder.XXXXXX")
trap 'rm -rf "$aside"' EXIT
trap 'exit 1' HUP INT TERM

file=${2:-}
if [ -z "$file" ]; then
    file=$aside/$archive
    if command -v curl >/dev/null; then
        curl --fail --location --silent --show-error --output "$file" "$url" 2>"$aside/log" || fail "cannot download $url: $(tail -n 1 "$aside/log")"
    elif command -v wget >/dev/null; then
        wget --no-verbose --output-document="$file" "$url" 2>"$aside/log" || fail "cannot download $url: $(tail -n 1 "$aside/log")"
    else
        fail "needs curl or wget to download $url (or the archive as the second argument)"
    fi
fi
[ -r "$file" ] || fail "$file cannot be read"
found=$(md5sum <"$file" | cut -d ' ' -f 1)
[ "$found" = "$md5" ] || fail "$file has MD5 $found, expected $md5; it is cut or another file"
tar -xzf "$file" -C "$aside" 2>"$aside/log" || fail "cannot unpack $file: $(head -n 1 "$aside/log")"
[ -d "$aside/$folder" ] || fail "$file holds no folder $folder"
mv "$aside/$folder" ".data/$folder"
echo "$1 is in .data/$folder"
