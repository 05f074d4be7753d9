#!/bin/sh
# Installs the Debian packages the tests need, when root and when something is missing.
set -eu
packages="binutils busybox-static chromium containerd docker-registry e2fsprogs g++ gcc golang-go iptables libc6-dev libcap2-bin libtree mmdebstrap musl musl-tools openjdk-17-jdk-headless patchelf pax-utils prometheus prometheus-alertmanager runc rustc skopeo"
missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not root or no apt: tests that need$missing will be skipped" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
# Services must not start by themselves: the tests start their own.
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    made=yes
fi
trap '[ -z "$made" ] || rm -f "$policy"' EXIT
apt-get -qq update
# shellcheck disable=SC2086
apt-get -qq install -y --no-install-recommends $missing >/dev/null
