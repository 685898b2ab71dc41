#!/bin/bash
# What loadgen uses of the official image's contract: MYSQL_ROOT_PASSWORD, MYSQL_DATABASE and
# /docker-entrypoint-initdb.d; a first start runs a temporary server without network and then the real one, so that
# "ready for connections" is logged twice.
set -euo pipefail

if [ "${1:-}" = "" ] || [ "${1:0:1}" = - ]; then
    set -- mysqld "$@"
fi
if [ "$1" != mysqld ]; then
    exec "$@"
fi
if [ "$(id -u)" = 0 ]; then
    chown -R mysql:mysql /var/lib/mysql /var/run/mysqld
    exec setpriv --reuid=mysql --regid=mysql --clear-groups "$0" "$@"
fi
if [ ! -d /var/lib/mysql/mysql ]; then
    if [ -z "${MYSQL_ROOT_PASSWORD:-}" ]; then
        echo "[ERROR] [Entrypoint]: Database is uninitialized and password option is not specified: set" \
            "MYSQL_ROOT_PASSWORD." >&2
        exit 1
    fi
    socket=/var/run/mysqld/mysqld.sock
    "$@" --initialize-insecure
    "$@" --skip-networking --socket="$socket" --mysqlx=OFF &
    server=$!
    ask() { mysql --protocol=socket --socket="$socket" --user=root --comments "$@"; }
    for _ in $(seq 300); do
        ask --execute 'SELECT 1' > /dev/null 2>&1 && break
        kill -0 "$server"
        sleep 0.1
    done
    quoted=${MYSQL_ROOT_PASSWORD//\\/\\\\}
    quoted=${quoted//\'/\\\'}
    ask <<SQL
SET @@SESSION.SQL_LOG_BIN = 0;
CREATE USER 'root'@'%' IDENTIFIED BY '$quoted';
GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;
ALTER USER 'root'@'localhost' IDENTIFIED BY '$quoted';
SQL
    export MYSQL_PWD=$MYSQL_ROOT_PASSWORD
    if [ -n "${MYSQL_DATABASE:-}" ]; then
        ask --execute "CREATE DATABASE IF NOT EXISTS \`$MYSQL_DATABASE\`"
    fi
    shopt -s nullglob
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh) bash "$file" ;;
            *.sql) ask ${MYSQL_DATABASE:+--database="$MYSQL_DATABASE"} < "$file" ;;
        esac
    done
    unset MYSQL_PWD
    kill "$server"
    wait "$server"
    echo "[Entrypoint]: MySQL init process done. Ready for start up."
fi
exec "$@"
