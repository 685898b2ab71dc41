#!/bin/bash
# A standby copies the primary once, into an empty directory, and then follows it. It takes the primary as an address,
# not a name; and a primary that has only just begun turns it away, so a try that ends is made again from nothing.
set -euo pipefail
shopt -s dotglob
base=/var/lib/oceanbase
answers() { MYSQL_PWD=$ROOT_PASSWORD mysql --no-defaults -h127.0.0.1 -P2881 -uroot -e 'SELECT 1' > /dev/null 2>&1; }

for try in 1 2 3 4 5; do
    primary=$(getent hosts "$1" | cut -d' ' -f1)
    start.sh --role STANDBY --parameter rpc_port=2882 --parameter enable_rpc_service=True \
        --parameter log_restore_source="$primary:$2" &
    server=$!
    trap 'kill -TERM "$server"' TERM INT
    until answers || ! kill -0 "$server" 2> /dev/null; do
        sleep 0.5 & wait $!
    done
    if kill -0 "$server" 2> /dev/null; then
        touch "$base/.standby"
        wait "$server"
        exit
    fi
    [ -f "$base/.standby" ] && exit 1  # it has data of its own: not ours to throw away
    echo "standby.sh: try $try: the primary at $primary did not take us"
    rm -rf "${base:?}"/*
    sleep 3
done
exit 1
