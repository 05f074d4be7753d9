#!/bin/sh
# Fetches native addons as people install them into .cache/addons: wheels of tests/setup/addons.txt and, where npm is installed,
# packages of Node addons, each built for glibc and for musl. They are data for tests; nothing of them is installed or run.
# usage: addons.sh PYTHON
set -eu
python=$1
here=$(cd "$(dirname "$0")" && pwd)
cache=.cache/addons
[ ! -e "$cache/done" ] || exit 0
rm -rf "$cache"
mkdir -p "$cache/npm"
for platform in manylinux musllinux; do
    tags="--platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64"
    [ "$platform" = manylinux ] || tags="--platform musllinux_1_2_x86_64"
    # shellcheck disable=SC2086
    "$python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
        --implementation cp --python-version 3.11 $tags --dest "$cache/$platform" -r "$here/addons.txt"
done
if command -v npm >/dev/null; then
    while read -r sum file package; do
        (cd "$cache/npm" && npm pack --silent "$package" >/dev/null && echo "$sum  $file" | sha256sum --check --quiet -)
    done <<END
0cff6e33fa8ff5e812666f08850d9f1535ecf6cc4fa48db188539bbedf98c589 img-sharp-libvips-linux-x64-1.0.4.tgz @img/sharp-libvips-linux-x64@1.0.4
c3e495a95f8fc3514095822cff08337626710be18d2faaf5a8772f36f650c6e1 img-sharp-libvips-linuxmusl-x64-1.0.4.tgz @img/sharp-libvips-linuxmusl-x64@1.0.4
8c0b2bf8eacb82daafafb73c5937f021a9de137361ce2a60ad5c6470f7a2ea3e img-sharp-linux-x64-0.33.5.tgz @img/sharp-linux-x64@0.33.5
c662aba15f6e6da256914bdc7c8d221cd0fbfbc50d3398c1c7ec2eb85422c48e img-sharp-linuxmusl-x64-0.33.5.tgz @img/sharp-linuxmusl-x64@0.33.5
031ac1097116dea0f29533e8d9ba7e3e7f73af81238ed21ec99a7841f4115258 node-rs-xxhash-linux-x64-gnu-1.7.6.tgz @node-rs/xxhash-linux-x64-gnu@1.7.6
146da5444b8d4f8faf06d670102ef7696cb4bc07f25a025155092e9b022e43c0 node-rs-xxhash-linux-x64-musl-1.7.6.tgz @node-rs/xxhash-linux-x64-musl@1.7.6
7a280b3db01fb2c22280ea77264ef2672397831137288776ebac4576a17c8abb parcel-watcher-linux-x64-glibc-2.5.0.tgz @parcel/watcher-linux-x64-glibc@2.5.0
d81c68354b90027ea3ed64ac8cb78ced1e97fd20b98c0ff439cb82b74d072c38 parcel-watcher-linux-x64-musl-2.5.0.tgz @parcel/watcher-linux-x64-musl@2.5.0
END
fi
touch "$cache/done"
