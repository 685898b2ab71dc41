"""OceanBase in MySQL mode: an OceanBase cluster, or seekdb, the single-node edition of the same engine.

Read uncommitted is not among its levels: a server takes it silently and runs something else.
"""

from loadgen.databases.database import MYSQL_WIRE, Database, Embedded, Image, Level, Topology

_SNAPSHOT = "snapshot-isolation"


def _level(name: str, means: str) -> Level:
    return Level(name, means, f"SET SESSION TRANSACTION ISOLATION LEVEL {name.upper()}")


DATABASE = Database(
    name="oceanbase",
    title="OceanBase",
    wire=MYSQL_WIRE,
    dialect="loadgen.engines.oceanbase:OceanBase",
    default_level="read committed",
    levels=(
        _level("read committed", "read-committed"),
        _level("repeatable read", _SNAPSHOT),
        # Documented as snapshot isolation: write skew commits.
        _level("serializable", _SNAPSHOT),
    ),
    embedded=Embedded("loadgen.clusters.embedded_seekdb:start", package="pylibseekdb"),
    images=(
        Image(
            "oceanbase",
            "OceanBase",
            make="loadgen.clusters.container:oceanbase",
            user="root@test",
            memory="10g",
            by_hand="docker exec -it {name} sh -c 'obclient -h127.1 -P2881 -uroot@test -p$OB_TENANT_PASSWORD'",
        ),
        Image(
            "seekdb",
            "seekdb",
            make="loadgen.clusters.container:seekdb",
            user="root",
            memory="4g",
            by_hand="docker exec -it {name} sh -c 'MYSQL_PWD=$ROOT_PASSWORD mysql -h127.0.0.1 -P2881 -uroot loadgen'",
        ),
    ),
    topologies=(
        Topology(
            folder="oceanbase",
            title="OceanBase",
            nodes=1,
            entry="node1",
            port=2881,
            user="root@test",
            database="",
            members=("node1",),
            state="loadgen.clusters.replication:oceanbase_state",
            start_within_s=700,
        ),
        Topology(
            folder="seekdb",
            title="seekdb",
            nodes=2,
            entry="node1",
            port=2881,
            user="root",
            database="",
            members=("node1", "node2"),
            state="loadgen.clusters.replication:seekdb_state",
            asked=("node1", "node2"),
            replicas=("node2",),
        ),
    ),
    lesser_editions={
        "seekdb": "seekdb is OceanBase's single-node edition: no figure here is one of an OceanBase cluster",
    },
    waits=(
        # seekdb, and the sys tenant of a cluster.
        "SELECT session_id, holder_session_id FROM oceanbase.__all_virtual_lock_wait_stat",
        # Any tenant of a cluster.
        "SELECT p.SESSION_ID, NULL FROM oceanbase.GV$OB_LOCKS l "
        "JOIN oceanbase.GV$OB_TRANSACTION_PARTICIPANTS p ON p.TX_ID = l.TRANS_ID WHERE l.BLOCK = 1",
    ),
    # Nobody has published a table for it.
    notes=(
        "repeatable read and serializable are one implementation, documented as snapshot isolation: the second writer "
        "of a row that it read gets 6235, and write skew (G2-item, G2) commits at SERIALIZABLE too.",
        "The snapshot is that of the first statement. Seen here, and not in the documentation: a first statement that "
        "had to wait for a lock runs again on a newer snapshot, so two blind writers, or two readers with FOR UPDATE, "
        "both commit where PostgreSQL gives 40001.",
        "It has no gap locks: FOR UPDATE keeps no new row out of a predicate.",
        "read uncommitted is taken silently and runs as read committed, so it is not among the levels.",
    ),
)
