#!/bin/sh
# Fetches the C libraries of the Debian suites before and after bookworm (glibc 2.31 and 2.41) into .cache/glibc-*:
# predictions depend on the release, and images mix them.
set -eu
fetch="$(dirname "$0")/fetch.sh"
"$fetch" bullseye .cache/glibc-2.31 lib/x86_64-linux-gnu/libc.so.6 libc6 libgcc-s1
"$fetch" trixie .cache/glibc-2.41 usr/lib/x86_64-linux-gnu/libc.so.6 libc6 libgcc-s1
