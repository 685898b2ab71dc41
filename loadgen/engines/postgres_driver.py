"""asyncpg, and the only file that knows it: opening connections, the load's fast one, and what its errors say."""

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode
from weakref import WeakValueDictionary

import asyncpg

from loadgen.engines.address import in_turn
from loadgen.engines.engine import CONNECT_TIMEOUT_S, Address, Connection, Level
from loadgen.engines.network import NameLookupError, TlsError, explained
from loadgen.engines.postgres_session import load_settings, pools_transactions, refusal_of, set_up
from loadgen.engines.postgres_tls import file_parameters, tls_of
from loadgen.engines.postgres_wire import (
    ConnectionLostError,
    RolledBackAtCommitError,
    ServerError,
    UnconfirmedCommitError,
    WireConnection,
    statement_names,
)
from loadgen.engines.watchdog import watchdog
from loadgen.errors import SessionRefused
from loadgen.workload import Call, Result, Statement

T = TypeVar("T")

LOAD_NAME = "loadgen-load"
"""The application_name of the load's sessions: one run at a time has a database's lock, so they are that run's."""
CONTROL_NAME = "loadgen-control"

LOST = "08006"
"""The code of a connection that the server ended without saying why."""
ROLLED_BACK = "25P02"
"""The code of a COMMIT that the server answered with ROLLBACK, because the transaction had already failed."""
READ_ONLY = "25006"
"""The code of a server that takes no writes."""
UNCONFIRMED = "01000"
"""The code of a COMMIT that came with a warning: a wait for a synchronous standby that was cut short ends in one."""

_sessions: "WeakValueDictionary[tuple[str, str], WireConnection | PublicConnection]" = WeakValueDictionary()
"""The load's sessions of this process, by the server's process that each one said it has."""

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""All that asyncpg raises for what a server, a network or an operator did."""


class ErrorFacts(NamedTuple):
    """What an error says. ``sqlstate`` is empty where no server sent one; ``lost``: the connection can't be used.

    ``before_commit``: it came with COMMIT, but says itself that the server had not come to that yet.
    """

    sqlstate: str
    code: str
    message: str
    identifiers: frozenset[str] = frozenset()
    lost: bool = False
    before_commit: bool = False


async def open_connection(address: Address, name: str) -> Any:
    """An asyncpg connection; of several hosts to the first that takes writes, unless the address says otherwise.

    No setting but its name travels with the start-up: a pooler refuses or drops the others (see postgres_session).
    Nothing is kept prepared on the server by itself: a pool may keep it longer than this connection. Raises asyncpg's
    errors, OSError or TimeoutError: the last host's.
    """
    parameters = address.parameters
    settings = {"application_name": name}
    if "options" in parameters:
        settings["options"] = parameters["options"]
    wanted = parameters.get("target_session_attrs", "read-write" if "," in address.host else "any")
    problem: BaseException | None = None
    for member, within_s in in_turn(address):
        tls = False if member.socket else tls_of(parameters)
        files = file_parameters(parameters) if isinstance(tls, str) else {}
        try:
            connection = await asyncpg.connect(
                "postgres://?" + urlencode(files) if files else None,
                # Nothing is left out that asyncpg would take from the environment instead.
                host=member.socket or member.host,
                port=member.port or 5432,
                user=address.user,
                password=address.password,
                database=address.database or address.user,
                timeout=within_s,
                ssl=tls,
                direct_tls=parameters.get("sslnegotiation") == "direct",
                target_session_attrs=wanted,
                krbsrvname=parameters.get("krbsrvname", "postgres"),
                gsslib=parameters.get("gsslib", "gssapi"),
                server_settings=settings,
                statement_cache_size=0,
            )
        except Exception as error:  # noqa: BLE001 - the next host may answer; the last host's error is raised
            problem = explained(error, member)
        else:
            _keep_alive(connection, parameters)
            return connection
    assert problem is not None
    raise problem


def _keep_alive(connection: Any, parameters: Mapping[str, str]) -> None:
    """Ask the kernel for the keep-alives that the parameters name; a unix socket has none."""
    wanted = {option: int(parameters[name]) for name, option in _KEEPALIVES.items() if name in parameters}
    if not wanted or parameters.get("keepalives") == "0":
        return
    opened = connection._transport.get_extra_info("socket")
    with suppress(OSError):
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in wanted.items():
            opened.setsockopt(socket.IPPROTO_TCP, option, value)


_KEEPALIVES = {
    "keepalives_idle": socket.TCP_KEEPIDLE,
    "keepalives_interval": socket.TCP_KEEPINTVL,
    "keepalives_count": socket.TCP_KEEPCNT,
    "tcp_user_timeout": socket.TCP_USER_TIMEOUT,
}


async def open_load(
    address: Address,
    level: Level,
    run_id: str,
    *,
    reader: bool = False,
    merge: bool = False,
) -> Connection:
    """A connection for the load: in our schema, at ``level``, with the timeouts that every engine gets, and verified.

    ``merge`` sends BEGIN, and statements on whose answers nothing depends, with the next statement or with COMMIT.
    Raises SessionRefused, or asyncpg's errors, OSError or TimeoutError.
    """
    connection = await open_connection(address, LOAD_NAME)
    try:
        try:
            verified = await asyncio.wait_for(
                set_up(connection, load_settings(level), run_id, reader=reader), CONNECT_TIMEOUT_S
            )
        except TimeoutError:
            raise TimeoutError(
                "the server accepted the login and has not answered since. A pooler with a full pool behaves "
                "like this: its pool must be larger than the number of sessions"
            ) from None
        # Under another role a user may not see since when its own session is there.
        backend = (verified["pid"], verified.get("began", ""))
        twin = _sessions.get(backend)
        if twin is not None and not twin.lost and backend[1]:
            raise SessionRefused(pools_transactions(address.socket or f"{address.host}:{address.port}"))
        session = await _session(connection, verified, merge=merge)
    except BaseException as error:
        connection.terminate()
        if isinstance(error, asyncpg.PostgresError) and (refused := refusal_of(error_facts(error))):
            raise SessionRefused(refused) from error
        raise
    _sessions[backend] = session
    return session


async def _session(connection: Any, verified: Mapping[str, str], *, merge: bool) -> "WireConnection | PublicConnection":
    # Attributes that asyncpg does not promise: without them its public calls do, at twice the cost.
    if not hasattr(getattr(connection, "_transport", None), "set_protocol") or not hasattr(connection, "_protocol"):
        return PublicConnection(connection, verified)
    if not merge:
        return WireConnection(connection, verified)
    names = statement_names()
    prepared = [await connection.prepare(sql, name=next(names)) for sql in ("BEGIN", "COMMIT")]
    return WireConnection(connection, verified, *prepared)


class PublicConnection:
    """One session of the load by asyncpg's public calls alone; WireConnection does the same for half the cost."""

    def __init__(self, connection: Any, verified: Mapping[str, str]) -> None:
        self.steps = 0
        self.verified = verified
        self._connection = connection
        self._names = statement_names()
        self._warned = False
        self._prepared: dict[Statement, Any] = {}
        connection.add_log_listener(self._hear)
        watchdog().add(self)

    @property
    def lost(self) -> bool:
        """Whether it can't be used any more."""
        return bool(self._connection.is_closed())

    async def begin(self) -> None:
        """Start a transaction, at the session's isolation level."""
        await self._watched(self._connection.execute("BEGIN"))

    async def execute(self, call: Call) -> Result:
        """Run one statement."""
        statement, values = call
        if statement not in self._prepared:
            prepare = self._connection.prepare(statement.postgres, name=next(self._names))
            self._prepared[statement] = await self._watched(prepare)
        prepared = self._prepared[statement]
        rows = await self._watched(prepared.fetch(*values))
        count = (prepared.get_statusmsg() or "").rpartition(" ")[2]
        return Result(int(count) if count.isdigit() else 0, rows, rows[0][0] if rows else -1)

    async def commit(self) -> None:
        """Commit; raises unless the answer is the plain COMMIT."""
        self._warned = False
        answer = await self._watched(self._connection.execute("COMMIT"))
        if answer != "COMMIT":
            raise RolledBackAtCommitError
        if self._warned:
            raise UnconfirmedCommitError

    async def rollback(self) -> None:
        """Roll back what is open."""
        if self._connection.is_in_transaction():
            await self._watched(self._connection.execute("ROLLBACK"))

    async def close(self) -> None:
        """Close at once, without waiting for the server."""
        watchdog().remove(self)
        self.abort()

    def abort(self) -> None:
        """Cut the connection. Its waiters get an error."""
        with suppress(Exception):
            self._connection.terminate()

    async def _watched(self, work: Awaitable[T]) -> T:
        self.steps += 1
        try:
            return await work
        finally:
            self.steps += 1

    def _hear(self, _: Any, message: Any) -> None:
        # asyncpg passes it on before it wakes whoever waits for the COMMIT's own answer: both by call_soon, in order.
        severity = getattr(message, "severity_en", None) or getattr(message, "severity", "")
        self._warned = self._warned or severity == "WARNING"


def error_facts(error: BaseException) -> ErrorFacts:
    """The message of ``error``."""
    cause = error.__cause__
    closed = (asyncpg.ConnectionDoesNotExistError, ConnectionLostError)
    if isinstance(error, closed) and isinstance(cause, (asyncpg.PostgresError, ServerError)):
        # The server's last words before it closed the connection say more than that it was closed.
        return error_facts(cause)._replace(lost=True)
    if isinstance(error, ServerError):
        return _from_server(error.sqlstate, error.severity, str(error), error.identifiers, error.before_commit)
    if isinstance(error, asyncpg.PostgresError):
        named = (getattr(error, f"{kind}_name", None) for kind in ("schema", "table", "column", "constraint"))
        severity = getattr(error, "severity_en", None) or getattr(error, "severity", "")
        sqlstate = str(error.sqlstate or LOST)
        return _from_server(sqlstate, str(severity), str(error), frozenset(name for name in named if name), False)
    if isinstance(error, ConnectionLostError):
        return ErrorFacts(LOST, LOST, str(error), lost=True)
    if isinstance(error, RolledBackAtCommitError):
        return ErrorFacts(ROLLED_BACK, ROLLED_BACK, "COMMIT was answered with ROLLBACK")
    if isinstance(error, UnconfirmedCommitError):
        return ErrorFacts(UNCONFIRMED, UNCONFIRMED, "COMMIT was answered with a warning")
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return ErrorFacts(READ_ONLY, READ_ONLY, "the server is read-only: not, or no longer, the primary", lost=True)
    if isinstance(error, NameLookupError | TlsError):
        return ErrorFacts("", type(error).__name__, str(error), lost=True)
    if isinstance(error, OSError) and not isinstance(error, TimeoutError) and error.errno:
        return ErrorFacts("", errno.errorcode.get(error.errno, "OSError"), os.strerror(error.errno), lost=True)
    # A value that does not fit its parameter was never sent; after all others nobody knows what was.
    return ErrorFacts("", type(error).__name__, str(error), lost=not isinstance(error, ValueError))


def _from_server(
    sqlstate: str, severity: str, message: str, identifiers: frozenset[str], before_commit: bool
) -> ErrorFacts:
    lost = sqlstate.startswith("08") or severity in ("FATAL", "PANIC")
    return ErrorFacts(sqlstate, sqlstate, message, identifiers, lost, before_commit)
