"""What master and workers say to each other, as Locust messages. Each names its run: a late one is dropped."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from loadgen.dsn import masked_dsn
from loadgen.engines.address import parse_dsn
from loadgen.engines.engine import Address
from loadgen.errors import PlanError
from loadgen.history.history import OPS_SCHEMA

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
"""To a worker: these numbers are its own, and they are in the history."""
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


def servers(ready: Mapping[str, Any]) -> tuple[Address, tuple[Address, ...]]:
    """The writable node, and the replicas that serve reads, as the conductor names them."""
    return Address(**ready["address"]), tuple(Address(**replica) for replica in ready["replicas"])


def servers_to_tell(ready: Mapping[str, Any], *, on_this_host: bool) -> dict[str, Any]:
    """The facts about the servers that workers receive. Beyond this host they hold no secret, because workers have the
    DSN themselves."""
    if on_this_host:
        return {"servers": {"address": ready["address"], "replicas": ready["replicas"]}}
    address, replicas = servers(ready)
    return {"fingerprint": fingerprint(address), "replicas": [_place(replica) for replica in replicas]}


def servers_of_worker(data: Mapping[str, Any], dsn: str) -> tuple[Address, tuple[Address, ...]]:
    """The servers that ``servers_to_tell`` describes, for a worker with its own ``dsn``. Raises PlanError."""
    if "servers" in data:
        return servers(data["servers"])
    if not dsn:
        raise PlanError("it has no DSN: give it the master's by LOADGEN_DSN, which is never sent")
    address = parse_dsn(dsn, os.environ)
    if fingerprint(address) != data["fingerprint"]:
        raise PlanError(f"its DSN names another server, database or user than the master's: {masked_dsn(dsn)}")
    parameters = {name: value for name, value in address.parameters.items() if name != "target_session_attrs"}
    return address, tuple(replace(address, parameters=parameters, **place) for place in data["replicas"])


def fingerprint(address: Address) -> str:
    """A fingerprint of server, database and user. Nothing can be read from it."""
    text = json.dumps([*_place(address).values(), address.user, address.database])
    return hashlib.sha256(text.encode()).hexdigest()


def _place(address: Address) -> dict[str, Any]:
    return {"host": address.host, "port": address.port, "socket": address.socket}


def packed(batch: Any) -> bytes:
    """A batch of rows as bytes."""
    return bytes(batch.serialize().to_pybytes())


def unpacked(data: bytes) -> Any:
    """The batch of rows that ``packed`` made bytes of."""
    return pa.ipc.read_record_batch(pa.py_buffer(data), OPS_SCHEMA)
