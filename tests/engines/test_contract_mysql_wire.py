"""MySQL, TiDB and OceanBase keep the engines' contract."""

import asyncio
from typing import ClassVar

import pytest

from loadgen.engines import engine_of
from loadgen.engines.engine import LOCK_TIMEOUT_S, Connection, Control, level_of
from loadgen.engines.session import Session, Try
from loadgen.op import Outcome, Stage
from tests.engines.contract import NOTE, TAKE, EngineContract, Server, note, take_and_note
from workloads import flashsale


class MysqlWireContract(EngineContract):
    """The contract, for an engine of the MySQL wire."""

    engine: ClassVar[str]

    @pytest.fixture
    def server(self, request: pytest.FixtureRequest) -> Server:
        """The one embedded server."""
        return Server(engine_of(self.engine), request.getfixturevalue(f"{self.engine}_cluster").address)

    def end_sessions(self, control: Control) -> None:
        """As an administrator would."""
        listed = "SELECT id FROM information_schema.processlist WHERE db = 'loadgen' AND id <> CONNECTION_ID()"
        for (session,) in control.query(listed):
            control.query(f"KILL {session}")


@pytest.mark.server("mysql")
class TestMysql(MysqlWireContract):
    """Below SERIALIZABLE, which reads with locks, a write goes by the latest commit, whatever the snapshot showed."""

    engine = "mysql"
    p4_allowed: ClassVar = ("read uncommitted", "read committed", "repeatable read")
    p4_prevented: ClassVar = ("serializable",)


@pytest.mark.server("tidb")
class TestTidb(MysqlWireContract):
    """With pessimistic transactions no level prevents a lost update, with optimistic ones the only one does."""

    engine = "tidb"
    p4_allowed: ClassVar = ("read committed", "repeatable read")
    p4_prevented: ClassVar = ("repeatable read optimistic",)


@pytest.mark.server("tidb")
class TestTidbOptimistic(TestTidb):
    """All of it with optimistic transactions: no statement waits, and COMMIT is where they learn of each other."""

    level = "repeatable read optimistic"

    def test_lock_that_never_comes_is_a_timeout(self, server: Server, control: Control) -> None:
        """There is no lock: both write, the first COMMIT wins, and the other one is refused clearly."""

        async def use(connections: list[Connection]) -> list[int]:
            first, second = connections
            for connection in connections:
                await connection.begin()
            versions = [(await connection.execute(TAKE(1, 0))).version for connection in connections]
            await first.commit()
            with pytest.raises(Exception) as raised:
                await second.commit()
            await second.rollback()
            failure = server.engine.classify(raised.value, Stage.COMMIT)
            assert (failure.outcome, failure.code, failure.retry) == (Outcome.FAIL, "9007", True)
            return versions

        assert self.with_connections(server, 2, use) == [1, 1], "the refused one's version is nobody's"
        assert control.query("SELECT available, version FROM stock WHERE sku = 0") == [(29, 1)]

    def test_lock_that_was_read_is_checked_at_commit(self, server: Server, control: Control) -> None:
        """SELECT ... FOR UPDATE waits for nobody, and refuses COMMIT if the row was written since."""

        async def use(connections: list[Connection]) -> str:
            reader, writer = connections
            await reader.begin()
            assert (await reader.execute(flashsale.READ_LOCKED(0))).rows[0][0] == 30
            assert (await writer.execute(TAKE(1, 0))).version == 1
            await reader.execute(NOTE(1, 1))
            with pytest.raises(Exception) as raised:
                await reader.commit()
            return server.engine.classify(raised.value, Stage.COMMIT).code

        assert self.with_connections(server, 2, use) == "9007"
        assert control.query("SELECT count(*) FROM releases") == [(0,)]

    def test_key_that_is_there_already_is_refused_at_commit(self, server: Server, control: Control) -> None:
        """No statement looks for it; the refusal is clear, and nothing of the transaction stays."""

        async def use(sessions: list[Session]) -> list[Try]:
            return [await sessions[0].run(body) for body in (note(1), take_and_note(1), note(2))]

        tried = self.with_sessions(server, 1, use)
        assert [one.outcome for one in tried] == [Outcome.OK, Outcome.FAIL, Outcome.OK]
        assert tried[1].failure is not None
        assert (tried[1].stage, tried[1].failure.code, tried[1].failure.retry) == (Stage.COMMIT, "1062", False)
        assert sorted(control.query("SELECT id FROM releases")) == [(1,), (2,)]
        assert control.query("SELECT available, version FROM stock WHERE sku = 0") == [(30, 0)]

    def test_connection_that_is_closed_in_a_statement_ends_it(self, server: Server, control: Control) -> None:
        """COMMIT waits for a transaction that locks: cut there, nobody knows, and the session does not hang."""

        async def use(sessions: list[Session]) -> Try:
            (session,) = sessions
            holder = await server.engine.connect(server.address, level_of(server.engine, "repeatable read"), "")
            await holder.begin()
            await holder.execute(TAKE(1, 0))
            waiting = asyncio.create_task(session.run(take_and_note(7)))
            done, _ = await asyncio.wait({waiting}, timeout=LOCK_TIMEOUT_S / 4)
            assert not done, "its COMMIT should wait for the lock"
            await session.close()
            tried = await asyncio.wait_for(waiting, LOCK_TIMEOUT_S / 4)
            await holder.rollback()
            await holder.close()
            return tried

        tried = self.with_sessions(server, 1, use)
        assert (tried.outcome, tried.stage) == (Outcome.INFO, Stage.COMMIT)
        self.wait_until(lambda: control.sessions() == 0)
        taken = control.query("SELECT available, version FROM stock WHERE sku = 0")
        noted = control.query("SELECT count(*) FROM releases")
        assert (taken, noted) in (([(30, 0)], [(0,)]), ([(29, 1)], [(1,)])), "all of it, or nothing"


@pytest.mark.server("oceanbase")
class TestOceanBase(MysqlWireContract):
    """Above READ COMMITTED it is snapshot isolation."""

    engine = "oceanbase"
    p4_allowed: ClassVar = ("read committed",)
    p4_prevented: ClassVar = ("repeatable read", "serializable")
