"""Proxies between the load and a server that lie about COMMITs, on both wires, and that stall or cut connections.

A proxy listens on 127.0.0.1 and passes everything on, except the COMMITs that it lies about. It counts each lie that it
told, with the text of the statement that marked the transaction, so that a trial can compare what was told with what
was found.
"""

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from loadgen.engines.engine import Address

EARLY_S = 0.3
"""How long before its COMMIT an early acknowledgement comes, and how late a late one is."""
START_WITHIN_S = 10.0

_PG_SSL_REQUEST = 80877103
_PG_ACKNOWLEDGED = b"C\0\0\0\x0bCOMMIT\0" + b"Z\0\0\0\5I"
_PG_CONFLICT = b"SERROR\0VERROR\0C40001\0Mcould not serialize access due to concurrent update\0\0"
_MYSQL_ACKNOWLEDGED = b"\x07\0\0\1\0\0\0\2\0\0\0"
_MYSQL_CONFLICT = b"\xff" + (1213).to_bytes(2, "little") + b"#40001Deadlock found when trying to get lock"


class Lie(Enum):
    """What a proxy does with a COMMIT that it lies about."""

    ROLLED_BACK = "acknowledged, and rolled back"
    ROLLED_BACK_LATE = "rolled back, and acknowledged late"
    EARLY = "acknowledged before it is committed"
    ERROR = "committed, and answered with a conflict"


@dataclass
class Deceit:
    """Which COMMITs are lied about: one in ``one_in`` of those after a statement with ``marked`` in it."""

    lie: Lie
    marked: str
    one_in: int
    seed: int
    most: int = 1_000_000
    told: int = 0
    draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    def lies_now(self) -> bool:
        """Whether the next COMMIT of a marked transaction is lied about; it is counted as told then."""
        if self.told >= self.most or self.draw.randrange(self.one_in):
            return False
        self.told += 1
        return True


class Proxy:
    """Passes connections on to ``server``; with a ``deceit`` it lies.

    ``frozen`` holds back every byte in both directions, and ``cut`` ends all connections of the moment.
    """

    def __init__(self, wire: str, server: Address, deceit: Deceit | None = None) -> None:
        self.wire = wire
        self.deceit = deceit
        self.port = 0
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._flowing: asyncio.Event | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Listen on a free port."""
        self._thread.start()
        if not self._started.wait(START_WITHIN_S) or not self.port:
            raise RuntimeError("the proxy did not start")

    def stop(self) -> None:
        """End all connections and listen no longer."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_WITHIN_S)

    def freeze(self) -> None:
        """Hold back every byte from now on: the connections stay open and nothing comes through."""
        assert self._flowing is not None
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        """Let everything through again."""
        assert self._flowing is not None
        self._loop.call_soon_threadsafe(self._flowing.set)

    def cut(self) -> None:
        """Reset every connection of the moment."""

        def reset() -> None:
            for writer in list(self._writers):
                writer.transport.abort()

        self._loop.call_soon_threadsafe(reset)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._started.set()
        self._loop.run_forever()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _listen(self) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = self._server
        try:
            if server.socket:
                path = f"{server.socket}/.s.PGSQL.{server.port or 5432}" if self.wire == "postgres" else server.socket
                upstream = await asyncio.open_unix_connection(path)
            else:
                upstream = await asyncio.open_connection(server.host, server.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, upstream[1]}
        dialogue = (_Postgres if self.wire == "postgres" else _Mysql)(self.deceit, reader, writer, *upstream)
        pumps = [self._pump(dialogue.from_client()), self._pump(dialogue.from_server())]
        dialogue.flowing = self._flowing
        try:
            with contextlib.suppress(asyncio.CancelledError):  # the proxy is stopped
                await asyncio.gather(*pumps)
        finally:
            self._writers -= {writer, upstream[1]}
            for end in (writer, upstream[1]):
                end.close()

    async def _pump(self, side: Coroutine[Any, Any, None]) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await side


class _Dialogue:
    """One connection through the proxy: messages of the client, and what the server is made to have said."""

    flowing: asyncio.Event | None = None

    def __init__(
        self,
        deceit: Deceit | None,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self._deceit = deceit
        self._client, self._to_client, self._server, self._to_server = client, to_client, server, to_server
        self._marked = False
        self._rewrite: Callable[[bytes], bytes] | None = None
        """What the messages of the answer to a COMMIT that was lied about become, until it is complete."""
        self._answered = asyncio.Event()

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self.flowing is not None:
            await self.flowing.wait()
        writer.write(data)
        await writer.drain()

    def _hear(self, sql: str) -> None:
        """Note what a transaction runs."""
        if self._deceit is not None and self._deceit.marked in sql:
            self._marked = True

    def _lies_now(self) -> bool:
        marked, self._marked = self._marked, False
        return marked and self._deceit is not None and self._deceit.lies_now()

    async def _lie(self, commit: bytes, rollback: bytes, acknowledged: bytes) -> None:
        """Do with ``commit`` what the deceit says, and wait until the server has answered."""
        assert self._deceit is not None
        lie = self._deceit.lie
        self._answered.clear()
        if lie is Lie.EARLY:
            self._rewrite = lambda _: b""
            await self._pass(acknowledged, self._to_client)
            await asyncio.sleep(EARLY_S)
            await self._pass(commit, self._to_server)
        elif lie is Lie.ERROR:
            self._rewrite = self._refused
            await self._pass(commit, self._to_server)
        else:
            if lie is Lie.ROLLED_BACK_LATE:
                await asyncio.sleep(EARLY_S)
            self._rewrite = self._acknowledged
            await self._pass(rollback, self._to_server)
        await self._answered.wait()

    def _refused(self, message: bytes) -> bytes:
        raise NotImplementedError

    def _acknowledged(self, message: bytes) -> bytes:
        raise NotImplementedError


class _Postgres(_Dialogue):
    """Version 3.0 of PostgreSQL's protocol. COMMIT is a simple query."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._statements: dict[bytes, str] = {}

    async def from_client(self) -> None:
        try:
            await self._start_up()
            while True:
                head = await self._client.readexactly(5)
                body = await self._client.readexactly(int.from_bytes(head[1:]) - 4)
                await self._one(head[:1], body, head + body)
        finally:
            self._to_server.close()

    async def _start_up(self) -> None:
        while True:
            head = await self._client.readexactly(4)
            body = await self._client.readexactly(int.from_bytes(head) - 4)
            if int.from_bytes(body[:4]) == _PG_SSL_REQUEST:
                await self._pass(b"N", self._to_client)
                continue
            await self._pass(head + body, self._to_server)
            return

    async def _one(self, kind: bytes, body: bytes, message: bytes) -> None:
        if kind == b"P":
            name, sql, *_ = body.split(b"\0")
            self._statements[name] = sql.decode(errors="replace")
        elif kind == b"B":
            self._hear(self._statements.get(body.split(b"\0")[1], ""))
        elif kind == b"Q":
            sql = body[:-1].decode(errors="replace")
            if sql == "COMMIT" and self._lies_now():
                await self._lie(message, b"Q\0\0\0\x0dROLLBACK\0", _PG_ACKNOWLEDGED)
                return
            if sql.split(" ")[0] in ("BEGIN", "COMMIT", "ROLLBACK"):
                self._marked = False
            self._hear(sql)
        await self._pass(message, self._to_server)

    async def from_server(self) -> None:
        try:
            while True:
                head = await self._server.readexactly(5)
                message = head + await self._server.readexactly(int.from_bytes(head[1:]) - 4)
                rewrite = self._rewrite
                if rewrite is not None:
                    complete = message[:1] == b"Z"
                    message = rewrite(message)
                    if complete:
                        self._rewrite = None
                        self._answered.set()
                await self._pass(message, self._to_client)
        finally:
            self._answered.set()
            self._to_client.close()

    def _refused(self, message: bytes) -> bytes:
        if message[:1] == b"C":
            return b"E" + (len(_PG_CONFLICT) + 4).to_bytes(4) + _PG_CONFLICT
        return message

    def _acknowledged(self, message: bytes) -> bytes:
        return b"C\0\0\0\x0bCOMMIT\0" if message[:1] == b"C" else message


class _Mysql(_Dialogue):
    """The MySQL wire's text protocol. A command's packet has the sequence number 0."""

    async def from_client(self) -> None:
        try:
            while True:
                packet = await self._packet(self._client)
                if packet[3] or packet[4:5] != b"\x03":
                    await self._pass(packet, self._to_server)
                    continue
                sql = packet[5:].decode(errors="replace")
                if sql == "COMMIT" and self._lies_now():
                    await self._lie(packet, b"\x09\0\0\0\x03ROLLBACK", _MYSQL_ACKNOWLEDGED)
                    continue
                if sql.split(" ")[0] in ("BEGIN", "COMMIT", "ROLLBACK"):
                    self._marked = False
                self._hear(sql)
                await self._pass(packet, self._to_server)
        finally:
            self._to_server.close()

    async def from_server(self) -> None:
        try:
            while True:
                packet = await self._packet(self._server)
                if self._rewrite is not None:
                    packet = self._rewrite(packet)
                    self._rewrite = None
                    self._answered.set()
                await self._pass(packet, self._to_client)
        finally:
            self._answered.set()
            self._to_client.close()

    def _refused(self, message: bytes) -> bytes:
        return len(_MYSQL_CONFLICT).to_bytes(3, "little") + message[3:4] + _MYSQL_CONFLICT

    def _acknowledged(self, message: bytes) -> bytes:
        return message

    async def _packet(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readexactly(4)
        return head + await reader.readexactly(int.from_bytes(head[:3], "little"))


@contextmanager
def proxy(wire: str, server: Address, deceit: Deceit | None = None) -> Iterator[Proxy]:
    """A proxy in front of ``server``, gone at the end of the block."""
    made = Proxy(wire, server, deceit)
    made.start()
    try:
        yield made
    finally:
        made.stop()
