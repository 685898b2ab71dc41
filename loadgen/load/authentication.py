"""Workers prove the run's token. This wraps everything that Locust sends and receives, including its own messages.

A worker sends a nonce, and the master answers with its own. From then on, each message carries an HMAC over its
direction, a counter and its content. The key is derived from the token, both nonces and the worker's identity. Without
the token, nobody can send a message, replay it, send it back or use another worker's name. The master sends only its
nonce to a worker that has proved nothing. Messages are not encrypted.
"""

import contextlib
import hashlib
import hmac
import ipaddress
import logging
import os
import secrets
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gevent
from locust.exception import RPCError, RPCReceiveError, RPCSendError
from locust.rpc import Message, zmqrpc
from locust.util.exception_handler import retry
from zmq import NOBLOCK
from zmq.error import ZMQError

from loadgen.clusters.binaries import cache_folder
from loadgen.errors import LoadgenError
from loadgen.load.refusal import refuse

logger = logging.getLogger("loadgen")

VARIABLE = "LOADGEN_TOKEN"
NONCE_BYTES = 32
MOST_PENDING = 1_000
"""How many workers may have said hello and proved nothing yet: the oldest are forgotten."""
MOST_WARNINGS = 20
ROUNDS = 100_000
"""A guess at the token costs as many hashes."""

HELLO, CHALLENGE, SIGNED, REFUSED = b"loadgen.hello", b"loadgen.challenge", b"loadgen.signed", b"loadgen.refused"
MASTER, WORKER = b"master", b"worker"
WITHOUT_TOKEN = (
    f"this master takes only loadgen's workers that prove {VARIABLE}: start them with -f FILE, not with -f -"
)

_Message: Any = Message
_retrying: Any = retry()  # type: ignore[no-untyped-call]

_key = b""
"""Made of the token, once. A worker that Locust forks inherits it in memory."""


def take_token(options: Any) -> None:
    """Take the token that this process shares with its master or workers. Idempotent. Raises LoadgenError without.

    From LOADGEN_TOKEN, which no child gets to see; else for ``--processes`` a fresh one; else, on loopback, the one in
    this user's cache folder.
    """
    given = os.environ.pop(VARIABLE, "")
    if _key or not (options.processes or options.master or options.worker):
        return
    host = options.master_host if options.worker else options.master_bind_host
    if given:
        _use(given.encode())
    elif options.processes and not options.worker:
        _use(secrets.token_bytes(NONCE_BYTES))
    elif is_loopback(host):
        _use(_users_token())
    else:
        raise LoadgenError(
            f"{'--worker' if options.worker else '--master'} beyond this host needs {VARIABLE}, the same secret for "
            f"the master and its workers: export {VARIABLE}=$(openssl rand -hex 16)"
        )


def is_loopback(host: str) -> bool:
    """Whether a master that is bound to ``host`` is reached from this host only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def authenticate() -> None:
    """Let Locust talk through the sockets below."""
    zmqrpc.Server, zmqrpc.Client = MasterSocket, WorkerSocket  # type: ignore[misc]


@dataclass(slots=True)
class Channel:
    """Both directions between the master and one worker, as one of the two sees them."""

    key: bytes
    own: bytes
    peer: bytes
    sent: int = 0
    received: int = 0

    def seal(self, data: bytes) -> list[bytes]:
        """The frames of a message with this content."""
        self.sent += 1
        counter = self.sent.to_bytes(8)
        return [SIGNED, counter, self._mac(self.own, counter, data), data]

    def opens(self, counter: bytes, mac: bytes, data: bytes) -> bool:
        """Whether these frames are the peer's, and none that came before."""
        if not hmac.compare_digest(mac, self._mac(self.peer, counter, data)):
            return False
        if int.from_bytes(counter) <= self.received:
            return False
        self.received = int.from_bytes(counter)
        return True

    def _mac(self, sender: bytes, counter: bytes, data: bytes) -> bytes:
        return _hmac(self.key, sender, counter, data)


class MasterSocket(zmqrpc.Server):
    """The master's end: only what a worker has signed comes out of it, and only a worker with a channel is sent to."""

    # Locust opens its socket again after an error: the workers, and what they have sent, stay the same.
    _channels: ClassVar[dict[bytes, Channel]] = {}
    _pending: ClassVar[OrderedDict[bytes, tuple[bytes, bytes, Channel]]] = OrderedDict()
    _warned: ClassVar[set[bytes]] = set()

    def recv_from_client(self) -> tuple[str, Any]:
        """The next message of a worker, with its identity."""
        while True:
            try:
                identity, *frames = self.socket.recv_multipart()
            except ZMQError as error:
                raise RPCError("ZMQ network broken") from error
            message = self._opened(identity, frames)
            if message is not None:
                return message.node_id, message
            gevent.sleep(0)  # Whoever floods this port may not starve the run.

    def send_to_client(self, msg: Any) -> None:
        """Send ``msg``, unless that worker has proved nothing."""
        identity = msg.node_id.encode()
        channel = self._channels.get(identity)
        if channel is not None:
            self._send(identity, *channel.seal(msg.serialize()))

    def _opened(self, identity: bytes, frames: Sequence[bytes]) -> Any:
        if len(frames) == 2 and frames[0] == HELLO and len(frames[1]) == NONCE_BYTES:
            self._challenge(identity, frames[1])
        elif len(frames) == 4 and frames[0] == SIGNED:
            counter, mac, data = frames[1:]
            if self._is_from(identity, counter, mac, data):
                return _message(identity, data)
        else:
            self._warn(identity, "no token")
            # The one message of a master that Locust's own worker shows when it asks for a locustfile.
            text = _Message("locustfile", {"error": f"loadgen: {WITHOUT_TOKEN}"}, "").serialize()
            self._send(identity, text)
        return None

    def _challenge(self, identity: bytes, theirs: bytes) -> None:
        known = self._pending.get(identity)
        if known is None or known[0] != theirs:
            ours = secrets.token_bytes(NONCE_BYTES)
            channel = Channel(_channel_key(theirs, ours, identity), MASTER, WORKER)
            known = self._pending[identity] = (theirs, ours, channel)
            if len(self._pending) > MOST_PENDING:
                self._pending.popitem(last=False)
        self._send(identity, CHALLENGE, theirs, known[1])

    def _is_from(self, identity: bytes, counter: bytes, mac: bytes, data: bytes) -> bool:
        known = self._channels.get(identity)
        if known is not None and known.opens(counter, mac, data):
            return True
        pending = self._pending.get(identity)
        if pending is not None and pending[2].opens(counter, mac, data):
            self._channels[identity] = self._pending.pop(identity)[2]
            return True
        if pending is not None and known is None:
            self._warn(identity, "another token")
            self._send(identity, REFUSED)
        return False

    def _warn(self, identity: bytes, what: str) -> None:
        if identity not in self._warned and len(self._warned) < MOST_WARNINGS:
            self._warned.add(identity)
            logger.warning("a worker with %s was refused: %s", what, ascii(identity[:80]))

    @_retrying  # type: ignore[untyped-decorator]
    def _send(self, *frames: bytes) -> None:
        try:
            self.socket.send_multipart(frames)
        except ZMQError as error:
            raise RPCSendError("ZMQ sent failure") from error


class WorkerSocket(zmqrpc.Client):
    """A worker's end. What is sent before the master has answered waits for it."""

    def __init__(self, host: str, port: int, identity: str) -> None:
        super().__init__(host, port, identity)  # type: ignore[no-untyped-call]
        self._place = f"{host}:{port}"
        self._identity = identity.encode()
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._channel: Channel | None = None
        self._waiting: list[bytes] = []

    def send(self, msg: Any) -> None:
        """Send ``msg``, signed; before the master's answer, ask for that."""
        data = msg.serialize()
        if self._channel is not None:
            self._send(*self._channel.seal(data))
            return
        if data not in self._waiting:
            self._waiting.append(data)
        self._send(HELLO, self._nonce)

    def recv(self) -> Any:
        """The master's next message."""
        while True:
            try:
                frames = self.socket.recv_multipart()
            except ZMQError as error:
                raise RPCError("ZMQ network broken") from error
            message = self._opened(frames)
            if message is not None:
                return message
            gevent.sleep(0)

    def _opened(self, frames: Sequence[bytes]) -> Any:
        channel = self._channel
        if channel is None:
            if len(frames) == 3 and frames[:2] == [CHALLENGE, self._nonce]:
                self._channel = channel = Channel(_channel_key(self._nonce, frames[2], self._identity), WORKER, MASTER)
                waiting, self._waiting = self._waiting, []
                for data in waiting:
                    self._send(*channel.seal(data))
        elif len(frames) == 4 and frames[0] == SIGNED and channel.opens(*frames[1:]):
            return _message(self._identity, frames[3])
        elif frames == [REFUSED] and not channel.received:
            refuse(f"the master at {self._place} has another {VARIABLE}: give both the same")
        return None

    @_retrying  # type: ignore[untyped-decorator]
    def _send(self, *frames: bytes) -> None:
        try:
            self.socket.send_multipart(frames, NOBLOCK)
        except ZMQError as error:
            raise RPCSendError("ZMQ sent failure") from error


def _message(identity: bytes, data: bytes) -> Any:
    """A message of the worker ``identity``, or to it; None for one that bears another's name."""
    try:
        message = _Message.unserialize(data)
        return message if message.node_id.encode() == identity else None
    except Exception as error:
        raise RPCReceiveError("a message that cannot be read", addr=identity.decode(errors="replace")) from error


def _use(token: bytes) -> None:
    global _key
    _key = hashlib.pbkdf2_hmac("sha256", token, b"loadgen worker", ROUNDS)


def _channel_key(workers: bytes, masters: bytes, identity: bytes) -> bytes:
    return _hmac(_key, workers, masters, identity)


def _hmac(key: bytes, *parts: bytes) -> bytes:
    mac = hmac.new(key, digestmod="sha256")
    for part in parts:
        mac.update(len(part).to_bytes(8))
        mac.update(part)
    return mac.digest()


def _users_token() -> bytes:
    """The token that all processes of this user on this host share, made by the first. Raises LoadgenError."""
    path = cache_folder() / "token"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, made = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_hex(NONCE_BYTES).encode())
            with contextlib.suppress(FileExistsError):  # another process was first, and its token is the one
                os.link(made, path)
            Path(made).unlink()
        facts = path.stat()
        token = path.read_bytes()
    except OSError as error:
        raise LoadgenError(f"cannot keep a token in {path} ({error.strerror}): set {VARIABLE}") from error
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o077 or not token:
        raise LoadgenError(f"{path} is not this user's alone: remove it, or set {VARIABLE}")
    return token
