#!/bin/sh
# Makes whole Debian systems as archives in .cache/roots, for the tests that hold our loaders to the systems' own: a stable one
# with large programs, and smaller ones of the suite after it and of testing, as it is when the archive is made. Their package indexes come from the mirror that this machine's
# apt already uses. Alpine needs nothing here: it comes with a Python package.
set -eu
cache=.cache/roots
mirror=$(apt-get indextargets --format '$(SITE)|$(RELEASE)|$(CREATED_BY)' 2>/dev/null | awk -F'|' '$3=="Packages" && $1 ~ /debian$/ {print $1; exit}')

# usage: make_root SUITE PACKAGES
make_root() {
    [ ! -e "$cache/$1.tar" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v mmdebstrap >/dev/null; then
        echo "not root or no mmdebstrap: tests of a whole $1 will be skipped" >&2
        return 0
    fi
    [ -n "$mirror" ] || { echo "no Debian mirror configured: tests of a whole $1 will be skipped" >&2; return 0; }
    mkdir -p "$cache"
    # A mirror that lags behind testing serves as well. Java's scripts put links beside its manual pages and fail where that folder is missing. No PostgreSQL cluster is wanted, and
    # no byte-compiled Python, which would take longer than all else.
    mmdebstrap --quiet --mode=root --format=tar --variant=minbase --include="$2" \
        --aptopt='Acquire::GzipIndexes "true"' --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt='force-unsafe-io' --dpkgopt='force-confold' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/include/*' --dpkgopt='path-exclude=/usr/lib/*.a' --dpkgopt='path-exclude=*/bitcode/*' \
        --essential-hook='mkdir -p "$1/usr/share/man/man1" "$1/etc/postgresql-common" "$1/usr/share/python3/bcep"' \
        --essential-hook='echo "dir|3.0-|/usr/lib/python3/" >"$1/usr/share/python3/bcep/all"' \
        --essential-hook='echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
        --customize-hook='rm -rf "$1"/usr/share/* "$1"/var/cache "$1"/var/lib/apt "$1"/usr/lib/jvm/*/lib/modules "$1"/usr/lib/jvm/*/lib/server/*.jsa' \
        "$1" "$cache/$1.tar.new" "$mirror"
    mv "$cache/$1.tar.new" "$cache/$1.tar"
}

# Both at once: what takes time is unpacking and the packages' own scripts, on one processor each.
{ make_root trixie git,python3-numpy; make_root forky git,python3-minimal,curl; } &
small=$!
make_root bookworm git,python3-scipy,default-jre-headless,postgresql,imagemagick
wait "$small"
