#!/bin/bash
# Runs once, on each member's temporary server: the account that members copy from each other with. The history of
# transactions is then emptied, or each member would come with transactions that the others lack and be refused.
MYSQL_PWD=$MYSQL_ROOT_PASSWORD mysql --protocol=socket --user=root << SQL
SET SESSION sql_log_bin = 0;
CREATE USER 'replication'@'%' IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';
GRANT REPLICATION SLAVE, CONNECTION_ADMIN, BACKUP_ADMIN, GROUP_REPLICATION_STREAM ON *.* TO 'replication'@'%';
CHANGE REPLICATION SOURCE TO SOURCE_USER = 'replication', SOURCE_PASSWORD = '$MYSQL_ROOT_PASSWORD'
    FOR CHANNEL 'group_replication_recovery';
RESET BINARY LOGS AND GTIDS;
SQL
