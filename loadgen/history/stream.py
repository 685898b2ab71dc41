"""One stream of a history: an Arrow IPC stream, append only, in which each batch is sealed.

A seal is in the padding after each batch's metadata, which every reader of Arrow ignores. It holds the number of rows
so far, and a CRC-32 over everything before it, including the stream's header. A missing, altered, duplicated or moved
batch is therefore found, and a truncated stream is used up to its last whole batch. The last batch of a stream that was
ended in order is empty, and its seal says so; Arrow's end-of-stream marker follows.

A seal protects from damage, not from a person: who alters a stream can compute its seals anew.
"""

import contextlib
import errno
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.clock import clock_origin
from loadgen.errors import StoreError
from loadgen.history.arrays import (
    TOUCHED,
    numpy_type,
    of_nothing,
    of_nullable,
    of_numbers,
    of_strings,
    to_numpy,
    to_timestamps,
    to_touched,
)
from loadgen.history.column_types import column_type
from loadgen.untrusted import one_line, plain_file_size

Columns = dict[str, NDArray[Any]]

FORMAT = "loadgen-history-2"
UNSEALED_FORMAT = "loadgen-history-1"
"""What runs of older versions wrote: without seals."""
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
MOST_BYTES = 64 << 30
"""A longer stream is not read: at 100 bytes an op it would hold more than half a billion."""

_SEAL = struct.Struct("<8sQQII")
"""The magic word, rows so far, bytes of the batch's body, whether it is the stream's end, and the CRC-32."""
_MAGIC = b"loadgen\x02"
_WORD = 4
_CONTINUED = 0xFFFFFFFF

_ARROW: Mapping[str, Any] = {
    "uint8": pa.uint8(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
}

_OPTIONAL = {b"null": b"kept"}
"""What a column's metadata say whose type was written with a ``?``: its values are Python's, and may be None."""


def arrow_type(name: str) -> Any:
    """The Arrow type of a column: int64, int32, uint8, float64 or string."""
    return _ARROW[name]


def table_batch(columns: Mapping[str, NDArray[Any]], types: Mapping[str, str]) -> Any:
    """The record batch of numpy columns, of the types that ``types`` names (see column_types).

    Raises ValueError if a value is not of its column's type.
    """
    fields, arrays = [], []
    for name, type_name in types.items():
        kind = column_type(type_name)
        if kind.keeps_null:
            array = of_nullable(columns[name], kind)
        elif kind.kind == "string":
            array = of_strings([str(value) for value in columns[name]])
        else:
            array = of_numbers(np.ascontiguousarray(columns[name], dtype=kind.kind), _ARROW[kind.kind])
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata=_OPTIONAL if kind.optional else None))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


class Sealed(NamedTuple):
    """What a stream holds, in two numbers: the closing record of a run keeps them of every stream."""

    rows: int
    checksum: int

    def to_json(self) -> dict[str, Any]:
        """As ``load.json`` holds it."""
        return {"rows": self.rows, "checksum": f"{self.checksum:08x}"}


class StreamWriter:
    """Appends record batches to one stream. Raises StoreError once the disk will take no more."""

    def __init__(self, path: Path, schema: Any, facts: Mapping[str, str] | None = None) -> None:
        origin = clock_origin()
        metadata = {"format": FORMAT, "stream": path.name.partition(".arrows")[0]}
        metadata |= {**{name: str(value) for name, value in asdict(origin).items()}, **(facts or {})}
        self.path = path
        self.sealed = Sealed(0, 0)
        """What has been written whole so far."""
        self._schema = schema
        self._broken = False
        try:
            # Unbuffered, and never over another history: what was written is in the operating system's hands.
            self._file = path.open("xb", buffering=0)
        except OSError as error:
            raise StoreError(f"cannot write the history {path}: {error.strerror or error}") from error
        header = schema.with_metadata(metadata).serialize()
        self._append(header)
        self.sealed = Sealed(0, zlib.crc32(header))

    def write(self, batch: Any) -> None:
        """Append one batch. After a StoreError nothing more is written."""
        assert batch.schema.equals(self._schema), f"{self.path} holds other columns than {batch.schema.names}"
        self._append_sealed(batch, end=0)

    def close(self, *, complete: bool = True) -> None:
        """End the stream; with ``complete`` false without its end, so that a reader knows that it was cut."""
        if self._file.closed:
            return
        if complete and not self._broken:
            with contextlib.suppress(StoreError):
                nothing = [of_nothing(column.type) for column in self._schema]
                self._append_sealed(pa.RecordBatch.from_arrays(nothing, schema=self._schema), end=1)
                self._append(END_OF_STREAM)
        self._file.close()

    def _append_sealed(self, batch: Any, end: int) -> None:
        message = memoryview(batch.serialize())
        length = int.from_bytes(message[_WORD : 2 * _WORD], "little")
        body = message[2 * _WORD + length :]
        rows = self.sealed.rows + batch.num_rows
        head = b"".join(
            (
                message[:_WORD],
                (length + _SEAL.size).to_bytes(_WORD, "little"),
                message[2 * _WORD : 2 * _WORD + length],
                _SEAL.pack(_MAGIC, rows, len(body), end, 0)[:-_WORD],
            )
        )
        checksum = zlib.crc32(body, zlib.crc32(head, self.sealed.checksum))
        self._append(b"".join((head, checksum.to_bytes(_WORD, "little"), body)))
        self.sealed = Sealed(rows, checksum)

    def _append(self, message: Any) -> None:
        """Append one whole message of the stream: pyarrow's own writer would make a call for each of its parts."""
        if self._broken:
            # Behind half a message nothing can be read.
            raise StoreError(f"cannot write the history {self.path}: an earlier part of it is missing")
        left = memoryview(message)
        self._broken = True
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
            raise StoreError(f"cannot write the history {self.path}: {reason}") from error
        self._broken = False

    def __enter__(self) -> "StreamWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close(complete=error is None)


@dataclass(slots=True)
class Stream:
    """One stream as read: its columns as far as they can be trusted, and the facts in its header."""

    columns: Columns = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    """What is wrong with it, in one sentence; empty if it is whole."""
    torn: bool = False
    """Whether only its end is missing, as after a crash or on a full disk: no whole batch was altered."""
    sealed: Sealed | None = None
    """What its seals vouch for; None of an older version's stream, which has none."""

    @property
    def problems(self) -> list[str]:
        """The problem as a list: empty, or of one."""
        return [self.problem] if self.problem else []


class _DamageError(ValueError):
    """What a stream holds was not written so."""


class _CutError(Exception):
    """A stream ends within its header."""


class _Verified(NamedTuple):
    """How far the seals of a stream can be trusted."""

    end: int
    sealed: Sealed
    fault: str
    torn: bool


def read_stream(path: Path) -> Stream:
    """Read one stream as far as it is intact. Damage never raises; ``problem`` describes it."""
    stream = Stream()
    try:
        if plain_file_size(path, MOST_BYTES) < 2 * _WORD:
            raise _CutError
        with pa.memory_map(str(path), "r") as source:
            _read(stream, path, source.read_buffer(source.size()))
    except StoreError as error:
        stream.problem = str(error)
    except _CutError:
        stream.problem, stream.torn = f"{path} was cut short: it has not even a whole header", True
    except (pa.ArrowException, OSError, ValueError, EOFError, KeyError, MemoryError) as error:
        stream.problem = f"{path} is damaged or not a history of loadgen: {_reason(error)}"
    return stream


def _read(stream: Stream, path: Path, whole: Any) -> None:
    """Fill ``stream`` from the bytes of a file. Raises what Arrow raises, _CutError and _DamageError."""
    if bytes(whole[:_WORD]) == END_OF_STREAM[:_WORD] and _header_end(memoryview(whole).cast("B")) > len(whole):
        raise _CutError
    schema = pa.ipc.open_stream(whole).schema
    facts = _facts(schema)
    if facts["format"] == FORMAT:
        verified = _verify(memoryview(whole).cast("B"))
        stream.sealed, stream.torn = verified.sealed, verified.torn
        if verified.fault:
            stream.problem = f"{path} {verified.fault}"
        batches = list(pa.ipc.open_stream(whole.slice(0, verified.end)))
        if sum(batch.num_rows for batch in batches) != verified.sealed.rows:
            raise _DamageError("its checksums belong to other rows than it holds")
    else:
        batches, fault = _unsealed(whole)
        if fault:
            stream.problem, stream.torn = f"{path} {fault}", True
    for batch in batches:
        batch.validate(full=True)
    stream.columns, stream.facts = _columns(schema, batches), facts


def _verify(data: memoryview) -> _Verified:
    """Walk the stream's messages, each by its seal."""
    at = _header_end(data)
    rows, checksum, ended = 0, zlib.crc32(data[:at]), False
    while True:
        if data[at : at + len(END_OF_STREAM)] == END_OF_STREAM:
            whole = at + len(END_OF_STREAM) == len(data)
            fault = "" if ended and whole else "lacks rows at its end" if whole else "continues after its end"
            return _Verified(at, Sealed(rows, checksum), fault, torn=False)
        message = _message(data, at)
        if message is None:
            torn = _is_torn(data[at:])
            fault = "was cut short: it has no end" if torn else f"is damaged behind row {rows}"
            return _Verified(at, Sealed(rows, checksum), fault, torn)
        body, end, (_, told_rows, _, told_end, told) = message
        computed = zlib.crc32(data[body:end], zlib.crc32(data[at : body - _WORD], checksum))
        if computed != told or ended:
            return _Verified(at, Sealed(rows, checksum), f"was altered behind row {rows}", torn=False)
        at, rows, checksum, ended = end, told_rows, told, bool(told_end)


def _header_end(data: memoryview) -> int:
    return 2 * _WORD + int.from_bytes(data[_WORD : 2 * _WORD], "little")


def _message(data: memoryview, at: int) -> tuple[int, int, tuple[Any, ...]] | None:
    """Where the body of the message at ``at`` begins and ends, and its seal; None if there is no whole one."""
    marker, length = int.from_bytes(data[at : at + _WORD], "little"), data[at + _WORD : at + 2 * _WORD]
    body = at + 2 * _WORD + int.from_bytes(length, "little")
    if marker != _CONTINUED or body > len(data) or body - at < 2 * _WORD + _SEAL.size:
        return None
    seal = _SEAL.unpack_from(data, body - _SEAL.size)
    if seal[0] != _MAGIC or body + seal[2] > len(data):
        return None
    return body, body + seal[2], seal


def _is_torn(rest: memoryview) -> bool:
    """Whether this is the beginning of one message: what is left when a write was cut, and nothing else."""
    own = 2 * _WORD + int.from_bytes(rest[_WORD : 2 * _WORD], "little") - _SEAL.size
    begun = rest[:_WORD] == b"\xff" * min(_WORD, len(rest))
    if own + _SEAL.size <= len(rest) and rest[own : own + len(_MAGIC)] != _MAGIC:
        return False
    return begun and all(seal.start() == own for seal in re.finditer(re.escape(_MAGIC), rest))


def _unsealed(whole: Any) -> tuple[list[Any], str]:
    """The batches of an older version's stream, and what is wrong with it."""
    batches: list[Any] = []
    source = pa.BufferReader(whole)
    reader = pa.ipc.open_stream(source)
    end = source.tell()
    try:
        for batch in reader:
            batch.validate(full=True)
            batches.append(batch)
            end = source.tell()
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        return batches, f"is truncated or damaged: {_reason(error)}"
    # The marker may stand by chance at the end of what was cut, so the last batch must end right before it.
    complete = bytes(whole[-len(END_OF_STREAM) :]) == END_OF_STREAM and end + len(END_OF_STREAM) == len(whole)
    return batches, "" if complete else "was cut short: it has no end-of-stream marker"


def _facts(schema: Any) -> Mapping[str, str]:
    """The facts in a stream's header. Raises _DamageError if it is not one of ours."""
    told = (schema.metadata or {}).items()
    facts = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in told}
    if facts.get("format") not in (FORMAT, UNSEALED_FORMAT):
        raise _DamageError(f"its format is {facts.get('format', 'not said')}, not {FORMAT}")
    known = (*_ARROW.values(), TOUCHED)
    foreign = [column.name for column in schema if column.type not in known and not _keeps_null(column)]
    if foreign or len(set(schema.names)) != len(schema.names):
        raise _DamageError(f"its columns {', '.join(foreign) or 'have one name twice and'} are of other types")
    return facts


def _columns(schema: Any, batches: Sequence[Any]) -> Columns:
    """The columns of all batches. Raises _DamageError if there are nulls where the column's type keeps none."""
    columns: Columns = {}
    for index, column in enumerate(schema):
        arrays = [batch.column(index) for batch in batches]
        nulls = any(array.null_count for array in arrays)
        if column.type == TOUCHED:
            nulls = nulls or any(_nulls_within(array.values) for array in arrays)
            columns |= to_touched(arrays)
        elif column.type == _TIMESTAMP and not column.metadata:
            nulls = False
            columns[column.name] = np.concatenate([to_timestamps(array) for array in arrays] or [_NO_TIMESTAMPS])
        elif _keeps_null(column):
            nulls = False
            columns[column.name] = _objects(arrays)
        elif pa.types.is_string(column.type):
            parts = [_texts(array) for array in arrays]
            columns[column.name] = np.concatenate(parts) if parts else np.empty(0, object)
        else:
            parts = [to_numpy(array) for array in arrays]
            columns[column.name] = np.concatenate(parts) if parts else np.empty(0, numpy_type(column.type))
        if nulls:
            raise _DamageError("it has nulls, which no run writes")
    return columns


_TIMESTAMP = pa.timestamp("us")
_NO_TIMESTAMPS = np.empty(0, "datetime64[us]")


def _keeps_null(column: Any) -> bool:
    """Whether a null in this column is a value like any other (see column_types)."""
    kept = (column.metadata or {}) == _OPTIONAL and column.type in _ARROW.values()
    return kept or column.type in (_TIMESTAMP, pa.binary(), pa.bool_()) or bool(pa.types.is_decimal128(column.type))


def _objects(arrays: Sequence[Any]) -> NDArray[Any]:
    values = [value for array in arrays for value in array.to_pylist()]
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _nulls_within(triples: Any) -> bool:
    return bool(triples.null_count) or any(triples.field(index).null_count for index in range(3))


def _texts(array: Any) -> NDArray[Any]:
    """Texts as objects. Error codes are few, and in most batches there is none."""
    data = array.buffers()[-1]
    if data is None or not data.size:
        return np.full(len(array), "", dtype=object)
    return np.array(array.to_pylist(), dtype=object)


def no_rows(schema: Any) -> Columns:
    """The columns of a stream that holds nothing."""
    return _columns(schema, [])


def _reason(error: BaseException) -> str:
    return one_line(str(error))[:300] if str(error) else type(error).__name__
