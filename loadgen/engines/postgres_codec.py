"""Values to bytes and back, for PostgreSQL's Bind and DataRow messages: one plan for each prepared statement.

Numbers that the processor has travel in binary, everything else as text.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from loadgen.engines.columns import naive
from loadgen.workload import Result, Statement

_NUMBERS = {21: "h", 23: "i", 20: "q", 700: "f", 701: "d"}
"""int2, int4, int8, float4, float8: their type's OID, and how struct calls them."""
_BOOLEAN = 16


def _timestamp(text: bytes) -> datetime:
    """What ISO's date style shows; what Python's years do not reach is the end of them."""
    told = text.decode()
    try:
        return naive(datetime.fromisoformat(told))
    except ValueError:
        return datetime.min if told.startswith("-") or told.endswith("BC") else datetime.max


_DECODERS: Mapping[int, Callable[[bytes], Any]] = {
    1700: lambda text: Decimal(text.decode()),
    17: lambda text: bytes.fromhex(text[2:].decode()),
    1114: _timestamp,
    1184: _timestamp,
}
"""numeric, bytea, timestamp, timestamptz: how their text is read. Everything else stays text."""
SYNC = b"S\0\0\0\4"
_EXECUTE = b"E\0\0\0\x09\0\0\0\0\0"
EXECUTE_AND_SYNC = _EXECUTE + SYNC
_LENGTH = struct.Struct("!i")
_VERSION = struct.Struct("!iq")
_NULL = -1


def bind_and_execute(name: str) -> bytes:
    """The messages that run a prepared statement without parameters and rows, except the Sync."""
    body = b"\0" + name.encode() + b"\0" + struct.pack("!hhh", 0, 0, 0)
    return b"B" + _LENGTH.pack(len(body) + 4) + body + _EXECUTE


def plan_of(prepared: Any, statement: Statement) -> "Plan":
    """The plan of asyncpg's ``prepared`` statement."""
    return Plan(
        prepared.get_name(),
        [parameter.oid for parameter in prepared.get_parameters()],
        [attribute.type.oid for attribute in prepared.get_attributes()],
        versioned=statement.postgres.endswith("RETURNING version"),
        blind=statement.blind,
    )


class Plan:
    """How to ask for one prepared statement, and how to read its rows."""

    __slots__ = (
        "_columns",
        "_decoders",
        "_head",
        "_pack",
        "_row",
        "_slots",
        "_tail",
        "_types",
        "blind",
        "message",
        "versioned",
    )

    def __init__(
        self, name: str, parameters: Sequence[int], columns: Sequence[int], *, versioned: bool, blind: bool
    ) -> None:
        """``parameters`` and ``columns`` are their types' OIDs."""
        self.versioned = versioned
        self.blind = blind
        self._types = tuple(_NUMBERS.get(oid, "") for oid in parameters)
        self._columns = tuple(_NUMBERS.get(oid, "?" if oid == _BOOLEAN else "") for oid in columns)
        self._decoders = tuple(_DECODERS.get(oid, bytes.decode) for oid in columns)
        formats = [1 if kind else 0 for kind in self._types]
        count = len(formats)
        self._head = b"\0" + name.encode() + b"\0" + struct.pack(f"!h{count}hh", count, *formats, count)
        shown = [1 if kind else 0 for kind in self._columns]
        self._tail = struct.pack(f"!h{len(shown)}h", len(shown), *shown) + EXECUTE_AND_SYNC
        self._row = struct.Struct("!" + "".join(f"i{kind}" for kind in self._columns)) if all(self._columns) else None
        if all(self._types):
            self._prepare_packing()
            self.message = self._packed
        else:
            self.message = self._built

    def result(self, row_count: int, payloads: Sequence[bytes]) -> Result:
        """The result of a statement that answered rows: DataRow messages, given without their heads."""
        if self.versioned and len(payloads) == 1 and len(payloads[0]) == _VERSION.size:
            values = _VERSION.unpack(payloads[0])
            return tuple.__new__(Result, (row_count, (values[1:],), values[1]))
        rows = self._rows(payloads)
        return Result(row_count, rows, rows[0][0] if self.versioned else -1)

    def _rows(self, payloads: Sequence[bytes]) -> list[tuple[Any, ...]]:
        row = self._row
        if row is not None and all(len(payload) == row.size for payload in payloads):
            # A NULL would have made its row shorter, so all lengths are what they are for these types.
            return [row.unpack(payload)[1::2] for payload in payloads]
        return [self._read(payload) for payload in payloads]

    def _prepare_packing(self) -> None:
        widths = [struct.calcsize(f"!{kind}") for kind in self._types]
        length = 4 + len(self._head) + sum(4 + width for width in widths) + len(self._tail) - len(EXECUTE_AND_SYNC)
        start = b"B" + _LENGTH.pack(length) + self._head
        body = "".join(f"i{kind}" for kind in self._types)
        self._pack = struct.Struct(f"!{len(start)}s{body}{len(self._tail)}s").pack
        self._slots: list[Any] = [start]
        for width in widths:
            self._slots += (width, 0)
        self._slots.append(self._tail)

    def _packed(self, values: Sequence[Any]) -> bytes:
        """Bind, Execute and Sync where all values are whole numbers: one call packs them all."""
        slots = self._slots
        slots[2:-1:2] = values
        try:
            return self._pack(*slots)
        except struct.error as error:
            if None in values:
                return self._built(values)
            raise ValueError(f"a value does not fit its parameter: {error}") from None

    def _built(self, values: Sequence[Any]) -> bytes:
        """Bind, Execute and Sync for any values."""
        if len(values) != len(self._types):
            raise ValueError(f"{len(self._types)} values are wanted, not {len(values)}")
        parts = [self._head]
        for kind, value in zip(self._types, values, strict=True):
            if value is None:
                parts.append(_LENGTH.pack(_NULL))
                continue
            try:
                encoded = struct.pack(f"!{kind}", value) if kind else _text(value)
            except struct.error as error:
                raise ValueError(f"a value does not fit its parameter: {error}") from None
            parts += (_LENGTH.pack(len(encoded)), encoded)
        body = b"".join(parts) + self._tail
        return b"B" + _LENGTH.pack(len(body) - len(EXECUTE_AND_SYNC) + 4) + body

    def _read(self, payload: bytes) -> tuple[Any, ...]:
        values: list[Any] = []
        position = 0
        for kind, decode in zip(self._columns, self._decoders, strict=True):
            (length,) = _LENGTH.unpack_from(payload, position)
            position += 4
            if length == _NULL:
                values.append(None)
                continue
            field = payload[position : position + length]
            values.append(struct.unpack(f"!{kind}", field)[0] if kind else decode(field))
            position += length
        return tuple(values)


def _text(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return b"\\x" + value.hex().encode()
    if isinstance(value, datetime):
        # A timestamp passes over the zone; one with a zone would take the session's without it.
        return f"{naive(value)}+00".encode()
    return str(value).encode()


class _Text:
    """In the place of a Plan: rows whose values are all text, or NULL."""

    def result(self, row_count: int, payloads: Sequence[bytes]) -> Result:
        return Result(row_count, [tuple(_values(payload)) for payload in payloads], -1)


def _values(payload: bytes) -> Iterator[str]:
    position = 0
    while position + 4 <= len(payload):
        size = max(0, int.from_bytes(payload[position : position + 4], signed=True))
        yield payload[position + 4 : position + 4 + size].decode(errors="replace")
        position += 4 + size


TEXT: Any = _Text()
"""What reads the rows of a statement that was sent as text."""
