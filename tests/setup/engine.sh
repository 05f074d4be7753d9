#!/bin/sh
# Fetches the Docker engine of the Debian suite after bookworm and unpacks it into .cache/engine; nothing is installed.
# The engine of bookworm itself (20.10) is older than the profile that predictions are made for (decisions: Docker 26).
exec "$(dirname "$0")/fetch.sh" trixie .cache/engine usr/sbin/dockerd docker.io docker-cli docker-buildx
