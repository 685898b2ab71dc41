#!/bin/bash
# One member: what differs from the others, given to the image's own entrypoint.
set -euo pipefail
number=$1 name=$2
shift 2
exec docker-entrypoint.sh "$@" --server-id="$number" --report-host="$name" \
    --loose-group-replication-local-address="$name:33061"
