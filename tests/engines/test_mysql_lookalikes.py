"""Whatever speaks a little of MySQL's wire is refused in one line, by its name where it says one."""

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loadgen.engines.engine import Address
from loadgen.engines.mysql import ENGINE
from loadgen.errors import ClusterError


@contextmanager
def lookalike(greeting: str, answer: bytes) -> Iterator[Address]:
    """A server that lets everybody in, and gives each statement the same answer."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            capabilities = struct.pack("<H", 0xA20F), struct.pack("<H", 0x0008)
            self._send(
                0,
                *(b"\x0a", greeting.encode(), b"\0", struct.pack("<I", 7), b"12345678\0", capabilities[0], b"\x2d"),
                *(struct.pack("<H", 2), capabilities[1], b"\x15", bytes(10), b"123456789012\0"),
                b"mysql_native_password\0",
            )
            while head := self.rfile.read(4):
                body = self.rfile.read(int.from_bytes(head[:3], "little"))
                logging_in = head[3] == 1
                self._send(2 if logging_in else 1, b"\0\0\0\2\0\0\0" if logging_in or body[:1] != b"\3" else answer)

        def _send(self, number: int, *parts: bytes) -> None:
            body = b"".join(parts)
            self.wfile.write(len(body).to_bytes(3, "little") + bytes([number]) + body)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Address(host="127.0.0.1", port=server.server_address[1], user="root")
        finally:
            server.shutdown()


OK = b"\0\0\0\2\0\0\0"
ERROR = b"\xff" + struct.pack("<H", 1064) + b"#42000I am no database"


@pytest.mark.parametrize("answer", [OK, ERROR], ids=["takes everything", "takes nothing"])
@pytest.mark.parametrize(
    ("greeting", "named"),
    [
        ("8.0.30-Vitess", "Vitess"),
        ("5.7.99-NobodyKnowsDB", "NobodyKnowsDB"),
        ("5.5.5-10.6.12-MariaDB", "MariaDB"),
        ("8.0.36", "MySQL at"),
    ],
)
def test_look_alike_is_refused_in_one_line(greeting: str, named: str, answer: bytes) -> None:
    """By its greeting, if it says no more."""
    with lookalike(greeting, answer) as address, pytest.raises(ClusterError) as refused:
        ENGINE.control(address, "test")

    assert named in str(refused.value)
    assert "\n" not in str(refused.value)
