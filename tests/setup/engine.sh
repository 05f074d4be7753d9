#!/bin/sh
# Fetches the Docker engine of the Debian suite after bookworm, with its buildx and compose, and unpacks it into
# .cache/engine; nothing is installed.
# The engine of bookworm itself (20.10) is older than the profile that predictions are made for (decisions: Docker 26).
exec "$(dirname "$0")/fetch.sh" trixie .cache/engine usr/libexec/docker/cli-plugins/docker-compose \
    docker.io docker-cli docker-buildx docker-compose
