#!/bin/bash
# A standby: copies the primary once, then streams from it under its own name.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    chmod 0700 "$PGDATA"
    source="host=node1 port=5432 user=replicator password=$POSTGRES_PASSWORD application_name=$NODE"
    until pg_basebackup --dbname "$source" --pgdata "$PGDATA" --write-recovery-conf --wal-method stream \
        --checkpoint fast; do
        rm -rf "${PGDATA:?}"/*
        sleep 1
    done
fi
exec "$@"
