"""Reading a whole table of PostgreSQL into numpy: binary COPY, whose rows of numbers have one length."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.engines.columns import as_column
from loadgen.engines.engine import SCHEMA
from loadgen.errors import ClusterError
from loadgen.history.column_types import column_type
from loadgen.workload import Table

CHUNK_BYTES = 1 << 20
PREFETCH_ROWS = 10_000
_SIGNATURE_BYTES = 11 + 4 + 4
_TRAILER = b"\xff\xff"
_CASTS = {
    "int64": "bigint",
    "int32": "integer",
    "uint8": "smallint",
    "string": "text",
    "float64": "double precision",
    "decimal": "numeric",
    "binary": "bytea",
    "bool": "boolean",
}
_WIDTHS = {"int64": 8, "int32": 4, "uint8": 2}
_TYPES = "SELECT attname, atttypid::regtype::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0"
_WHOLE_NUMBERS = ("smallint", "integer", "bigint")
"""Types whose cast to another of them, if it succeeds, changes no value."""
_ZONED = "timestamp with time zone"
_LOSSLESS = {
    **dict.fromkeys(("int64", "int32", "uint8"), _WHOLE_NUMBERS),
    "float64": ("real", "double precision"),
    "decimal": ("numeric", *_WHOLE_NUMBERS),
    "timestamp": ("timestamp without time zone", _ZONED),
    "binary": ("bytea",),
    "bool": ("boolean",),
}
"""Which of the server's types can be read as one of ours."""


def _differs(table: Table, column: str, kind: str) -> bool:
    if column not in table.final or (wanted := column_type(table.final[column]).kind) == "string":
        return False
    return kind not in _LOSSLESS[wanted]


def _selected(name: str, kind: str, types: Mapping[str, str]) -> str:
    wanted = column_type(kind).kind
    if wanted == "timestamp":
        return f"{name} AT TIME ZONE 'UTC'" if types.get(name) == _ZONED else name
    return f"{name}::{_CASTS[wanted]}"


async def read_table(connection: Any, table: Table) -> dict[str, NDArray[Any]]:
    """All rows of ``table`` as columns, inside the connection's transaction.

    Raises ClusterError where a value is NULL or a column of numbers has another type by now.
    """
    types = dict(map(tuple, await connection.fetch(_TYPES, f'{SCHEMA}."{table.name}"')))
    wrong = [name for name, kind in types.items() if _differs(table, name, kind)]
    if wrong:
        raise ClusterError(f"table {table.name} can't be read: its column {wrong[0]} is of another type")
    columns = ", ".join(_selected(name, kind, types) for name, kind in table.final.items())
    select = f'SELECT {columns} FROM {SCHEMA}."{table.name}"'
    if not set(table.final.values()) <= set(_WIDTHS):
        return await _read_rows(connection, select, table)
    parser = _Rows(table.name, table.final)
    await connection.copy_from_query(select, output=parser.take, format="binary")
    return parser.columns()


async def read_table_as_text(connection: Any, table: Table) -> dict[str, NDArray[Any]]:
    """The same of a table whose values are no longer what they were made: see ``as_column``."""
    columns = ", ".join(
        name if column_type(kind).keeps_null or kind == "float64" else f"{name}::text"
        for name, kind in table.final.items()
    )
    select = f'SELECT {columns} FROM {SCHEMA}."{table.name}"'
    rows = [row async for row in connection.cursor(select, prefetch=PREFETCH_ROWS)]
    return {name: as_column([row[at] for row in rows], kind) for at, (name, kind) in enumerate(table.final.items())}


async def _read_rows(connection: Any, select: str, table: Table) -> dict[str, NDArray[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in table.final}
    async for row in connection.cursor(select, prefetch=PREFETCH_ROWS):
        for values, value in zip(columns.values(), row, strict=True):
            values.append(value)
    for name, kind in table.final.items():
        if not column_type(kind).keeps_null and kind != "float64" and None in columns[name]:
            raise _null(table.name, name)
    return {name: as_column(columns[name], kind) for name, kind in table.final.items()}


class _Rows:
    """Parses a stream of binary COPY: a header, rows of (field count, (length, value) ...), a trailer.

    Format: PostgreSQL's documentation of COPY, "Binary Format". All numbers are big-endian.
    """

    def __init__(self, table: str, types: Mapping[str, str]) -> None:
        fields: list[tuple[str, str]] = [("fields", ">i2")]
        for name, kind in types.items():
            fields += [(f"{name}.length", ">i4"), (name, f">i{_WIDTHS[kind]}")]
        self._row = np.dtype(fields)
        self._table = table
        self._types = types
        self._rest = bytearray()
        self._header_seen = False
        self._parts: dict[str, list[NDArray[Any]]] = {name: [] for name in types}

    async def take(self, received: bytes) -> None:
        """Take the next piece of the stream."""
        self._rest += received
        if not self._header_seen and len(self._rest) >= _SIGNATURE_BYTES:
            extension = int.from_bytes(self._rest[_SIGNATURE_BYTES - 4 : _SIGNATURE_BYTES], "big")
            if len(self._rest) < _SIGNATURE_BYTES + extension:
                return
            del self._rest[: _SIGNATURE_BYTES + extension]
            self._header_seen = True
        if len(self._rest) >= CHUNK_BYTES:
            self._parse()

    def columns(self) -> dict[str, NDArray[Any]]:
        """What came, once all has come."""
        self._parse()
        if bytes(self._rest) != _TRAILER:
            raise self._broken()
        return {
            name: np.concatenate(self._parts[name]) if self._parts[name] else np.empty(0, kind)
            for name, kind in self._types.items()
        }

    def _parse(self) -> None:
        if not self._header_seen:
            return
        count = len(self._rest) // self._row.itemsize
        size = count * self._row.itemsize
        rows = np.frombuffer(bytes(self._rest[:size]), dtype=self._row)
        if (rows["fields"] != len(self._types)).any():
            raise self._broken()
        for name, kind in self._types.items():
            if (rows[f"{name}.length"] != _WIDTHS[kind]).any():
                raise _null(self._table, name)
            self._parts[name].append(rows[name].astype(kind))
        del self._rest[:size]

    def _broken(self) -> ClusterError:
        # A NULL shortens its row, so that the ones behind it no longer lie where they should.
        return ClusterError(f"table {self._table} can't be read: a column of it holds NULL, or the stream was cut")


def _null(table: str, column: str) -> ClusterError:
    return ClusterError(f"table {table} can't be read: its column {column} holds NULL")
