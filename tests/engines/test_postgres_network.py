"""PostgreSQL over a network that is encrypted, that dribbles, that freezes, and that breaks."""

import asyncio
import dataclasses
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvloop

from loadgen.clusters.cluster import Cluster
from loadgen.engines import watchdog
from loadgen.engines.engine import Address, Control, Engine, level_of
from loadgen.engines.postgres import ENGINE, Postgres
from loadgen.engines.session import Session
from loadgen.op import Outcome, Stage
from tests.engines.contract import BOUND_S, TAKE, note, take_and_note
from tests.plans import sale_plan
from workloads import flashsale

pytestmark = pytest.mark.server("postgres")
SSL_REQUEST = bytes.fromhex("0000000804d2162f")
MERGED = Postgres(merge_round_trips=True)


class Network:
    """A TCP server in front of the server's socket.

    ``piece`` is how many bytes of an answer travel at a time; while ``open`` is clear, answers are held back.
    """

    def __init__(self, socket: str, tls: ssl.SSLContext | None = None) -> None:
        self.piece = 65536
        self.open = asyncio.Event()
        self.open.set()
        self._socket = socket
        self._tls = tls
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def listen(self) -> int:
        """Listen; the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def close(self) -> None:
        """Listen no longer, and break what is open."""
        assert self._server is not None
        self._server.close()
        self.open.set()
        self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(8)
        if first == SSL_REQUEST:
            writer.write(b"S" if self._tls else b"N")
            await writer.drain()
            first = b""
            if self._tls:
                await writer.start_tls(self._tls)
        from_server, to_server = await asyncio.open_unix_connection(self._socket)
        self._writers += [writer, to_server]
        to_server.write(first)
        with suppress(OSError, RuntimeError):  # uvloop says so where a transport is closed
            await asyncio.gather(self._pump(reader, to_server, 65536), self._pump(from_server, writer, 0))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, piece: int) -> None:
        while data := await reader.read(65536):
            step = piece or self.piece
            for first in range(0, len(data), step):
                if not piece:
                    await self.open.wait()
                writer.write(data[first : first + step])
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()


@pytest.fixture
def control(postgres_cluster: Cluster) -> Iterator[Control]:
    """The control connection, beside the network, with a small sale's tables."""
    control = ENGINE.control(postgres_cluster.address, "test")
    control.prepare(flashsale.tables(sale_plan(skus=2, stock=100)))
    yield control
    control.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of 127.0.0.1, in one file."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{path}.key", "-out", f"{path}.crt"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl, which makes the certificate, is not installed")
    path.write_text(Path(f"{path}.key").read_text() + Path(f"{path}.crt").read_text())
    return path


@asynccontextmanager
async def behind(
    cluster: Cluster, engine: Engine, *, tls: ssl.SSLContext | None = None, parameters: dict[str, str] | None = None
) -> AsyncIterator[tuple[Network, Session]]:
    """A network in front of the cluster, and a session that is connected through it."""
    network = Network(f"{cluster.address.socket}/.s.PGSQL.{cluster.address.port}", tls)
    port = await network.listen()
    address = dataclasses.replace(
        cluster.address, socket="", host="127.0.0.1", port=port, parameters=parameters or {"sslmode": "disable"}
    )
    session = Session(engine, address, level_of(engine, ""))
    try:
        failure = await session.connect()
        assert failure is None, failure
        yield network, session
    finally:
        await session.close()
        network.close()


def run(use: Callable[[], Awaitable[None]]) -> None:
    """Run ``use`` on a loop of its own, bounded."""
    uvloop.run(asyncio.wait_for(use(), BOUND_S))  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", [ENGINE, MERGED], ids=["wire", "merged"])
@pytest.mark.parametrize("piece", [1, 7, 65536])
def test_answers_in_pieces_are_put_together(
    engine: Engine, piece: int, postgres_cluster: Cluster, control: Control
) -> None:
    """However few bytes come at a time."""

    async def use() -> None:
        async with behind(postgres_cluster, engine) as (network, session):
            network.piece = piece
            for number in range(20):
                tried = await session.run(take_and_note(number))
                assert tried.outcome is Outcome.OK, tried

    run(use)
    assert control.query("SELECT available, version FROM stock WHERE sku = 0") == [(80, 20)]


@pytest.mark.parametrize("engine", [ENGINE, MERGED], ids=["wire", "merged"])
def test_encrypted_connection_serves_as_a_plain_one(
    engine: Engine, certificate: Path, postgres_cluster: Cluster, control: Control
) -> None:
    """The statements travel inside TLS, and the certificate is looked at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def use() -> None:
        parameters = {"sslmode": "verify-full", "sslrootcert": f"{certificate}.crt"}
        async with behind(postgres_cluster, engine, tls=context, parameters=parameters) as (_, session):
            for number in range(20):
                tried = await session.run(take_and_note(number))
                assert tried.outcome is Outcome.OK, tried

    run(use)
    assert control.query("SELECT available, version FROM stock WHERE sku = 0") == [(80, 20)]


def test_certificate_of_nobody_known_is_refused(certificate: Path, postgres_cluster: Cluster) -> None:
    """verify-full means what it says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def use() -> None:
        network = Network("", context)
        port = await network.listen()
        address: Address = dataclasses.replace(
            postgres_cluster.address, socket="", host="127.0.0.1", port=port, parameters={"sslmode": "verify-full"}
        )
        failure = await Session(ENGINE, address, level_of(ENGINE, "")).connect()
        network.close()
        assert failure is not None
        assert (failure.outcome, failure.drop) == (Outcome.FAIL, True)

    run(use)


@pytest.mark.parametrize("engine", [ENGINE, MERGED], ids=["wire", "merged"])
def test_network_that_breaks_at_commit_is_info(engine: Engine, postgres_cluster: Cluster, control: Control) -> None:
    """COMMIT went out and its answer never came: it may have happened, and here it did."""

    async def use() -> None:
        async with behind(postgres_cluster, engine) as (network, session):
            assert (await session.run(note(1))).outcome is Outcome.OK
            statements = 0

            def body():  # type: ignore[no-untyped-def]
                nonlocal statements
                reply = yield from note(2)
                network.open.clear()  # From now on answers are held back.
                return reply

            waiting = asyncio.ensure_future(session.run(body()))
            await asyncio.wait({waiting}, timeout=0.3)
            assert not waiting.done()
            network.cut()
            tried = await waiting
            assert (tried.outcome, tried.stage) == (Outcome.INFO, Stage.COMMIT)
            assert tried.failure is not None
            assert tried.failure.drop
            network.open.set()
            assert (await session.run(note(3))).outcome is Outcome.OK, "the session connects again"

    run(use)
    assert (2,) in control.query("SELECT id FROM releases")


def test_network_that_breaks_before_commit_is_a_fail(postgres_cluster: Cluster, control: Control) -> None:
    """What was not committed is gone with the connection."""

    async def use() -> None:
        async with behind(postgres_cluster, ENGINE) as (network, session):
            connection = await ENGINE.connect(session._address, level_of(ENGINE, ""), "")
            await connection.begin()
            await connection.execute(TAKE(1, 0))
            network.cut()
            with pytest.raises(Exception) as raised:
                await connection.execute(TAKE(1, 0))
            failure = ENGINE.classify(raised.value, Stage.STATEMENT)
            assert (failure.outcome, failure.retry, failure.drop) == (Outcome.FAIL, True, True)
            await connection.close()

    run(use)
    assert control.query("SELECT version FROM stock WHERE sku = 0") == [(0,)]


@pytest.mark.parametrize("engine", [ENGINE, MERGED], ids=["wire", "merged"])
def test_network_that_freezes_is_left(
    engine: Engine, postgres_cluster: Cluster, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No error ever comes; the watchdog ends the wait, and the outcome is that of a lost connection."""
    monkeypatch.setattr(watchdog, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(watchdog, "STUCK_AFTER_S", 0.3)

    async def use() -> None:
        async with behind(postgres_cluster, engine) as (network, session):
            assert (await session.run(take_and_note(1))).outcome is Outcome.OK
            network.open.clear()
            tried = await session.run(take_and_note(2))
            assert tried.outcome is Outcome.FAIL
            assert tried.failure is not None
            assert (tried.failure.error_class, tried.failure.drop) == ("connection", True)
            assert not session.connected

    run(use)
