#!/bin/bash
# What loadgen uses of the official image's contract: POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB,
# POSTGRES_INITDB_ARGS, PGDATA and /docker-entrypoint-initdb.d; a first start runs a temporary server, reached by its
# socket only, and then the real one, so that "ready to accept connections" is logged twice.
set -euo pipefail

if [ "${1:-}" = "" ] || [ "${1:0:1}" = - ]; then
    set -- postgres "$@"
fi
if [ "$1" != postgres ]; then
    exec "$@"
fi
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown -R postgres:postgres /var/lib/postgresql "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    user=${POSTGRES_USER:-postgres}
    database=${POSTGRES_DB:-$user}
    if [ -z "${POSTGRES_PASSWORD:-}" ]; then
        echo "Error: Database is uninitialized and superuser password is not specified: set POSTGRES_PASSWORD." >&2
        exit 1
    fi
    mkdir -p "$PGDATA"
    chmod 0700 "$PGDATA"
    # shellcheck disable=SC2086 # the arguments are words, as in the official image
    initdb --username="$user" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") ${POSTGRES_INITDB_ARGS:-}
    printf '\nhost all all all scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
    options="-c listen_addresses=''"
    if [ $# -gt 1 ]; then
        options="$(printf '%q ' "${@:2}") $options"
    fi
    PGUSER=$user pg_ctl -D "$PGDATA" -w start -o "$options"
    ask() { psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$user" "$@"; }
    if [ "$database" != postgres ]; then
        ask --dbname postgres --set name="$database" <<< 'CREATE DATABASE :"name";'
    fi
    shopt -s nullglob
    export POSTGRES_USER=$user POSTGRES_DB=$database
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh) bash "$file" ;;
            *.sql) ask --dbname "$database" --file "$file" ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
    printf '\nPostgreSQL init process complete; ready for start up.\n\n'
fi
exec "$@"
