#!/bin/sh
# Unpacks packages of another Debian suite into a folder below .cache; nothing is installed on the machine.
# The mirror is the one this machine's apt already uses.
# usage: fetch.sh SUITE FOLDER PROOF PACKAGE...   (PROOF: a file below FOLDER that shows it was done before)
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
mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/debs"
: >"$state/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$state/sources.list"
apt="apt-get -qq -o Dir::State=$state -o Dir::State::lists=$state/lists -o Dir::State::status=$state/status -o Dir::Cache=$state/cache -o Dir::Etc::sourcelist=$state/sources.list -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root"
$apt update
(cd "$state/debs" && $apt download "$@")
mkdir -p "$root.new"
for deb in "$state"/debs/*.deb; do dpkg -x "$deb" "$root.new"; done
rm -rf "$root"
mv "$root.new" "$root"
