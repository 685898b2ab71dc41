"""PostgreSQL through PgBouncer, Pgpool and HAProxy: each of their modes is supported, or refused by name.

What is tried here is what a run does with its connections; whole runs through them are at the end.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from loadgen.clusters.cluster import Cluster
from loadgen.engines.address import members_of
from loadgen.engines.engine import Address, Failure, level_of
from loadgen.engines.postgres import ENGINE
from loadgen.engines.session import REFUSED, Session
from loadgen.errors import ClusterError
from tests.conftest import skip_or_fail
from tests.engines.contract import note
from tests.plans import sale_plan
from tests.poolers import EVERY_PARAMETER, dsn_through, haproxy, pgbouncer, pgpool, program
from tests.sale_runs import EndedRun, run_sale
from workloads import flashsale

pytestmark = pytest.mark.server("postgres")
TABLES = flashsale.tables(sale_plan(skus=2, stock=100))
SMALL = ("--shape", "constant", "--peak-rate", "60", "--duration", "2s", "-u", "6")
Pooler = Callable[[Address], AbstractContextManager[Address]]

SESSION_MODE: dict[str, Pooler] = {
    "pgbouncer": pgbouncer,
    "pgbouncer, parameters ignored": lambda address: pgbouncer(address, ignore_startup_parameters=EVERY_PARAMETER),
    "pgbouncer, nothing reset": lambda address: pgbouncer(address, server_reset_query=""),
    "pgbouncer, another search_path": lambda address: pgbouncer(
        address, database="connect_query='SET search_path = public; SET default_transaction_read_only = on'"
    ),
    "pgpool": lambda address: pgpool([address]),
    "haproxy": lambda address: haproxy([address]),
}
NOT_OF_SESSIONS: dict[str, Pooler] = {
    "transaction": lambda address: pgbouncer(address, pool_mode="transaction"),
    "transaction, parameters ignored": lambda address: pgbouncer(
        address, pool_mode="transaction", ignore_startup_parameters=EVERY_PARAMETER
    ),
    "transaction, one connection": lambda address: pgbouncer(address, pool_mode="transaction", default_pool_size=1),
    "transaction, in turn": lambda address: pgbouncer(
        address, pool_mode="transaction", server_round_robin=1, min_pool_size=3
    ),
    "transaction, reset after each": lambda address: pgbouncer(
        address, pool_mode="transaction", server_reset_query_always=1
    ),
    "statement": lambda address: pgbouncer(address, pool_mode="statement"),
    "statement, parameters ignored": lambda address: pgbouncer(
        address, pool_mode="statement", ignore_startup_parameters=EVERY_PARAMETER
    ),
}


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    """Skip where a program is missing, or fail where PostgreSQL must not be skipped."""
    for name in ("pgbouncer", "pgpool", "haproxy"):
        if name in request.node.name and program(name) is None:
            skip_or_fail("postgres", f"{name} is not installed")


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A primary and a standby."""
    from loadgen import clusters
    from loadgen.clusters.cluster import Place

    place = Place(logs=tmp_path_factory.mktemp("logs"), say=lambda _: None)
    cluster = clusters.start(sale_plan(engine="postgres", cluster="embedded", nodes=2), place)
    yield cluster
    cluster.stop(keep=False)


def use(address: Address, run_id: str = "pooled", count: int = 3) -> list[Any]:
    """Prepare, let sessions write, and read, all through ``address``: the failures of the sessions, and the rows."""

    async def write() -> list[Failure | None]:
        sessions = [Session(ENGINE, address, level_of(ENGINE, "serializable"), run_id) for _ in range(count)]
        try:
            failures = [await session.connect() for session in sessions]
            for number, session in enumerate(sessions):
                if session.connected:
                    assert (await session.run(note(number))).failure is None
            return failures
        finally:
            for session in sessions:
                await session.close()

    with closing(ENGINE.control(address, run_id)) as control:
        control.facts()
        control.lock()
        control.prepare(TABLES)
        failures = asyncio.run(write())
        control.beat()
        rows = control.final_reads(TABLES)["releases"]["id"].size
        control.unlock()
    return [*failures, rows]


@pytest.mark.parametrize("name", SESSION_MODE)
def test_pooler_of_sessions_is_used_as_the_server_is(postgres_cluster: Cluster, name: str) -> None:
    """Whatever it drops, keeps or sets by itself, each session is what the run needs, twice over the same pool."""
    with SESSION_MODE[name](postgres_cluster.address) as address:
        for run_id in ("first", "second"):
            assert use(address, run_id) == [None, None, None, 3]
    # The lock's row was given back, not only answered so.
    with closing(ENGINE.control(postgres_cluster.address, "look")) as control:
        assert control.query("SELECT * FROM loadgen.loadgen_lock") == []


@pytest.mark.parametrize("mode", NOT_OF_SESSIONS)
def test_pool_of_transactions_or_statements_is_refused_by_pgbouncer_mode(postgres_cluster: Cluster, mode: str) -> None:
    """At once, in one line, and with nothing set or made by then: others use that pool too."""
    with closing(ENGINE.control(postgres_cluster.address, "look")) as control:
        control.query("DROP SCHEMA IF EXISTS loadgen CASCADE")
        with NOT_OF_SESSIONS[mode](postgres_cluster.address) as address:
            with pytest.raises(ClusterError, match="lends one connection to several sessions") as refused:
                use(address)
            asked = asyncio.run(_ask(address, "SELECT current_setting('search_path')"))
        assert "\n" not in str(refused.value)
        assert "pool_mode = session" in str(refused.value)
        assert asked == '"$user", public'
        assert control.query("SELECT count(*) FROM pg_namespace WHERE nspname = 'loadgen'") == [(0,)]


async def _ask(address: Address, sql: str) -> Any:
    from loadgen.engines.postgres_driver import open_connection

    connection = await open_connection(address, "somebody")
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def test_pgbouncer_with_one_connection_is_refused_soon(postgres_cluster: Cluster) -> None:
    """Sessions would wait for each other for ever: the line names the pool's size."""
    one = pgbouncer(postgres_cluster.address, default_pool_size=1)
    with one as address, pytest.raises(ClusterError, match="default_pool_size"):
        use(address)


def test_pgbouncer_with_too_few_connections_says_so(postgres_cluster: Cluster, monkeypatch: Any) -> None:
    """A session that gets none is told from a server that does not answer."""
    monkeypatch.setattr("loadgen.engines.postgres_driver.CONNECT_TIMEOUT_S", 1.0)
    with pgbouncer(postgres_cluster.address, default_pool_size=3) as address:
        *failures, _ = use(address)

    assert [failure is None for failure in failures] == [True, True, False]
    assert "pool" in failures[2].sample


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "sends reads to any of 2 servers"),
        ({"statement_level_load_balance": "on"}, "sends reads to any of 2 servers"),
        ({"load_balance_mode": "off", "memory_cache_enabled": "on"}, "cache of its own"),
    ],
)
def test_pgpool_that_does_more_than_pool_is_refused(replicated: Cluster, settings: dict[str, str], said: str) -> None:
    """Reads of another server, or out of a cache, are not the database's answers to this session."""
    with pgpool(members_of(replicated.address), **settings) as address, pytest.raises(ClusterError, match=said):
        use(address)


def test_pgpool_in_front_of_a_standby_is_used_without_load_balancing(replicated: Cluster) -> None:
    """Then it leads to the primary, always."""
    with pgpool(members_of(replicated.address), load_balance_mode="off") as address:
        assert use(address) == [None, None, None, 3]


def test_haproxy_that_leads_to_primary_and_standby_in_turn_is_refused(replicated: Cluster) -> None:
    """Not every session is where the writes are."""
    with haproxy(members_of(replicated.address)) as address:
        try:
            *failures, _ = use(address)
        except ClusterError as refused:
            assert "standby" in str(refused)
        else:
            refused_codes = {failure.code for failure in failures if failure is not None}
            assert refused_codes == {REFUSED}


def test_idle_connection_that_pgbouncer_keeps_is_no_session_of_ours(postgres_cluster: Cluster) -> None:
    """A pool keeps its connections to the server, with our name on them, long after the run."""
    with pgbouncer(postgres_cluster.address, server_reset_query="") as address:
        use(address)
        with closing(ENGINE.control(postgres_cluster.address, "next")) as control:
            control.lock()
            assert control.sessions() == 0
            control.unlock()


def whole_run(tmp_path: Path, address: Address, *options: str) -> EndedRun:
    """A run of a few seconds through ``address``."""
    return run_sale(tmp_path, *SMALL, *options, environment={"LOADGEN_DSN": dsn_through(address)})


def test_sale_through_haproxy_with_short_timeouts_is_valid(tmp_path: Path, postgres_cluster: Cluster) -> None:
    """It cuts every connection that is silent for a moment: the control's, the lock's, the sessions'."""
    with haproxy([postgres_cluster.address], client_s=1, server_s=1) as address:
        run = whole_run(tmp_path, address, "--peak-rate", "3", "--duration", "4s")

    assert (run.exit_code, run.summary["verdict"]) == (0, "valid"), run


def test_sale_through_pgbouncer_is_what_was_asked_for(tmp_path: Path, postgres_cluster: Cluster) -> None:
    """The level holds though its start-up parameter is dropped, and plan.json says what was verified."""
    with pgbouncer(postgres_cluster.address, ignore_startup_parameters=EVERY_PARAMETER) as address:
        run = whole_run(tmp_path, address, "--isolation", "serializable")

    assert (run.exit_code, run.summary["verdict"]) == (0, "valid"), run
    verified = run.plan["verified"]["session"]
    assert (verified["isolation"], verified["schema"], verified["pooled"]) == ("serializable", "loadgen", "true")


def test_run_with_more_sessions_than_pgbouncer_has_connections_leaves_nothing(
    tmp_path: Path, postgres_cluster: Cluster
) -> None:
    """Refused when the sessions connect: no run directory stays, and no lock."""
    with pgbouncer(postgres_cluster.address, default_pool_size=5) as address:
        run = whole_run(tmp_path, address)
    with closing(ENGINE.control(postgres_cluster.address, "look")) as control:
        assert control.query("SELECT * FROM loadgen.loadgen_lock") == []

    assert run.exit_code == 2, run
    assert "of 6 sessions connected" in run.stderr
    assert not list((tmp_path / "runs").glob("*"))
