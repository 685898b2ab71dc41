#!/bin/bash
# Starts the group: at the member that has all transactions, then at the others; and again whenever a member is out of
# it. Only where no member is in the group at all is it bootstrapped, so there is never a second one.
set -euo pipefail
export MYSQL_PWD=$MYSQL_ROOT_PASSWORD
members=("$@")

ask() { mysql --connect-timeout=2 -h "$1" -u root -N -B -e "$2"; }
state() {
    ask "$1" "SELECT member_state FROM performance_schema.replication_group_members
        WHERE member_id = @@server_uuid" 2> /dev/null || echo DOWN
}
most_advanced() {
    local candidate other
    for candidate in "${members[@]}"; do
        local all=1
        for other in "${members[@]}"; do
            local have
            have=$(ask "$other" 'SELECT @@GLOBAL.gtid_executed' | tr -d '\n' | sed 's/\\n//g')
            [ "$(ask "$candidate" "SELECT GTID_SUBSET('$have', @@GLOBAL.gtid_executed)")" = 1 ] || all=0
        done
        if [ "$all" = 1 ]; then echo "$candidate"; return; fi
    done
}

while :; do
    online=0 down=0 out=()
    for member in "${members[@]}"; do
        case $(state "$member") in
            ONLINE | RECOVERING) online=$((online + 1)) ;;
            DOWN) down=$((down + 1)) ;;
            *) out+=("$member") ;;
        esac
    done
    if [ "$online" = 0 ] && [ "$down" = 0 ]; then
        first=$(most_advanced)
        if [ -n "$first" ]; then
            echo "bootstrapping the group at $first"
            ask "$first" 'SET GLOBAL group_replication_bootstrap_group = ON; START GROUP_REPLICATION;
                SET GLOBAL group_replication_bootstrap_group = OFF' || true
        fi
    elif [ "$online" != 0 ]; then
        for member in "${out[@]}"; do
            echo "$member joins"
            ask "$member" 'STOP GROUP_REPLICATION; START GROUP_REPLICATION' || true
        done
    fi
    complete=$(ask "${members[0]}" "SELECT count(*) FROM performance_schema.replication_group_members
        WHERE member_state = 'ONLINE'" 2> /dev/null || echo 0)
    if [ "$complete" = "${#members[@]}" ]; then
        touch /tmp/group-is-complete
        sleep 5 & wait $!
    else
        rm -f /tmp/group-is-complete
        sleep 0.5
    fi
done
