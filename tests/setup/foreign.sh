#!/bin/sh
# Unpacks a small Debian system of every other architecture, with its C libraries, into archives in .cache/roots, and a static
# qemu to run their loaders with into .cache/qemu. Nothing is installed: an installed qemu would teach the kernel to start foreign
# programs, and tests hold us to what kernels do that cannot.
set -eu
here=$(dirname "$0")
# curl and Python bring many libraries with versioned symbols, musl the other loader.
packages="base-files coreutils curl dash libc-bin libc6 libstdc++6 musl python3"

# usage: make_root ARCHITECTURE SUITE
make_root() {
    [ ! -e ".cache/roots/$1.tar" ] || return 0
    # shellcheck disable=SC2086
    ARCHITECTURE=$1 "$here/fetch.sh" "$2" ".cache/foreign/$1" usr/lib/os-release $packages
    [ -e ".cache/foreign/$1/usr/lib/os-release" ] || return 0
    (
        cd ".cache/foreign/$1"
        rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/zoneinfo
        mkdir -p proc tmp
    )
    mkdir -p .cache/roots
    tar -c --numeric-owner --owner=0 --group=0 -f ".cache/roots/$1.tar.new" -C ".cache/foreign/$1" .
    mv ".cache/roots/$1.tar.new" ".cache/roots/$1.tar"
    rm -rf ".cache/foreign/$1"
}

"$here/fetch.sh" trixie .cache/qemu usr/bin/qemu-aarch64 qemu-user
for architecture in arm64 armhf armel i386 mips64el ppc64el s390x; do
    make_root "$architecture" bookworm
done
# Which bookworm has not.
for architecture in riscv64 loong64; do
    make_root "$architecture" forky
done
