"""PostgreSQL keeps the engines' contract, in each of its ways to talk, and the promises that are its own."""

import asyncio
import dataclasses
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, ClassVar

import pytest
import uvloop

from loadgen.clusters.cluster import Cluster
from loadgen.engines.engine import Address, Control, Engine, Level, level_of
from loadgen.engines.postgres import ENGINE, Postgres
from loadgen.engines.postgres_driver import LOAD_NAME, PublicConnection, open_connection
from loadgen.engines.postgres_session import load_settings, set_up
from loadgen.engines.postgres_wire import ServerError, WireConnection
from loadgen.engines.session import Session, Try
from loadgen.errors import ClusterError
from loadgen.op import Outcome, Stage
from loadgen.shop.sale import Answer
from loadgen.workload import Body, Reply, Statement
from tests.engines.contract import BOUND_S, NOTE, TAKE, EngineContract, Server, note, sessions_in_steps
from tests.plans import sale_plan
from workloads import flashsale

pytestmark = pytest.mark.server("postgres")


class PublicPostgres(Postgres):
    """The engine as it is with an asyncpg that lacks what the wire needs."""

    async def connect(self, address: Address, level: Level, run_id: str, *, reader: bool = False) -> Any:
        """A connection by public calls alone."""
        connection = await open_connection(address, LOAD_NAME)
        return PublicConnection(connection, await set_up(connection, load_settings(level), run_id, reader=reader))


ENGINES: dict[str, Engine] = {
    "wire": ENGINE,
    "merged": Postgres(merge_round_trips=True),
    "public": PublicPostgres(),
}


@pytest.fixture(params=sorted(ENGINES))
def server(request: pytest.FixtureRequest, postgres_cluster: Cluster) -> Server:
    """Each way to talk to the one embedded server."""
    return Server(ENGINES[request.param], postgres_cluster.address)


class TestPostgres(EngineContract):
    """The contract."""

    p4_allowed: ClassVar = ("read committed",)
    p4_prevented: ClassVar = ("repeatable read", "serializable")

    def end_sessions(self, control: Control) -> None:
        """As an administrator would."""
        control.query(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = '{LOAD_NAME}'"
        )

    def test_commit_that_is_answered_with_rollback_is_a_fail(self, server: Server, control: Control) -> None:
        """A transaction that had failed is not committed, although the server reports no error."""

        async def use(connections: list[Any]) -> Any:
            connection = connections[0]
            await connection.begin()
            await connection.execute(TAKE(1, 0))
            await connection.execute(NOTE(1, 1))
            with pytest.raises(ServerError if isinstance(connection, WireConnection) else Exception):
                await connection.execute(TAKE(2**30, 1))
                await connection.execute(BROKEN(0))
            with pytest.raises(Exception) as raised:
                await connection.commit()
            return server.engine.classify(raised.value, Stage.COMMIT)

        failure = self.with_connections(server, 1, use)
        assert (failure.outcome, failure.code) == (Outcome.FAIL, "25P02")
        assert control.query("SELECT count(*) FROM releases") == [(0,)]

    def test_serializable_prevents_write_skew(self, server: Server, control: Control) -> None:
        """Both read both rows, each writes another: one of them is told to try again."""

        async def use(connections: list[Any]) -> list[BaseException]:
            for connection in connections:
                await connection.begin()
                await connection.execute(SUM())
            problems = []
            for sku, connection in enumerate(connections):
                try:
                    await connection.execute(TAKE(1, sku))
                    await connection.commit()
                except Exception as error:  # noqa: BLE001
                    problems.append(error)
                    await connection.rollback()
            return problems

        (problem,) = self.with_connections(server, 2, use, "serializable")
        assert server.engine.classify(problem, Stage.COMMIT).code == "40001"
        assert self.with_connections(server, 2, use, "repeatable read") == []


BROKEN = Statement("SELECT 1 / :zero")
SUM = Statement("SELECT sum(available) FROM stock")


@pytest.fixture
def control(postgres_cluster: Cluster) -> Iterator[Control]:
    """The control connection, with a small sale's tables."""
    control = ENGINE.control(postgres_cluster.address, "test")
    control.prepare(flashsale.tables(sale_plan(skus=2, stock=10)))
    yield control
    control.close()


@pytest.fixture
def absent_standby(control: Control) -> Iterator[None]:
    """Every commit waits for a standby that is not there."""
    control.query("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
    control.query("SELECT pg_reload_conf()")
    yield
    control.query("ALTER SYSTEM RESET synchronous_standby_names")
    control.query("SELECT pg_reload_conf()")


WAITING = f"FROM pg_stat_activity WHERE application_name = '{LOAD_NAME}' AND wait_event = 'SyncRep'"
ENDINGS = {
    "SELECT pg_cancel_backend(pid)": False,
    # The server warns once more, and closes without a last error.
    "SELECT pg_terminate_backend(pid, 5000)": True,
    "": True,
}
"""How the wait ends, and whether the connection goes with it."""


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_commit_that_waits_for_a_standby_and_is_cut_is_info(
    engine: Engine, ending: str, postgres_cluster: Cluster, control: Control, absent_standby: None
) -> None:
    """Cancelled, its session ended, or cut by us: it is committed here, on no standby, and nobody may call it ok."""

    with sessions_in_steps(Server(engine, postgres_cluster.address), 1) as (steps, (session,)):
        commit = steps.begin(session.run(note(5)))
        while not control.query(f"SELECT 1 {WAITING}"):
            steps.do(asyncio.wait({commit}, timeout=0.02))
            assert not commit.done(), commit.result()
        if ending:
            control.query(f"{ending} {WAITING}")
        else:
            steps.do(session.close())
        tried = steps.do(commit)
    assert (tried.outcome, tried.stage) == (Outcome.INFO, Stage.COMMIT)
    assert tried.failure is not None
    assert (tried.failure.drop, tried.failure.retry) == (ENDINGS[ending], False)
    assert tried.failure.code in ("01000", "08006", "08003")
    if ending:
        assert control.query("SELECT id FROM releases") == [(5,)], "committed here, and on no standby"
    else:
        assert control.sessions() == 1, "the server still waits for the standby, and the run must wait for the server"


def test_merged_round_trips_are_two_for_four_statements(postgres_cluster: Cluster, control: Control) -> None:
    """BEGIN travels with the first statement, a blind last one with COMMIT."""

    async def writes(engine: Postgres) -> list[int]:
        connection: Any = await engine.connect(postgres_cluster.address, level_of(engine, ""), "")
        session = Session(engine, postgres_cluster.address, level_of(engine, ""))
        session._connection = connection
        counts = []
        for number in (1, 2):
            sent: list[bytes] = []
            write = connection._transport.write
            connection._write = lambda data, sent=sent, write=write: (sent.append(data), write(data))
            assert (await session.run(take_and_note(number))).outcome is Outcome.OK
            counts.append(len(sent))
        await session.close()
        return counts

    merged, plain = Postgres(merge_round_trips=True), Postgres()
    assert uvloop.run(asyncio.wait_for(writes(merged), BOUND_S))[1] == 2
    control.query("DELETE FROM releases")
    assert uvloop.run(asyncio.wait_for(writes(plain), BOUND_S))[1] == 4
    assert control.query("SELECT sku, available, version FROM stock ORDER BY sku") == [(0, 6, 4), (1, 10, 0)]


def test_merged_statement_that_fails_with_commit_is_a_fail(postgres_cluster: Cluster, control: Control) -> None:
    """The server never came to COMMIT: nothing is there, and the outcome says so."""
    engine = Postgres(merge_round_trips=True)

    async def use() -> list[Try]:
        session = Session(engine, postgres_cluster.address, level_of(engine, ""))
        tried = [await session.run(take_and_note(1)), await session.run(take_and_note(1))]
        await session.close()
        return tried

    first, second = uvloop.run(asyncio.wait_for(use(), BOUND_S))
    assert first.outcome is Outcome.OK
    assert (second.outcome, second.failure and second.failure.code) == (Outcome.FAIL, "23505")
    assert control.query("SELECT available FROM stock WHERE sku = 0") == [(9,)]


def take_and_note(number: int) -> Body:
    """The blind statement last."""
    taken = yield TAKE(1, 0)
    assert taken.version > 0
    yield NOTE(number, number)
    return Reply(Answer.PLACED)


def test_cancelled_session_never_gives_its_answer_to_another_statement(
    postgres_cluster: Cluster, control: Control
) -> None:
    """Whoever is cancelled while it waits loses the connection: the next call fails instead of reading on."""

    async def use() -> Any:
        connection: Any = await ENGINE.connect(postgres_cluster.address, level_of(ENGINE, ""), "")
        await connection.execute(TAKE(1, 0))
        waiting = asyncio.ensure_future(connection.execute(SLEEP(1)))
        await asyncio.wait({waiting}, timeout=0.05)
        waiting.cancel()
        with pytest.raises(Exception) as raised:
            await connection.execute(TAKE(1, 1))
        await connection.close()
        return ENGINE.classify(raised.value, Stage.STATEMENT)

    failure = uvloop.run(asyncio.wait_for(use(), BOUND_S))
    assert (failure.outcome, failure.drop) == (Outcome.FAIL, True)


SLEEP = Statement("SELECT 1 FROM pg_sleep(:seconds)")


def refusal(address: Address, **changes: Any) -> str:
    """What the control connection says to a changed address."""
    with pytest.raises(ClusterError) as raised:
        ENGINE.control(dataclasses.replace(address, **changes), "test")
    message = str(raised.value)
    assert "\n" not in message
    assert "SECRET" not in message
    assert address.password not in message
    return message


def test_address_that_cannot_be_used_is_refused_with_what_to_do(postgres_cluster: Cluster) -> None:
    """Each in one line, the password in none."""
    address = postgres_cluster.address

    assert "password" in refusal(address, password="SECRET")
    assert "no database nowhere" in refusal(address, database="nowhere")
    assert "cannot reach" in refusal(address, socket="", host="127.0.0.1", port=1)
    assert "cannot reach" in refusal(address, socket="/nowhere")


def test_second_of_several_hosts_is_used_where_the_first_is_gone(postgres_cluster: Cluster, control: Control) -> None:
    """Hosts are tried in order; only TCP has several, so both are refused here."""
    message = refusal(postgres_cluster.address, socket="", host="127.0.0.1:1,127.0.0.1:2", port=0)

    assert "127.0.0.1:1,127.0.0.1:2" in message


@pytest.fixture
def guest(postgres_cluster: Cluster, control: Control) -> Iterator[Address]:
    """A user and a database of another's."""
    control.query("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    control.query("CREATE DATABASE elsewhere")
    yield dataclasses.replace(postgres_cluster.address, user="guest", password="guest", database="elsewhere")
    control.query("DROP DATABASE elsewhere WITH (FORCE)")
    control.query("DROP ROLE guest")


def test_user_without_the_right_to_create_is_told_which_grant_helps(guest: Address, control: Control) -> None:
    """And with it the run can go on."""
    tables = flashsale.tables(sale_plan(skus=2))
    guest_control = ENGINE.control(guest, "test")
    with pytest.raises(ClusterError, match='GRANT CREATE ON DATABASE "elsewhere" TO "guest"'):
        guest_control.prepare(tables)

    control.query("GRANT CREATE ON DATABASE elsewhere TO guest")
    guest_control.prepare(tables)
    assert len(guest_control.final_reads(tables)["stock"]["sku"]) == 2
    guest_control.close()


def test_free_connections_respect_every_limit(guest: Address, control: Control) -> None:
    """The server's, the database's, and the user's own, whichever is least."""
    guest_control = ENGINE.control(guest, "test")
    before = guest_control.facts()["connections_free"]
    control.query("ALTER DATABASE elsewhere CONNECTION LIMIT 9")
    assert guest_control.facts()["connections_free"] == 8 < before
    control.query("ALTER ROLE guest CONNECTION LIMIT 4")
    assert guest_control.facts()["connections_free"] == 3
    guest_control.close()


def test_free_connections_are_counted_for_a_user_who_sees_little(guest: Address, postgres_cluster: Cluster) -> None:
    """Others' sessions are hidden from a plain user, and take connections all the same."""
    with closing(ENGINE.control(guest, "test")) as control:
        time.sleep(0.5)  # what earlier tests opened is gone
        before = control.facts()["connections_free"]
        others = [ENGINE.control(postgres_cluster.address, "other") for _ in range(3)]
        time.sleep(0.5)  # what the look itself opened is gone
        after = control.facts()["connections_free"]
        for other in others:
            other.close()

    # The looks open and close connections of their own, and the server takes a moment to forget them.
    assert 2 <= before - after <= 4


def test_server_without_fsync_is_warned_of(control: Control) -> None:
    """A figure from it would mean little."""
    control.query("ALTER SYSTEM SET fsync = off")
    control.query("SELECT pg_reload_conf()")
    try:
        while control.query("SHOW fsync") != [("off",)]:
            pass
        assert "fsync" in control.facts()["warnings"][0]
    finally:
        control.query("ALTER SYSTEM RESET fsync")
        control.query("SELECT pg_reload_conf()")
