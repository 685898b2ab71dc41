"""A session: one connection that runs transaction bodies, and the one place where an error becomes an outcome."""

from collections.abc import Callable
from typing import NamedTuple

from loadgen.engines.engine import Address, Connection, Engine, Failure, Level
from loadgen.errors import SessionRefused
from loadgen.op import Outcome, Stage
from loadgen.workload import Body, Conflict, Refused

# Read once: a look into an enumeration costs a quarter of a microsecond, and every transaction needs five.
_OK = Outcome.OK
_NONE, _BEGIN, _STATEMENT, _COMMIT = Stage.NONE, Stage.BEGIN, Stage.STATEMENT, Stage.COMMIT
_new = tuple.__new__
REFUSED = "session-refused"
"""The code of a connection that the server opened and that is not what the run needs: nothing was tried on it."""


class Try(NamedTuple):
    """How one try of a body ended. ``failure`` is set unless the outcome is ``ok``."""

    outcome: Outcome
    answer: int
    touched: tuple[int, ...]
    stage: Stage
    failure: Failure | None


class Session:
    """One connection, opened again when it was lost. Never more than one transaction at a time."""

    def __init__(
        self, engine: Engine, address: Address, level: Level, run_id: str = "", *, reader: bool = False
    ) -> None:
        self._engine = engine
        self._address = address
        self._level = level
        self._run_id = run_id
        self._reader = reader
        self._connection: Connection | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection to run on."""
        return self._connection is not None

    async def connect(self) -> Failure | None:
        """Open the connection if there is none; the failure if it cannot be opened."""
        if self._connection is None:
            try:
                self._connection = await self._engine.connect(
                    self._address, self._level, self._run_id, reader=self._reader
                )
            except SessionRefused as refused:
                return Failure(Outcome.FAIL, REFUSED, "session", drop=True, sample=str(refused))
            except Exception as error:  # noqa: BLE001 - the driver's errors have no common base
                return self._engine.classify(error, Stage.CONNECT)
        return None

    async def run(self, body: Body, *, single_statement: bool = False) -> Try:
        """Run one body as one transaction: once, to its commit, its refusal, or its first error.

        On any error the transaction is rolled back, always: after some errors a server keeps it open, and a COMMIT
        would keep half of it. A connection that cannot roll back is dropped.
        """
        connection = self._connection
        if connection is None:
            failure = await self.connect()
            if failure is not None:
                body.close()
                return Try(Outcome.FAIL, 0, (), Stage.CONNECT, failure)
            connection = self._connection
            assert connection is not None
        stage = _BEGIN
        try:
            if not single_statement:
                await connection.begin()
            stage = _STATEMENT
            send = body.send
            result = None
            try:
                while True:
                    result = await connection.execute(send(result))  # type: ignore[arg-type]
            except StopIteration as end:
                answer, touched = end.value
            if not single_statement:
                stage = _COMMIT
                await connection.commit()
            return _new(Try, (_OK, answer, touched, _NONE, None))
        except Refused as refused:
            await self._roll_back(connection)
            return Try(_OK, refused.answer, refused.touched, _NONE, None)
        except Conflict as conflict:
            await self._roll_back(connection)
            failure = Failure(Outcome.FAIL, conflict.code, "conflict", retry=True)
            return Try(Outcome.FAIL, 0, (), stage, failure)
        except Exception as error:  # noqa: BLE001 - whatever it is, it becomes an outcome, by the engine's table
            failure = self._engine.classify(error, stage)
            if failure.drop:
                await self.close()
            else:
                await self._roll_back(connection)
            return Try(failure.outcome, 0, (), stage, failure)

    async def close(self) -> None:
        """Drop the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _roll_back(self, connection: Connection) -> None:
        try:
            await connection.rollback()
        except Exception:  # noqa: BLE001 - what was not committed is gone with the connection
            await self.close()


SessionFactory = Callable[[], Session]
