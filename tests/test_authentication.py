"""The port of a master: whoever lacks the token gets nothing out of it and can say nothing to it."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from loadgen.clusters.cluster import Cluster
from loadgen.engines.engine import Address
from loadgen.errors import LoadgenError, PlanError
from loadgen.load import authentication, messages
from loadgen.load.authentication import HELLO, MASTER, NONCE_BYTES, SIGNED, WORKER, Channel
from tests.sale_runs import dsn_of, sale

LOAD = ("--shape", "constant", "--peak-rate", "200", "--duration", "4s", "-u", "8")
TOKEN = {"LOADGEN_TOKEN": "of this test"}


def channels(key: bytes = b"key") -> tuple[Channel, Channel]:
    """A worker's end and the master's."""
    return Channel(key, WORKER, MASTER), Channel(key, MASTER, WORKER)


@given(st.lists(st.binary(), max_size=20), st.data())
def test_each_message_is_taken_once_and_in_order(contents: list[bytes], data: st.DataObject) -> None:
    """Some may be lost on the way; what was seen, or is older than what was seen, is dropped."""
    worker, master = channels()
    sealed = [worker.seal(content)[1:] for content in contents]
    newest = -1
    for index in data.draw(st.lists(st.integers(0, max(len(sealed) - 1, 0)), max_size=40)) if sealed else []:
        assert master.opens(*sealed[index]) == (index > newest)
        newest = max(newest, index)


@given(st.binary(), st.integers(0, 2), st.integers(0), st.integers(1, 255))
def test_altered_message_is_dropped(content: bytes, frame: int, place: int, change: int) -> None:
    """One byte of counter, HMAC or content is another one."""
    worker, master = channels()
    frames = worker.seal(content)[1:]
    if not frames[frame]:
        return
    altered = bytearray(frames[frame])
    altered[place % len(altered)] ^= change
    assert not master.opens(*[*frames[:frame], bytes(altered), *frames[frame + 1 :]])
    assert master.opens(*frames)


def test_message_is_neither_turned_around_nor_taken_from_another_channel() -> None:
    """What a worker said is not what its master says, and another worker's channel has another key."""
    worker, master = channels()
    own = worker.seal(b"content")[1:]
    other_worker, _ = channels(b"another key")

    assert not worker.opens(*own)
    assert not master.opens(*other_worker.seal(b"content")[1:])


ADDRESS = Address("db", 5432, "shop", "s3cret", "sale", parameters={"sslpassword": "k3y", "sslmode": "require"})
READY = {"address": ADDRESS.to_json(), "replicas": [ADDRESS.to_json() | {"host": "replica"}]}
DSN = "postgres://shop:s3cret@db:5432/sale?sslmode=require&sslpassword=k3y"


def test_no_secret_and_no_dsn_leave_this_host() -> None:
    """A worker elsewhere is told where the replicas are, and has to know the rest."""
    told = messages.servers_to_tell(READY, on_this_host=False)

    for secret in ("s3cret", "k3y", "shop", "sale"):
        assert secret not in repr(told)
    address, replicas = messages.servers_of_worker(told, DSN)
    assert address == ADDRESS
    assert [(replica.host, replica.password) for replica in replicas] == [("replica", "s3cret")]


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        ("", "it has no DSN: give it the master's by LOADGEN_DSN"),
        ("postgres://shop:s3cret@other:5432/sale", "another server, database or user"),
        ("postgres://shop:s3cret@db:5433/sale", "another server, database or user"),
        ("postgres://somebody:s3cret@db:5432/sale", "another server, database or user"),
        ("postgres://shop:s3cret@db:5432/test", "another server, database or user"),
    ],
)
def test_worker_with_another_dsn_is_refused(dsn: str, message: str) -> None:
    """In one line, and without the password."""
    with pytest.raises(PlanError, match=message) as raised:
        messages.servers_of_worker(messages.servers_to_tell(READY, on_this_host=False), dsn)

    assert "s3cret" not in str(raised.value)


def options(**changes: Any) -> SimpleNamespace:
    """Locust's options of a process without a master."""
    known = {"processes": None, "master": False, "worker": False}
    return SimpleNamespace(**known | {"master_host": "127.0.0.1", "master_bind_host": "127.0.0.1"} | changes)


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that has taken no token yet, with a cache folder of its own."""
    monkeypatch.setattr(authentication, "_key", b"")
    monkeypatch.delenv("LOADGEN_TOKEN", raising=False)
    monkeypatch.setenv("LOADGEN_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("no_key")
class TestToken:
    """Where a process takes its token from."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"master": True, "master_bind_host": "*"},
            {"master": True, "master_bind_host": "0.0.0.0"},
            {"master": True, "master_bind_host": "10.1.2.3"},
            {"worker": True, "master_host": "load-1.example"},
            {"worker": True, "processes": 4, "master_host": "10.1.2.3"},
        ],
        ids=str,
    )
    def test_without_one_nothing_goes_beyond_this_host(self, changes: dict[str, Any]) -> None:
        """One line says how to set it."""
        with pytest.raises(LoadgenError, match=r"needs LOADGEN_TOKEN, .*: export LOADGEN_TOKEN="):
            authentication.take_token(options(**changes))

    def test_given_one_is_taken_once_and_no_child_sees_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Locust parses its command line more than once; the environment that servers get has no token."""
        monkeypatch.setenv("LOADGEN_TOKEN", "given")
        authentication.take_token(options(master=True, master_bind_host="*"))
        key = authentication._key
        authentication.take_token(options(master=True, master_bind_host="*"))

        assert key
        assert authentication._key == key
        assert "LOADGEN_TOKEN" not in os.environ

    def test_own_workers_share_a_fresh_one(self) -> None:
        """Two runs with --processes have two."""
        keys = set()
        for _ in range(2):
            authentication._key = b""
            authentication.take_token(options(processes=2, master_bind_host="*"))
            keys.add(authentication._key)

        assert len(keys) == 2

    def test_one_user_on_one_host_needs_none(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A file of this user's alone holds it; one that others can read is refused."""
        keys = set()
        for changes in ({"master": True}, {"worker": True}):
            monkeypatch.setattr(authentication, "_key", b"")
            authentication.take_token(options(**changes))
            keys.add(authentication._key)
        assert len(keys) == 1
        token = tmp_path / "cache" / "token"
        assert [path.name for path in token.parent.iterdir()] == ["token"]
        assert token.stat().st_mode & 0o777 == 0o600

        token.chmod(0o644)
        monkeypatch.setattr(authentication, "_key", b"")
        with pytest.raises(LoadgenError, match="is not this user's alone"):
            authentication.take_token(options(worker=True))


class Intruder:
    """Somebody who has reached a master's port."""

    def __init__(self, port: int, identity: bytes) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, identity)
        self._socket.connect(f"tcp://127.0.0.1:{port}")
        self.got: list[list[bytes]] = []

    def say(self, *frames: bytes) -> None:
        """Send one message."""
        self._socket.send_multipart(frames)

    def listen(self, for_s: float) -> None:
        """Collect what comes."""
        deadline = time.monotonic() + for_s
        while (left_s := deadline - time.monotonic()) > 0:
            if self._socket.poll(int(left_s * 1000)):
                self.got.append(self._socket.recv_multipart())

    def close(self) -> None:
        """Leave."""
        self._socket.close(linger=0)
        self._context.term()


def locust_message(kind: str, data: Any, node: str) -> bytes:
    """A message as a plain Locust worker sends it."""
    packed: bytes = msgpack.dumps((kind, data, node))
    return packed


@pytest.fixture
def port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


@pytest.fixture
def dsn(cluster: Cluster) -> Iterator[dict[str, str]]:
    """The environment of master and workers: the session's server, and a token."""
    yield {"LOADGEN_DSN": dsn_of(cluster.address, "postgres"), **TOKEN}


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
def test_intruder_gets_nothing_and_changes_nothing(
    tmp_path: Path, port: int, dsn: dict[str, str], cluster: Cluster, engine: str
) -> None:
    """Plain, forged, replayed and broken messages while a run goes on: no word of it is told, and it ends valid."""
    (tmp_path / "worker").mkdir()
    master = ("--headless", "--master", "--master-bind-port", str(port), "--expect-workers", "1", *LOAD)
    with (
        sale(tmp_path / "worker", "--worker", "--master-port", str(port), environment=dsn) as worker,
        sale(tmp_path, *master, environment=dsn) as running,
    ):
        running.wait_for_progress()
        victim = next(line for line in running.stderr.splitlines() if "reported as ready" in line).split()[2]
        intruder = Intruder(port, b"somebody")
        try:
            run_id = running.directory.name if running.directory else ""
            for node in ("somebody", victim):
                for kind, data in (
                    ("client_ready", "2.47.0"),
                    ("locustfile", {"version": "2.47.0"}),
                    ("quit", None),
                    ("client_stopped", None),
                    (messages.CLOSED, {"run_id": run_id, "facts": {}}),
                    (messages.ROWS, {"run_id": run_id, "rows": b"", "in_flight": 0, "queued": 0}),
                ):
                    intruder.say(locust_message(kind, data, node))
            nonce = b"n" * NONCE_BYTES
            intruder.say(HELLO, nonce)
            forged = Channel(b"guess", WORKER, MASTER).seal(locust_message("client_ready", "2.47.0", "somebody"))
            for frames in (forged, forged, [SIGNED], [b""], [b"\xff\xfe"], [HELLO, b"short"], [SIGNED, *[b""] * 9]):
                intruder.say(*frames)
            intruder.listen(3.0)
        finally:
            intruder.close()
        run = running.end()
        worker.end(30)

    assert run.exit_code == 0, run
    assert run.summary["verdict"] == "valid"
    assert not run.summary["died"]
    assert run.summary["orders"]["due"] > 700
    told = b"".join(b"".join(frames) for frames in intruder.got)
    assert b"loadgen.challenge" in told
    assert b"LOADGEN_TOKEN" in told
    for secret in (cluster.address.password.encode(), b"spawn", b"loadgen.prepare", b"def tables", b"postgres"):
        assert not secret or secret not in told, told
    assert run.stderr.count("was refused: ") == 1, run


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
def test_workers_elsewhere_bring_their_own_dsn(
    tmp_path: Path, port: int, dsn: dict[str, str], cluster: Cluster, engine: str
) -> None:
    """On a port that other hosts reach: one with the DSN takes part, one with another token goes at once."""
    (tmp_path / "worker").mkdir()
    (tmp_path / "other").mkdir()
    bound = ("--master-bind-host", "0.0.0.0", "--master-bind-port", str(port))
    with (
        sale(tmp_path, "--headless", "--master", *bound, "--expect-workers", "1", *LOAD, environment=dsn) as running,
        sale(
            tmp_path / "other", "--worker", "--master-port", str(port), environment={"LOADGEN_TOKEN": "guess"}
        ) as other,
    ):
        refused = other.end(30)
        with sale(tmp_path / "worker", "--worker", "--master-port", str(port), environment=dsn) as worker:
            run = running.end()
            worker.end(30)

    assert refused.exit_code == 2, refused
    assert refused.stderr.count("has another LOADGEN_TOKEN: give both the same") == 1, refused
    assert "Traceback" not in refused.told
    assert run.exit_code == 0, run
    assert run.summary["orders"]["due"] > 700


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
def test_worker_elsewhere_without_the_dsn_is_named(
    tmp_path: Path, port: int, dsn: dict[str, str], cluster: Cluster, engine: str
) -> None:
    """The master ends with one line before any load, and the worker is told to go."""
    (tmp_path / "worker").mkdir()
    bound = ("--master-bind-host", "0.0.0.0", "--master-bind-port", str(port))
    with (
        sale(tmp_path, "--headless", "--master", *bound, "--expect-workers", "1", *LOAD, environment=dsn) as running,
        sale(tmp_path / "worker", "--worker", "--master-port", str(port), environment=TOKEN) as worker,
    ):
        run = running.end()
        worker.end(30)

    assert run.exit_code == 2, run
    assert "cannot take part: it has no DSN: give it the master's by LOADGEN_DSN" in run.stderr
    assert not run.summary


@pytest.mark.server("postgres")
@pytest.mark.parametrize("engine", ["postgres"])
@pytest.mark.parametrize("bound", ["--master-bind-port", "LOCUST_MASTER_BIND_PORT", "--master-bind-host"])
def test_forked_workers_find_their_master_wherever_it_is_bound(
    tmp_path: Path, port: int, dsn: dict[str, str], cluster: Cluster, engine: str, bound: str
) -> None:
    """A port or an address that somebody names is told to them, too: they do not wait at Locust's default."""
    named = {"--master-bind-port": str(port), "--master-bind-host": "127.0.0.2"}
    given = (bound, named[bound]) if bound in named else ()
    environment = dsn | ({} if bound in named else {bound: str(port)})
    short = (*LOAD, "--duration", "1s")
    with sale(tmp_path, "--headless", "--processes", "2", *given, *short, environment=environment) as running:
        run = running.end(40)

    assert run.exit_code == 0, run
    assert len(run.summary["client"]) > 0
    assert "reported as ready" in run.stderr


def test_port_that_is_taken_is_told_before_anything_starts(tmp_path: Path) -> None:
    """One line and exit code 2; no worker is forked."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with sale(tmp_path, "--headless", "--processes", "2", "--master-bind-port", port) as running:
            run = running.end(20)

    assert run.exit_code == 2, run
    assert run.stderr.startswith("loadgen: --master-bind-host 127.0.0.1 --master-bind-port")
    assert run.stderr.count("\n") == 1
