"""A run's lock on PostgreSQL: a row with a beat. Whoever finds a fresh one waits or is refused, before any table."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from loadgen.clusters.cluster import Cluster
from loadgen.engines import postgres_control, postgres_schema
from loadgen.engines.engine import FRESH_S, Control
from loadgen.engines.postgres import ENGINE
from loadgen.errors import ClusterError, LockLost
from tests.plans import sale_plan
from workloads import flashsale

pytestmark = pytest.mark.server("postgres")
TABLES = flashsale.tables(sale_plan(skus=2, stock=100))


@pytest.fixture
def first(postgres_cluster: Cluster) -> Iterator[Control]:
    """The control connection of a run that has the lock and its tables."""
    with closing(ENGINE.control(postgres_cluster.address, "first")) as control:
        control.query("DROP SCHEMA IF EXISTS loadgen CASCADE")
        control.lock()
        control.prepare(TABLES)
        yield control
        control.query("DROP SCHEMA IF EXISTS loadgen CASCADE")


@pytest.fixture
def second(postgres_cluster: Cluster) -> Iterator[Control]:
    """The control connection of another run."""
    with closing(ENGINE.control(postgres_cluster.address, "second")) as control:
        yield control


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE loadgen.loadgen_lock SET run_id = 'thief'", "taken by another run, thief"),
        ("DELETE FROM loadgen.loadgen_lock", "removed"),
        ("TRUNCATE loadgen.loadgen_lock", "removed"),
        ("DROP TABLE loadgen.loadgen_lock", "removed"),
        ("DROP SCHEMA loadgen CASCADE", "removed"),
        ("ALTER SCHEMA loadgen RENAME TO elsewhere", "removed"),
    ],
)
def test_lock_that_is_not_ours_any_more_is_lost(first: Control, sql: str, said: str) -> None:
    """By whatever way it went, the next beat says so."""
    first.beat()
    first.query(sql)
    try:
        with pytest.raises(LockLost, match=said):
            first.beat()
    finally:
        first.query("DROP SCHEMA IF EXISTS elsewhere CASCADE")


@pytest.mark.parametrize(
    "sql",
    [
        "TRUNCATE loadgen.loadgen_meta",
        "DROP TABLE loadgen.loadgen_meta",
        "UPDATE loadgen.loadgen_meta SET run_id = 'thief'",
        "DELETE FROM loadgen.loadgen_meta WHERE name = 'stock'",
    ],
)
def test_tables_that_are_not_known_to_be_ours_are_not_read(first: Control, sql: str) -> None:
    """The final reads say so instead."""
    assert first.final_reads(TABLES)["stock"]["sku"].size == 2
    first.query(sql)

    with pytest.raises(ClusterError, match="is not this run's any more"):
        first.final_reads(TABLES)


def test_session_of_a_run_whose_tables_are_another_run_s_is_refused(first: Control, postgres_cluster: Cluster) -> None:
    """Also when it reconnects in mid-run."""
    import asyncio

    from loadgen.engines.engine import level_of
    from loadgen.engines.session import REFUSED, Session

    async def connect() -> tuple[str, str]:
        failure = await Session(ENGINE, postgres_cluster.address, level_of(ENGINE, ""), "first").connect()
        return (failure.code, failure.error_class) if failure is not None else ("", "")

    assert asyncio.run(connect()) == ("", "")
    for sql in ("UPDATE loadgen.loadgen_meta SET run_id = 'second'", "DROP SCHEMA loadgen CASCADE"):
        first.query(sql)
        assert asyncio.run(connect()) == (REFUSED, "session")


def test_second_run_is_refused_as_soon_as_the_first_one_beats(first: Control, second: Control) -> None:
    """It waits for a row that might be a dead run's, and touches nothing meanwhile."""
    stopping = threading.Event()

    def beat() -> None:
        while not stopping.wait(0.3):
            first.beat()

    beating = threading.Thread(target=beat)
    beating.start()
    began = time.monotonic()
    try:
        with pytest.raises(ClusterError, match="another run is using"):
            second.lock()
    finally:
        stopping.set()
        beating.join()

    assert time.monotonic() - began < 5
    assert first.final_reads(TABLES)["stock"]["sku"].size == 2


def test_row_of_a_dead_run_is_waited_for_and_taken(
    first: Control, second: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody renews it: once it is stale, the next run goes on."""
    monkeypatch.setattr(postgres_schema, "FRESH_S", 2)
    first.beat()
    began = time.monotonic()
    second.lock()

    assert 1 < time.monotonic() - began < 6
    with pytest.raises(LockLost, match="second"):
        first.beat()


def test_stale_row_is_taken_at_once(first: Control, second: Control) -> None:
    """By the server's clock."""
    first.query(f"UPDATE loadgen.loadgen_lock SET beaten_at = now() - interval '{FRESH_S + 1} s'")
    began = time.monotonic()
    second.lock()

    assert time.monotonic() - began < 1
    second.unlock()
    assert first.query("SELECT * FROM loadgen.loadgen_lock") == []


def test_open_transaction_on_our_tables_refuses_the_next_run(
    first: Control, second: Control, postgres_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever's it is: it may still commit. Once it has ended, the next run begins."""
    import asyncio

    from loadgen.engines.postgres_driver import open_connection

    monkeypatch.setattr(postgres_control, "TAKE_LIMIT_S", 1.0)
    loop = asyncio.new_event_loop()
    writer = loop.run_until_complete(open_connection(postgres_cluster.address, "somebody"))
    try:
        first.unlock()
        loop.run_until_complete(writer.execute("BEGIN; UPDATE loadgen.stock SET version = version + 1"))
        assert second.sessions() == 1
        with pytest.raises(ClusterError, match="transactions are open on the tables"):
            second.lock()
        assert second.query("SELECT * FROM loadgen.loadgen_lock") == []

        loop.run_until_complete(writer.execute("COMMIT"))
        second.lock()
        second.unlock()
    finally:
        writer.terminate()
        loop.close()


def test_two_runs_that_make_the_schema_at_once_get_one_lock(first: Control, postgres_cluster: Cluster) -> None:
    """The first run ever, on a server where there is nothing of ours."""
    first.query("DROP SCHEMA loadgen CASCADE")
    controls = [ENGINE.control(postgres_cluster.address, f"run {number}") for number in range(4)]
    taken: list[str] = []

    def take(control: Control, name: str) -> None:
        with suppress(ClusterError):
            control._take(0)  # type: ignore[attr-defined]
            taken.append(name)

    threads = [threading.Thread(target=take, args=(control, str(number))) for number, control in enumerate(controls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for control in controls:
        control.close()

    assert len(taken) == 1


def test_session_that_outlives_its_client_is_ended(first: Control, postgres_cluster: Cluster) -> None:
    """Half open, in a transaction: its client is gone without a word, as behind a network that went away."""
    import asyncio

    from loadgen.engines.postgres_driver import LOAD_NAME, open_connection

    async def leave() -> None:
        connection = await open_connection(postgres_cluster.address, LOAD_NAME)
        await connection.execute("BEGIN; UPDATE loadgen.stock SET version = version + 1")
        assert await asyncio.to_thread(first.sessions) == 1
        await asyncio.to_thread(first.end_sessions)
        while await asyncio.to_thread(first.sessions):
            await asyncio.sleep(0.05)
        connection.terminate()

    asyncio.run(asyncio.wait_for(leave(), 10))
    assert first.final_reads(TABLES)["stock"]["version"].tolist() == [0, 0]
