"""What master and workers say to each other, as Locust messages. Each names its run: a late one is dropped."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from loadgen.engines.engine import Address
from loadgen.history import OPS_SCHEMA

PREPARE = "loadgen.prepare"
"""To a worker: the plan, where the servers are, and its share."""
MUSTERED = "loadgen.mustered"
"""To the master: this worker has its part of the plan; its clock."""
CONNECTED = "loadgen.connected"
"""To the master: all sessions are connected, or what hinders."""
GO = "loadgen.go"
"""To a worker: the first arrivals are due now."""
WANT = "loadgen.want"
"""To the master: numbers are wanted."""
NUMBERS = "loadgen.numbers"
"""To a worker: these numbers are its own, and stand in the history."""
ROWS = "loadgen.rows"
"""To the master: finished ops."""
SESSIONS = "loadgen.sessions"
"""To the master: this worker has so many sessions from now on."""
STOP = "loadgen.stop"
"""To a worker: stop, and give everything back."""
CLOSED = "loadgen.closed"
"""To the master: this worker has ended in order."""
WAIT = "loadgen.wait"
"""To a worker that came while a run is on: it has no part in it, and waits for the next one."""


def servers(data: Mapping[str, Any]) -> tuple[Address, tuple[Address, ...]]:
    """The writable node, and the replicas that serve reads, as ``data`` names them."""
    return Address(**data["address"]), tuple(Address(**replica) for replica in data["replicas"])


def packed(batch: Any) -> bytes:
    """A batch of rows as bytes."""
    return bytes(batch.serialize().to_pybytes())


def unpacked(data: bytes) -> Any:
    """The batch of rows that ``packed`` made bytes of."""
    return pa.ipc.read_record_batch(pa.py_buffer(data), OPS_SCHEMA)
