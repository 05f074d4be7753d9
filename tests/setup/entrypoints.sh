#!/bin/sh
# Fetches packages whose programs are shell scripts that end in another program, and keeps what such scripts see: the scripts
# themselves, links, and the names of all other files. Debian's come from this machine's own suite.
set -eu
cache=.cache/entrypoints
[ ! -e "$cache" ] || exit 0
{ command -v apt-get && command -v npm; } >/dev/null || { echo "no apt or no npm: tests of real entrypoints will be skipped" >&2; exit 0; }
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"
mkdir -p "$new/debs" "$new/root/usr/lib/node_modules" "$new/root/opt"
(cd "$new/debs" && apt-get -qq -o APT::Sandbox::User=root download \
    activemq ant bsh bzip2 ca-certificates checkstyle clojure ditaa elixir erlang-base fop gradle grep groovy gzip jedit jmeter josm \
    jruby java-wrappers leiningen libsaxonb-java mariadb-server maven plantuml postgresql-common rabbitmq-server rhino scala \
    sensible-utils tomcat10-common xalan xz-utils yarnpkg zookeeper ejabberd init-system-helpers)
for deb in "$new"/debs/*.deb; do dpkg -x "$deb" "$new/root"; done
for package in npm@11.21.2 yarn@1.22.22 bats@1.13.0 node-red@4.1.15; do
    name=${package%@*}
    mkdir -p "$new/root/usr/lib/node_modules/$name"
    (cd "$new/debs" && npm pack --silent "$package" >/dev/null)
    tar -xzf "$new/debs/$name-${package#*@}.tgz" -C "$new/root/usr/lib/node_modules/$name" --strip-components=1
done
"$1" -m pip download --quiet --no-deps --no-binary graphite-web -d "$new/debs" graphite-web==1.1.10
mkdir "$new/root/opt/graphite-web"
tar -xzf "$new/debs/graphite-web-1.1.10.tar.gz" -C "$new/root/opt/graphite-web" --strip-components=1
# A script may ask whether a file is there, and never what is in one this large.
find "$new/root" -type f -size +100k -exec truncate -s 64 {} +
rm -rf "$new/root/usr/share/doc" "$new/root/usr/share/man" "$new/root/usr/share/locale"
mkdir -p "$(dirname "$cache")"
mv "$new/root" "$cache.new"
mv "$cache.new" "$cache"
