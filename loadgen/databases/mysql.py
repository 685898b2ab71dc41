"""MySQL."""

from loadgen.databases.database import (
    MYSQL_WIRE,
    Database,
    Embedded,
    Image,
    Level,
    Published,
    ServerBinary,
    Topology,
)


def _level(name: str, means: str, *, statement_snapshot: bool = True) -> Level:
    set_sql = f"SET SESSION TRANSACTION ISOLATION LEVEL {name.upper()}"
    return Level(name, means, set_sql, statement_snapshot=statement_snapshot)


DATABASE = Database(
    name="mysql",
    title="MySQL",
    wire=MYSQL_WIRE,
    schemes=("mysql", "mariadb"),
    dialect="loadgen.engines.mysql:Mysql",
    default_level="repeatable read",
    levels=(
        _level("read uncommitted", "read-uncommitted", statement_snapshot=False),
        _level("read committed", "read-committed"),
        # A snapshot for plain reads, but writes and locking reads see the latest commit: an update can be lost, so it
        # is below snapshot isolation, and below the literature's repeatable read.
        _level("repeatable read", "monotonic-atomic-view"),
        _level("serializable", "serializable"),
    ),
    embedded=Embedded(
        "loadgen.clusters.embedded_mysql:start",
        binary=ServerBinary(
            "mysql",
            "MySQL",
            "mysqld",
            "LOADGEN_MYSQLD",
            described="loadgen.clusters.binaries:described_mysqld",
            install="loadgen.clusters.install:install_mysql",
            template="loadgen.clusters.install:make_template",
            means="Debian's apt-get",
            needs="loadgen.commands.doctor:debian",
        ),
    ),
    images=(
        Image(
            "mysql",
            "MySQL",
            make="loadgen.clusters.container:mysql",
            user="root",
            memory="2g",
            by_hand="docker exec -it {name} sh -c 'MYSQL_PWD=$MYSQL_ROOT_PASSWORD mysql loadgen'",
            settings="loadgen.clusters.container:mysql_settings",
        ),
    ),
    topologies=(
        Topology(
            folder="mysql",
            title="MySQL",
            nodes=3,
            entry="node1",
            port=3306,
            user="root",
            database="",
            members=("node1", "node2", "node3"),
            state="loadgen.clusters.replication:mysql_state",
            replicas=("node2", "node3"),
            start_within_s=300,
        ),
    ),
    replicated_as="loadgen.clusters.replication:mysql_kind",
    waits=(
        "SELECT w.PROCESSLIST_ID, b.PROCESSLIST_ID FROM performance_schema.data_lock_waits l "
        "JOIN performance_schema.threads w ON w.THREAD_ID = l.REQUESTING_THREAD_ID "
        "JOIN performance_schema.threads b ON b.THREAD_ID = l.BLOCKING_THREAD_ID",
    ),
    published=Published(
        "5.6.21",
        {
            "read uncommitted": "✓ — — — — — — — — —",
            "read committed": "✓ ✓ ✓ ✓ ✓ — — — — —",
            "repeatable read": "✓ ✓ ✓ ✓ ✓ R/O — R/O — —",
            "serializable": "✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓",
        },
    ),
    notes=(
        "read uncommitted reads rows in place, committed or not; writes lock them all the same, so no G0.",
        "repeatable read: plain reads see the snapshot of the first one, while UPDATE, DELETE and FOR UPDATE see and "
        "lock the latest commit. This explains P4, and why PMP and G-single are prevented for reads only (R/O). "
        "Next-key locks keep rows out of what FOR UPDATE has searched, so G2 is prevented there, and not on the "
        "engines without gap locks.",
        "serializable turns plain reads into shared next-key locks: one of two transactions waits or is chosen as a "
        "deadlock's victim (1213).",
    ),
)
