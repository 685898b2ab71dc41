"""A database of one table in memory: rows are locked by their writers, and read in place, committed or not."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from loadgen.engines.engine import Address, Control, Failure, Level
from loadgen.hermitage.waits import SESSION_ID, WAITS
from loadgen.op import Outcome, Stage
from loadgen.workload import Call, Result

UPDATE = re.compile(r"UPDATE test SET value = (\d+) WHERE id = (\d+)")
DEADLOCK, CONFLICT, LOST, SYNTAX = "deadlock", "conflict", "connection", "other"


class FakeError(Exception):
    """What the fake driver raises; its text is the class of the error."""


class FakeServer:
    """The table, its row locks, and what is to go wrong."""

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}
        self.owners: dict[int, FakeConnection] = {}
        self.waiting: dict[FakeConnection, tuple[int, asyncio.Future[None]]] = {}
        self.connections = 0
        self.asked = 0
        self.fails: dict[tuple[int, str], str] = {}
        """``(connection, beginning of a statement)`` -> the class of the error that it meets."""
        self.names_blockers = True
        self.tells_of_waits = True
        self.patience = 3
        """How often it is asked who waits before it sees that two wait for each other."""

    def who_waits(self) -> list[tuple[int, int | None]]:
        """The rows of the question; breaks a deadlock in the end."""
        self.asked += 1
        pairs = [(waiter, self.owners[key]) for waiter, (key, _) in self.waiting.items() if key in self.owners]
        if len(pairs) > 1 and self.asked > self.patience:
            self.waiting.pop(pairs[-1][0])[1].set_exception(FakeError(DEADLOCK))
        if not self.tells_of_waits:
            return []
        return [(waiter.number, owner.number if self.names_blockers else None) for waiter, owner in pairs]


class FakeConnection:
    """One session. Its number counts from 0, the watcher's."""

    verified: Mapping[str, str] = {}

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.number = server.connections
        self.undo: dict[int, int] = {}
        server.connections += 1

    async def begin(self) -> None:
        """Nothing to do."""
        self._fail("BEGIN")

    async def execute(self, call: Call) -> Result:
        """One of the few statements that the cases under test need."""
        sql = call[0].postgres
        self._fail(sql)
        server = self.server
        if call[0] is SESSION_ID:
            return Result(1, [(self.number,)], -1)
        if call[0] in WAITS["postgres"]:
            return Result(0, server.who_waits(), -1)
        if sql.startswith("TRUNCATE"):
            server.rows = {}
        elif sql.startswith("INSERT"):
            server.rows = {1: 10, 2: 20}
        elif match := UPDATE.fullmatch(sql):
            await self._write(int(match[2]), int(match[1]))
            return Result(1, (), -1)
        elif sql.startswith("SELECT"):
            return Result(len(server.rows), sorted(server.rows.items()), -1)
        return Result(0, (), -1)

    async def commit(self) -> None:
        """Keep what was written."""
        self._fail("COMMIT")
        self._give_back()

    async def rollback(self) -> None:
        """Take back what was written."""
        self.server.rows |= self.undo
        self._give_back()

    async def close(self) -> None:
        """The server rolls back."""
        await self.rollback()

    async def _write(self, key: int, value: int) -> None:
        server = self.server
        while server.owners.get(key, self) is not self:
            woken = asyncio.get_running_loop().create_future()
            server.waiting[self] = (key, woken)
            await woken
        server.owners[key] = self
        self.undo.setdefault(key, server.rows[key])
        server.rows[key] = value

    def _give_back(self) -> None:
        server, self.undo = self.server, {}
        server.owners = {key: owner for key, owner in server.owners.items() if owner is not self}
        for waiter, (key, woken) in list(server.waiting.items()):
            if key not in server.owners:
                del server.waiting[waiter]
                if not woken.done():
                    woken.set_result(None)

    def _fail(self, sql: str) -> None:
        for (number, beginning), what in self.server.fails.items():
            if number == self.number and sql.startswith(beginning):
                raise FakeError(what)


class FakeEngine:
    """The engine. It calls itself PostgreSQL's name, whose question for waits it answers."""

    name = "postgres"
    wire = "postgres"
    title = "the fake"
    default_level = "read committed"
    levels: Mapping[str, Level] = {"read committed": Level("read committed", "read-committed", "")}

    def __init__(self, server: FakeServer) -> None:
        self.server = server

    def classify(self, error: BaseException, stage: Stage) -> Failure:
        """By the error's text, which is its class; a lost COMMIT is unknown."""
        kind = str(error)
        unknown = stage is Stage.COMMIT and kind == LOST
        outcome = Outcome.INFO if unknown else Outcome.FAIL
        return Failure(outcome, kind, kind, retry=not unknown, drop=kind == LOST)

    async def connect(self, address: Address, level: Level, run_id: str, *, reader: bool = False) -> FakeConnection:
        """Another session."""
        return FakeConnection(self.server)

    def control(self, address: Address, run_id: str) -> Control:
        """Not needed."""
        raise NotImplementedError


def play_on(server: FakeServer, case: Any, times: int = 1) -> Any:
    """Play ``case`` on ``server``; the last play."""
    from loadgen.hermitage.players import Players

    async def played() -> Any:
        engine = FakeEngine(server)
        async with Players(engine, Address(), engine.levels["read committed"]) as players:
            for _ in range(times):
                play = await players.play(case)
            return play

    return asyncio.run(played())
