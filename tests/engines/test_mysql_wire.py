"""The load connection on the MySQL wire, on a real OceanBase: answers read right, and every way to lose it survived."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from loadgen.clusters.cluster import Cluster, Place
from loadgen.clusters.embedded_seekdb import start
from loadgen.engines import watchdog
from loadgen.engines.engine import Address, level_of
from loadgen.engines.mysql_wire import MysqlConnection
from loadgen.engines.oceanbase import ENGINE, LOAD
from loadgen.engines.session import Session, Try
from loadgen.op import Outcome, Stage
from loadgen.workload import Body, Reply, Result, Statement, Table
from tests.plans import sale_plan

pytestmark = pytest.mark.server("oceanbase")

ROWS = 600
SHELF = Table(
    "shelf",
    "CREATE TABLE shelf (id INT NOT NULL PRIMARY KEY, name VARCHAR(200) NOT NULL, version BIGINT NOT NULL)",
    {"id": "int64", "name": "string", "version": "int64"},
    [(number, "", 0) for number in range(ROWS)],
)
SET_VERSION = Statement("UPDATE shelf SET version = :version WHERE id = :id")
BUMP = Statement("UPDATE shelf SET {bump} WHERE id = :id {bumped}")
NAME = Statement("UPDATE shelf SET name = :name WHERE id = :id")
NAMES = Statement("SELECT id, name FROM shelf WHERE id <= :most ORDER BY id")
TWICE = Statement("UPDATE shelf SET version = :by + :by WHERE id < :most AND name <> '100 %'")
COUNT = Statement("SELECT COUNT(*), MAX(version) FROM shelf")
SLOW = Statement("SELECT SLEEP(:seconds)")


@pytest.fixture
def address(oceanbase_cluster: Cluster) -> Iterator[Address]:
    """The server, with a filled shelf."""
    with closing(ENGINE.control(oceanbase_cluster.address, "test")) as control:
        control.prepare([SHELF])
        yield oceanbase_cluster.address


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[MysqlConnection]:
    """A load connection."""
    connection = await ENGINE.connect(address, level_of(ENGINE, ""), "")
    try:
        yield connection
    finally:
        await connection.close()


def on_connection(address: Address, use: Callable[[MysqlConnection], Awaitable[Any]]) -> Any:
    """What ``use`` makes of one load connection."""

    async def run() -> Any:
        async with connected(address) as connection:
            return await use(connection)

    return uvloop.run(run())


def body(*calls: Any) -> Body:
    """A transaction of these calls."""
    for call in calls:  # noqa: UP028 - a tuple's iterator takes no results
        yield call
    return Reply(1)


@pytest.mark.parametrize("version", [0, 249, 250, 251, 65_534, 65_535, 2**24 - 2, 2**24 - 1, 2**31, 2**53, 2**62])
def test_version_is_the_one_that_was_written(address: Address, version: int) -> None:
    """The insert id of the answer is the new version, in each of its encoded lengths."""

    async def use(connection: MysqlConnection) -> Result:
        await connection.execute(SET_VERSION(version, 7))
        return await connection.execute(BUMP(7))

    assert on_connection(address, use) == (1, (), version + 1)


@pytest.mark.parametrize("most", [0, 1, 250, 251, ROWS])
def test_rowcount_is_the_rows_that_changed(address: Address, most: int) -> None:
    """Also beyond what one byte says, and a parameter may stand twice in one statement."""
    assert on_connection(address, lambda connection: connection.execute(TWICE(3, most))).rowcount == most


def test_row_that_stays_as_it_was_counts_as_none(address: Address) -> None:
    """An UPDATE that changes nothing answers 0: rows matched are not counted."""

    async def use(connection: MysqlConnection) -> list[int]:
        return [(await connection.execute(SET_VERSION(5, 1))).rowcount for _ in range(2)]

    assert on_connection(address, use) == [1, 0]


@pytest.mark.parametrize("name", ["it's", "a\\b", "100 %", "%s %d", "a\nb\0c", "ü 漢字 😀", "'; DROP TABLE shelf; --"])
def test_string_arrives_as_it_is(address: Address, name: str) -> None:
    """Strings are escaped, whatever is in them."""

    async def use(connection: MysqlConnection) -> Any:
        await connection.execute(NAME(name, 0))
        return (await connection.execute(NAMES(0))).rows

    assert on_connection(address, use) == ((0, name),)


def test_many_rows_come_back(address: Address) -> None:
    """A result of several packets is read whole."""

    async def use(connection: MysqlConnection) -> Any:
        return await connection.execute(NAMES(ROWS))

    result = on_connection(address, use)

    assert [row[0] for row in result.rows] == list(range(ROWS))
    assert result.rowcount == ROWS


def test_connection_goes_on_after_an_error(address: Address) -> None:
    """An error's packet is read whole, so the next answer is the next statement's."""

    async def use(connection: MysqlConnection) -> Any:
        for _ in range(3):
            with pytest.raises(Exception, match="nowhere"):
                await connection.execute(Statement("SELECT * FROM nowhere")())
        return await connection.execute(BUMP(1)), (await connection.execute(COUNT())).rows

    assert on_connection(address, use) == ((1, (), 1), ((ROWS, 1),))


def test_transaction_that_is_rolled_back_leaves_nothing(address: Address) -> None:
    """And outside of one, each statement stands by itself."""

    async def use(connection: MysqlConnection) -> Any:
        await connection.begin()
        await connection.execute(BUMP(1))
        await connection.rollback()
        await connection.rollback()
        await connection.execute(BUMP(2))
        async with connected(address) as other:
            return (await other.execute(Statement("SELECT id FROM shelf WHERE version > 0")())).rows

    assert on_connection(address, use) == ((2,),)


def test_cancelled_statement_loses_the_connection_and_nothing_else(address: Address) -> None:
    """The answer of a statement that nobody waits for must never be taken for another's."""

    async def run() -> list[Try]:
        session = Session(ENGINE, address, level_of(ENGINE, ""))
        assert await session.connect() is None
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.run(body(SLOW(2))), 0.1)
        tries = [await session.run(body(BUMP(1))) for _ in range(2)]
        await session.close()
        return tries

    lost, then = uvloop.run(run())

    assert lost.failure is not None
    assert (lost.outcome, lost.stage, lost.failure.code, lost.failure.drop) == (Outcome.FAIL, Stage.BEGIN, "2006", True)
    assert then.outcome is Outcome.OK


def test_killed_session_fails_and_the_next_try_connects_again(oceanbase_cluster: Cluster, address: Address) -> None:
    """A connection that the server closed is found dead before anything is sent, and opened again."""

    async def run() -> list[Try]:
        session = Session(ENGINE, address, level_of(ENGINE, ""))
        assert await session.connect() is None
        with closing(ENGINE.control(oceanbase_cluster.address, "killer")) as control:
            for (found,) in control.query("SELECT id FROM information_schema.processlist WHERE db = 'loadgen'"):
                # The fixture's control connection is there too, and opens itself again.
                control.query(f"KILL {found}")
        tries = [await session.run(body(BUMP(1))) for _ in range(2)]
        await session.close()
        return tries

    lost, then = uvloop.run(run())

    assert lost.failure is not None
    assert (lost.outcome, lost.failure.retry, lost.failure.error_class) == (Outcome.FAIL, True, "connection")
    assert then.outcome is Outcome.OK


def test_statement_timeout_ends_a_statement_and_keeps_the_connection(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server keeps the timeout: 4012, rolled back, and the same connection goes on."""
    short = replace(LOAD, values={**LOAD.values, "ob_query_timeout": 200_000})
    monkeypatch.setattr("loadgen.engines.oceanbase.LOAD", short)

    async def run() -> list[Try]:
        session = Session(ENGINE, address, level_of(ENGINE, ""))
        tries = [await session.run(body(BUMP(1), SLOW(2))), await session.run(body(BUMP(1)))]
        await session.close()
        return tries

    slow, then = uvloop.run(run())

    assert slow.failure is not None
    assert (slow.failure.code, slow.failure.drop) == ("4012", False)
    assert then.outcome is Outcome.OK


def test_frozen_server_is_left_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog cuts the wait; before COMMIT that is a fail, and the session connects again once it can."""
    monkeypatch.setattr(watchdog, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(watchdog, "STUCK_AFTER_S", 0.3)
    monkeypatch.setattr("loadgen.engines.mysql_wire.CONNECT_TIMEOUT_S", 0.3)
    cluster = start(sale_plan(engine="oceanbase"), Place(tmp_path, lambda _: None))
    try:
        with closing(ENGINE.control(cluster.address, "test")) as control:
            control.prepare([SHELF])
        frozen, refused, then = uvloop.run(through_a_freeze(cluster))
    finally:
        cluster.stop(keep=False)

    assert frozen.failure is not None
    assert (frozen.outcome, frozen.failure.code, frozen.failure.drop) == (Outcome.FAIL, "2013", True)
    assert refused.failure is not None
    assert (refused.outcome, refused.stage) == (Outcome.FAIL, Stage.CONNECT)
    assert then.outcome is Outcome.OK


async def through_a_freeze(cluster: Cluster) -> list[Try]:
    """One try on a frozen server, one more, and one after it was thawed."""
    (pid,) = cluster.facts()["processes"]
    session = Session(ENGINE, cluster.address, level_of(ENGINE, ""))
    assert await session.connect() is None
    os.kill(pid, signal.SIGSTOP)
    try:
        tries = [await session.run(body(BUMP(1))) for _ in range(2)]
    finally:
        os.kill(pid, signal.SIGCONT)
    failure = await session.connect()
    while failure is not None:
        failure = await session.connect()
    tries.append(await session.run(body(BUMP(1))))
    await session.close()
    return tries


def test_killed_server_is_fail_before_commit_and_refused_afterwards(tmp_path: Path) -> None:
    """A server that is gone fails what it had not committed, and then every connection."""
    cluster = start(sale_plan(engine="oceanbase"), Place(tmp_path, lambda _: None))
    (pid,) = cluster.facts()["processes"]

    async def run() -> list[Try]:
        session = Session(ENGINE, cluster.address, level_of(ENGINE, ""))
        assert await session.connect() is None

        def killed() -> Body:
            yield BUMP(1)
            os.kill(pid, signal.SIGKILL)
            yield BUMP(2)
            return Reply(1)

        return [await session.run(killed()), await session.run(body(BUMP(1)))]

    try:
        with closing(ENGINE.control(cluster.address, "test")) as control:
            control.prepare([SHELF])
        lost, refused = uvloop.run(run())
    finally:
        cluster.stop(keep=False)

    assert lost.failure is not None
    assert (lost.outcome, lost.failure.drop, lost.failure.error_class) == (Outcome.FAIL, True, "connection")
    assert refused.failure is not None
    assert (refused.outcome, refused.stage) == (Outcome.FAIL, Stage.CONNECT)
    assert refused.failure.error_class == "connection"
