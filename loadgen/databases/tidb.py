"""TiDB, with pessimistic transactions, its default, and with optimistic ones, a level of their own.

It refuses read uncommitted and serializable (8048), so neither is among its levels.
"""

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


def _level(name: str, means: str, isolation: str, mode: str) -> Level:
    return Level(name, means, f"SET SESSION transaction_isolation = '{isolation}', tidb_txn_mode = '{mode}'")


DATABASE = Database(
    name="tidb",
    title="TiDB",
    wire=MYSQL_WIRE,
    dialect="loadgen.engines.tidb:Tidb",
    default_level="repeatable read",
    # The mode is a part of the level, for it decides what the level means. Optimistic transactions have one level only:
    # READ COMMITTED is for pessimistic ones, and an optimistic one would silently run as REPEATABLE READ.
    levels=(
        _level("read committed", "read-committed", "READ-COMMITTED", "pessimistic"),
        # Snapshot reads, but a pessimistic write or locking read sees the latest commit: an update can be lost.
        _level("repeatable read", "monotonic-atomic-view", "REPEATABLE-READ", "pessimistic"),
        # Nothing is locked before COMMIT, which is refused if a row was written since the snapshot.
        _level("repeatable read optimistic", "snapshot-isolation", "REPEATABLE-READ", "optimistic"),
    ),
    embedded=Embedded(
        "loadgen.clusters.embedded_tidb:start",
        binary=ServerBinary(
            "tidb",
            "TiDB",
            "tidb-server",
            "LOADGEN_TIDB_SERVER",
            described="loadgen.clusters.binaries:described_tidb",
            install="loadgen.clusters.install:install_tidb",
            means="Go",
            needs="loadgen.commands.doctor:go",
        ),
    ),
    images=(
        Image(
            "tidb",
            "TiDB",
            make="loadgen.clusters.container:tidb",
            user="root",
            memory="4g",
            # Its image has no client; the password is in the file.
            by_hand="docker exec {name} cat /loadgen-init.sql; mysql -h 127.0.0.1 -P {port} -u root -p loadgen",
        ),
    ),
    topologies=(
        Topology(
            folder="tidb",
            title="TiDB",
            nodes=3,
            entry="balancer",
            port=4000,
            user="root",
            database="",
            members=("balancer",),
            state="loadgen.clusters.replication:tidb_state",
            start_within_s=400,
        ),
    ),
    replicated_as="Raft",
    lesser_editions={
        "unistore": "unistore is TiDB's store in one process, for trying out: no figure here is one of TiDB on TiKV",
    },
    # Every request of a lock is a LockWaiting for a moment. data_lock_waits tells the real ones, but is always empty on
    # unistore: there, one that has gone on for a tenth of a second by the server's clock is taken for one.
    waits=(
        "SELECT w.SESSION_ID, b.SESSION_ID FROM information_schema.tidb_trx w "
        "LEFT JOIN information_schema.data_lock_waits l ON l.TRX_ID = w.ID "
        "LEFT JOIN information_schema.tidb_trx b ON b.ID = l.CURRENT_HOLDING_TRX_ID "
        "WHERE w.STATE = 'LockWaiting' "
        "AND (b.SESSION_ID IS NOT NULL OR w.WAITING_START_TIME < NOW(6) - INTERVAL 100000 MICROSECOND)",
    ),
    published=Published(
        "7.5.0",
        {
            "read committed": "· ✓ ✓ ✓ ✓ — · — · ·",
            "repeatable read": "· · · · · R/O — R/O — —",
        },
    ),
    notes=(
        "repeatable read is documented as snapshot isolation under MySQL's name. In a pessimistic transaction, "
        "the default and what was published, writes and FOR UPDATE read the latest commit, as in MySQL. This "
        "explains P4, and R/O for PMP and G-single.",
        "In an optimistic transaction they read the snapshot and never wait; COMMIT is refused (9007) if a row "
        "that it wrote, or read with FOR UPDATE, was written since. Write skew (G2-item, G2) commits.",
        "It has no gap locks: FOR UPDATE keeps no new row out of a predicate (PMP and G2 with FOR UPDATE, where MySQL "
        "at repeatable read prevents them).",
        "read uncommitted and serializable are refused (8048).",
    ),
)
