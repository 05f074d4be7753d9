#!/bin/sh
# Makes .venv with exactly the packages of a lock file, hashes checked, and the project itself in place.
# usage: python.sh PYTHON LOCKFILE
set -eu
python=$1
lock=$2
if [ -z "$python" ]; then
    echo "enoent needs Python 3.11 or later; none was found on PATH" >&2
    exit 1
fi
if [ ! -x .venv/bin/python ]; then
    if ! "$python" -m venv .venv 2>/dev/null; then
        rm -rf .venv
        # Debian splits venv off; as root it is one package away.
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
            echo "$python cannot make a virtual environment: install python3-venv" >&2
            exit 1
        fi
        apt-get -qq update && apt-get -qq install -y --no-install-recommends python3-venv
        "$python" -m venv .venv
    fi
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
