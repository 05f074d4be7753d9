#!/bin/sh
# Gathers what building our own image needs, so that the test that builds it needs no network: its base image, made from the
# Debian mirror that this machine's apt already uses, and the wheels of requirements.lock. usage: image.sh PYTHON
set -eu
python=$1
cache=.cache/image
suite=$(sed -n 's/^ARG BASE=debian:\([a-z]*\)-slim$/\1/p' deploy/Dockerfile)
# As the Dockerfile installs them; their archives lie in the base's apt cache, where apt finds them without a network.
packages="ca-certificates python3 python3-venv"
base="$cache/debian-$suite-slim.tar"
mkdir -p "$cache"

if [ ! -e "$base" ]; then
    if [ "$(id -u)" != 0 ] || ! command -v mmdebstrap >/dev/null; then
        echo "not root or no mmdebstrap: the test of our own image will be skipped" >&2
        exit 0
    fi
    mirror=$(apt-get indextargets --format '$(SITE)|$(RELEASE)|$(CREATED_BY)' 2>/dev/null | awk -F'|' '$3=="Packages" && $1 ~ /debian$/ {print $1; exit}')
    [ -n "$mirror" ] || { echo "no Debian mirror configured: the test of our own image will be skipped" >&2; exit 0; }
    mmdebstrap --quiet --mode=root --format=tar --variant=minbase --skip=cleanup/apt \
        --aptopt='Acquire::GzipIndexes "true"' \
        --dpkgopt='force-unsafe-io' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook='chroot "$1" apt-get clean' \
        --customize-hook="chroot \"\$1\" apt-get -qq install -y --no-install-recommends --download-only $packages" \
        --customize-hook='rm -f "$1"/var/cache/apt/*.bin; echo "Acquire::Retries \"0\";" >"$1/etc/apt/apt.conf.d/90offline"' \
        "$suite" "$base.new" "$mirror"
    mv "$base.new" "$base"
fi

# The interpreter is the base's, not this machine's.
machine=$(uname -m)
wheels="$cache/wheels-$(sha256sum requirements.lock | cut -c1-16)"
if [ ! -d "$wheels" ]; then
    rm -rf "$cache"/wheels-*
    "$python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
        --implementation cp --python-version 3.11 --platform "manylinux2014_$machine" --platform "manylinux_2_28_$machine" \
        --dest "$wheels.new" -r requirements.lock
    mv "$wheels.new" "$wheels"
fi
