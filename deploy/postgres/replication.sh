#!/bin/bash
# Runs once, on the primary's temporary server: what standbys need. The names take effect with the real server's start;
# on the temporary one every commit would wait for standbys that can't come. All three are listed, so that nothing has
# to change after a promotion: a primary never counts itself.
set -euo pipefail
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set password="$POSTGRES_PASSWORD" << 'SQL'
CREATE ROLE replicator REPLICATION LOGIN PASSWORD :'password';
ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (node1, node2, node3)';
SQL
echo 'host replication replicator all scram-sha-256' >> "$PGDATA/pg_hba.conf"
