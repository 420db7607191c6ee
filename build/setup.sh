#!/usr/bin/env bash
# Finds what LoftHpc needs on this machine and installs what is missing: Debian packages through apt as root; otherwise
# it prints the one command that does it, and stops. The image data need no root. Silent and quick where all is there.
#   build/setup.sh run|test|bench|bundle|data
# LOFTHPC_SKIP_SETUP=1 goes on with what is there (tests that need more are then skipped); LOFTHPC_NO_INSTALL=1 installs
# nothing as root either.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:?run, test, bench, bundle or data}

# One at a time. -o: what apt starts must not inherit the lock.
if [[ -z ${LOFTHPC_SETUP_LOCKED:-} ]]; then
    LOFTHPC_SETUP_LOCKED=1 exec flock -o . "$0" "$@"
fi

say() { echo "setup: $*" >&2; }
missing=()
need() { # PACKAGE CONDITION...: notes the package unless the condition holds
    local package=$1
    shift
    "$@" || missing+=("$package")
}
command_exists() { command -v "$1" >/dev/null; }
daemon_exists() { PATH=$PATH:/usr/sbin:/sbin command_exists "$1"; }
any_exists() {
    local path
    for path; do [[ -e $path ]] && return 0; done
    return 1
}
python_has() {
    [[ -x /usr/bin/python3 ]] &&
        /usr/bin/python3 -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$1') is None)" 2>/dev/null
}

fashion_mnist=train-images-idx3-ubyte
have_images() {
    any_exists {/usr/share/datasets/fashion-mnist,.data/fashion-mnist}/"$fashion_mnist"{.gz,}
}

# Downloads Debian's package of the images and unpacks it into .data/, which needs no root.
unpack_images() {
    have_images && return 0
    if ! command_exists apt-get || ! command_exists dpkg-deb; then
        say "Fashion-MNIST is missing and apt-get is not here: put its four files (${fashion_mnist}.gz, ...) into .data/fashion-mnist"
        return 1
    fi
    say "unpacking Fashion-MNIST into .data/fashion-mnist"
    local work=$PWD/.data/unpack options=()
    rm -rf "$work"
    mkdir -p "$work/lists/partial" "$work/archives/partial"
    (
        cd "$work"
        # Where the system's package lists are empty, a user can still fetch lists of their own.
        if ! apt-get download dataset-fashion-mnist >log 2>&1; then
            options=(-o "Dir::State::lists=$work/lists" -o "Dir::Cache::archives=$work/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
            apt-get "${options[@]}" update >>log 2>&1 && apt-get "${options[@]}" download dataset-fashion-mnist >>log 2>&1
        fi && dpkg-deb -x dataset-fashion-mnist_*.deb root
    ) || { say "Fashion-MNIST could not be fetched: $(tail -n 1 "$work/log")"; return 1; }
    rm -rf .data/fashion-mnist
    mv "$work/root/usr/share/datasets/fashion-mnist" .data/fashion-mnist
    rm -rf "$work"
}

if [[ $what == data ]]; then
    unpack_images
    exit
fi

if ! command_exists dotnet || ! dotnet --list-sdks 2>/dev/null | grep -qE '^(1[0-9])\.'; then
    say "the .NET 10 SDK is missing; get it with: curl -sSL https://dot.net/v1/dotnet-install.sh | bash -s -- --channel 10.0   (into ~/.dotnet)"
    exit 1
fi
[[ -z ${LOFTHPC_SKIP_SETUP:-} ]] || exit 0

# Packages come over TLS: certificates, and with them OpenSSL.
need ca-certificates any_exists /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem
case $what in
    run) need openmpi-bin command_exists mpiexec ;;
    test)
        need openmpi-bin command_exists mpiexec.openmpi
        need mpich command_exists mpiexec.mpich
        need slurmctld daemon_exists slurmctld
        need slurmd daemon_exists slurmd
        need slurm-client command_exists sbatch
        need munge daemon_exists munged
        # Debian's Slurm loads PMIx, which Open MPI's ranks need, by a name that only this package has.
        need libpmix-dev any_exists /usr/lib/*/pmix2/lib/libpmix.so /usr/lib64/libpmix.so
        need python3-torch python_has torch
        need xz-utils command_exists xz
        # Opens the pages that report writes. It brings a font with it.
        need chromium command_exists chromium
        ;;
    bundle) need xz-utils command_exists xz ;;
    bench)
        need openmpi-bin command_exists mpiexec.openmpi
        # mpicc.openmpi itself comes with openmpi-bin.
        need libopenmpi-dev any_exists /usr/lib/*/openmpi/include/mpi.h
        need mpich command_exists mpiexec.mpich
        need gcc command_exists gcc
        need libc6-dev any_exists /usr/include/stdio.h
        ;;
    *) say "unknown: $what"; exit 2 ;;
esac

if ((EUID == 0)) && [[ -z ${LOFTHPC_NO_INSTALL:-} ]] && command_exists apt-get; then
    need dataset-fashion-mnist have_images
    if ((${#missing[@]})); then
        say "installing ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        install=(apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}")
        log=$(mktemp)
        if ! "${install[@]}" >"$log" 2>&1 &&
            ! { apt-get -q -o DPkg::Lock::Timeout=300 update >"$log" 2>&1 && "${install[@]}" >>"$log" 2>&1; }; then
            tail -n 20 "$log" >&2
            say "apt could not install: ${missing[*]}"
            rm -f "$log"
            exit 1
        fi
        rm -f "$log"
    fi
elif ((${#missing[@]})); then
    if command_exists apt-get; then
        say "something is missing; run this, then the same again:"
        echo "sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    else
        say "something is missing; install or load (module load ...) what Debian calls: ${missing[*]}; LOFTHPC_SKIP_SETUP=1 goes on without"
    fi
    exit 1
else
    unpack_images
fi
