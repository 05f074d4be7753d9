#!/bin/sh
# Unpacks packages of another Debian suite into a folder below .cache; nothing is installed on the machine.
# The mirror is the one this machine's apt already uses.
# usage: fetch.sh SUITE FOLDER PROOF PACKAGE...   (PROOF: a file below FOLDER that shows it was done before)
# With ARCHITECTURE in the environment the packages are that architecture's, with all that they depend on.
set -eu
suite=$1 root=$2 proof=$3
shift 3
[ ! -e "$root/$proof" ] || exit 0
command -v apt-get >/dev/null || { echo "no apt: tests that need $root will be skipped" >&2; exit 0; }
mirror=$(apt-get indextargets --format '$(SITE)|$(RELEASE)|$(CREATED_BY)' 2>/dev/null | awk -F'|' '$3=="Packages" && $1 ~ /debian$/ {print $1; exit}')
[ -n "$mirror" ] || { echo "no Debian mirror configured: tests that need $root will be skipped" >&2; exit 0; }
state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT
chmod 755 "$state"
mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/debs/partial"
: >"$state/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$state/sources.list"
apt="apt-get -qq -o Dir::State=$state -o Dir::State::lists=$state/lists -o Dir::State::status=$state/status -o Dir::Cache=$state/cache -o Dir::Etc::sourcelist=$state/sources.list -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root"
if [ -n "${ARCHITECTURE:-}" ]; then
    apt="$apt -o APT::Architecture=$ARCHITECTURE -o APT::Architectures=$ARCHITECTURE -o Acquire::GzipIndexes=true -o Acquire::Check-Valid-Until=false"
    $apt update
    $apt install -y --no-install-recommends --download-only -o Dir::Cache::archives="$state/debs" "$@"
else
    $apt update
    (cd "$state/debs" && $apt download "$@")
fi
mkdir -p "$root.new"
# First the package with the links of the top level, which others' files are put behind.
for deb in "$state"/debs/base-files_*.deb "$state"/debs/*.deb; do [ ! -e "$deb" ] || dpkg -x "$deb" "$root.new"; done
rm -rf "$root"
mv "$root.new" "$root"
