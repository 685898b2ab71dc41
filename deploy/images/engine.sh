#!/bin/bash
# Installs and starts a Docker engine with compose on a Debian machine that has none: for CI and throw-away machines,
# as root. What is there already is left as it is. On a machine of your own follow docs.docker.com instead.
set -euo pipefail

plugins=/usr/local/lib/docker/cli-plugins
log=${DOCKERD_LOG:-/var/log/dockerd.log}
export DEBIAN_FRONTEND=noninteractive

say() { echo "engine.sh: $*"; }

if [ "$(id -u)" != 0 ]; then
    say "this installs packages and starts a daemon: run it as root" >&2
    exit 1
fi
if ! command -v dockerd > /dev/null || ! command -v iptables > /dev/null; then
    say "installing docker.io"
    apt-get -q update
    apt-get -q install -y --no-install-recommends docker.io iptables
fi
if ! docker compose version > /dev/null 2>&1; then
    # Debian 12 has no compose plugin; that of the unstable suite is one static program, so it is taken alone.
    say "installing docker compose"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/lists/partial"
    keyring=$(find /usr/share/keyrings -name 'debian-archive-keyring.*' | sort | head -1)
    # The mirror that this system's own apt is set up with.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m1 -E '/debian/?$')
    echo "deb [signed-by=$keyring] $mirror sid main" > "$work/sources.list"
    sid=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$work/lists" -o APT::Sandbox::User= -o Acquire::Languages=none)
    apt-get -q "${sid[@]}" update
    (cd "$work" && apt-get -q "${sid[@]}" download docker-compose && dpkg-deb -x docker-compose_*.deb root)
    mkdir -p "$plugins"
    install -m 755 "$(find "$work/root" -name docker-compose -path '*cli-plugins*' | head -1)" "$plugins/docker-compose"
fi
if ! docker info > /dev/null 2>&1; then
    say "starting dockerd; its log is $log"
    setsid nohup dockerd > "$log" 2>&1 < /dev/null &
    for _ in $(seq 60); do
        docker info > /dev/null 2>&1 && break
        sleep 0.5
    done
fi
docker version --format 'engine.sh: Docker {{.Server.Version}}' || { tail -5 "$log" >&2; exit 1; }
echo "engine.sh: compose $(docker compose version --short)"
