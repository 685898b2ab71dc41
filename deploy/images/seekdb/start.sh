#!/bin/bash
# What loadgen uses of the official image's contract: ROOT_PASSWORD, SEEKDB_DATABASE, CPU_COUNT, MEMORY_LIMIT,
# LOG_DISK_SIZE, DATAFILE_SIZE, DATAFILE_NEXT and DATAFILE_MAXSIZE; data in /var/lib/oceanbase, SQL on 2881.
# Beyond it: arguments that begin with "-" go to the server (--role STANDBY, --parameter ...).
set -euo pipefail

base=/var/lib/oceanbase
sizes=()
for name in CPU_COUNT MEMORY_LIMIT LOG_DISK_SIZE DATAFILE_SIZE DATAFILE_NEXT DATAFILE_MAXSIZE; do
    if [ -n "${!name:-}" ]; then
        sizes+=(--parameter "${name,,}=${!name}")
    fi
done
seekdb --nodaemon --base-dir="$base" --port=2881 "${sizes[@]}" "$@" &
server=$!
trap 'kill -TERM "$server"' TERM INT

ask() { MYSQL_PWD=$1 mysql --no-defaults -h127.0.0.1 -P2881 -uroot "${@:2}"; }
password=${ROOT_PASSWORD:-}
for _ in $(seq 600); do
    # A standby takes its users, and so its password, from the primary.
    if ask "$password" -e 'SELECT 1' > /dev/null 2>&1 || ask '' -e 'SELECT 1' > /dev/null 2>&1; then
        break
    fi
    kill -0 "$server" 2> /dev/null || break
    sleep 0.2
done
if [ ! -f "$base/.initialized" ] && [[ " $* " != *" STANDBY "* ]]; then
    if [ -n "$password" ]; then
        ask '' -e "ALTER USER root IDENTIFIED BY '${password//\'/\'\'}'"
    fi
    if [ -n "${SEEKDB_DATABASE:-}" ]; then
        ask "$password" -e "CREATE DATABASE IF NOT EXISTS \`$SEEKDB_DATABASE\`"
    fi
    touch "$base/.initialized"
    echo "Initialization complete."
fi
wait "$server"
