"""loadgen's own format of transactions: Arrow IPC streams, one for each load process, named ``P.txns.arrows``.

Format ``loadgen-transactions-1``, told in the schema's metadata beside ``kind`` (list-append, rw-register or
versioned-register) and the clock's origin. One row a transaction:

- ``session``, ``invoked``, ``completed`` (ns on the monotonic clock; the extremes of int64: not known, never),
  ``outcome`` (0 ok, 1 fail, 2 info), ``label`` (the op's number),
- ``mops``: a list of ``act`` (0 read, 1 write or append, 2 odd list read), ``key``, ``value``, ``length``, ``tail``,
- ``tail``: the list elements of this row's reads that are new.

``value`` is 0 or more; -1 is the initial state, -2 not known. A list read is not kept whole: the writer remembers the
longest list it saw of each key, and a read is the first ``length`` elements of it, of which the last ``tail`` are new
and stand in the row's ``tail``. A list that neither starts nor continues the remembered one is an odd read: its
``tail`` holds all of it and the remembered list stays. So a million reads of lists of a hundred need no 10^8 elements,
and nothing is lost.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.errors import StoreError
from loadgen.history.history import END_OF_STREAM, StreamWriter
from loadgen.isolation.transactions import INITIAL, READ, UNKNOWN, WRITE, HistoryKind, Ints, Transactions

FORMAT = "loadgen-transactions-1"
SUFFIX = ".txns.arrows"

_TABLE = 1 << 27
"""Keys below this are numbered by a table of flags, a byte for each; others by sorting."""

ODD = 2
_MOP = pa.struct(
    [("act", pa.uint8()), ("key", pa.int64()), ("value", pa.int64()), ("length", pa.int32()), ("tail", pa.int32())]
)
SCHEMA = pa.schema(
    [
        ("session", pa.int64()),
        ("invoked", pa.int64()),
        ("completed", pa.int64()),
        ("outcome", pa.uint8()),
        ("label", pa.int64()),
        ("mops", pa.list_(_MOP)),
        ("tail", pa.list_(pa.int64())),
    ]
)
_MOP_TYPES = {"act": np.uint8, "key": np.int64, "value": np.int64, "length": np.int32, "tail": np.int32}
_ROW_TYPES = {"session": np.int64, "invoked": np.int64, "completed": np.int64, "outcome": np.uint8, "label": np.int64}


class ListLog:
    """What a writer remembers of each key's list, so that a read costs only what is new in it."""

    def __init__(self) -> None:
        self._known: dict[int, list[int]] = {}

    def read(self, key: int, elements: Sequence[int]) -> tuple[int, int, list[int]]:
        """The ``act``, ``length`` and new elements of a read of ``key`` that saw ``elements``."""
        seen = list(elements)
        known = self._known.setdefault(key, [])
        if known[: len(seen)] == seen:
            return READ, len(seen), []
        if seen[: len(known)] == known and len(set(seen)) == len(seen):
            tail = seen[len(known) :]
            known += tail
            return READ, len(seen), tail
        return ODD, len(seen), seen


class TxnRow(NamedTuple):
    """One transaction to be written. ``mops`` are (act, key, value); a list read's value is its elements or None."""

    session: int
    invoked: int
    completed: int
    outcome: int
    label: int
    mops: Sequence[tuple[int, int, Any]]


class TransactionWriter:
    """Writes one stream. Rows of one session must come in the order in which they were sent."""

    def __init__(self, path: Path, kind: HistoryKind, facts: dict[str, str] | None = None) -> None:
        self._lists = kind == HistoryKind.LIST_APPEND
        self._log = ListLog()
        self._stream = StreamWriter(path, SCHEMA, {**(facts or {}), "format": FORMAT, "kind": kind.value})

    def write(self, rows: Sequence[TxnRow]) -> None:
        """Append a batch of transactions."""
        mops: list[tuple[int, int, int, int, int]] = []
        counts, tails, tail_counts = [], list[int](), []
        for row in rows:
            before = len(tails)
            for act, key, value in row.mops:
                mops.append(self._mop(act, key, value, tails))
            counts.append(len(row.mops))
            tail_counts.append(len(tails) - before)
        table = np.array(mops, np.int64).reshape(-1, 5)
        columns = {name: np.array([getattr(row, name) for row in rows], kind) for name, kind in _ROW_TYPES.items()}
        self.columns(
            columns,
            np.array(counts, np.int64),
            {name: table[:, place].astype(kind) for place, (name, kind) in enumerate(_MOP_TYPES.items())},
            np.array(tail_counts, np.int64),
            np.array(tails, np.int64),
        )

    def _mop(self, act: int, key: int, value: Any, tails: list[int]) -> tuple[int, int, int, int, int]:
        if not self._lists or act == WRITE:
            return act, key, INITIAL if value is None else int(value), 0, 0
        if value is None:
            return READ, key, UNKNOWN, 0, 0
        kind, length, tail = self._log.read(key, value)
        tails += tail
        return kind, key, int(value[-1]) if length else INITIAL, length, len(tail)

    def columns(
        self, rows: dict[str, NDArray[Any]], counts: Ints, mops: dict[str, NDArray[Any]], tail_counts: Ints, tails: Ints
    ) -> None:
        """Append a batch that is columns already: of rows, and of micro-operations with their number in each row."""
        children = [_array(mops[name].astype(kind), _MOP.field(name).type) for name, kind in _MOP_TYPES.items()]
        struct = pa.StructArray.from_buffers(_MOP, len(mops["act"]), [None], children=children)
        arrays = [_array(rows[name].astype(kind), SCHEMA.field(name).type) for name, kind in _ROW_TYPES.items()]
        arrays.append(_lists(counts, struct, SCHEMA.field("mops").type))
        arrays.append(_lists(tail_counts, _array(tails.astype(np.int64), pa.int64()), SCHEMA.field("tail").type))
        self._stream.write(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))

    def close(self, *, complete: bool = True) -> None:
        """End the stream."""
        self._stream.close(complete=complete)

    def __enter__(self) -> "TransactionWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close(complete=error is None)


def _array(values: NDArray[Any], arrow_type: Any) -> Any:
    return pa.Array.from_buffers(arrow_type, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _lists(counts: Ints, values: Any, arrow_type: Any) -> Any:
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    return pa.ListArray.from_buffers(arrow_type, len(counts), [None, pa.py_buffer(offsets)], children=[values])


class _Stream(NamedTuple):
    """One stream's columns, and the elements of each key's remembered list."""

    facts: dict[str, str]
    rows: dict[str, NDArray[Any]]
    counts: Ints
    mops: dict[str, NDArray[Any]]
    tails: Ints
    complete: bool


def read_transactions(paths: Sequence[Path]) -> Transactions:
    """The transactions of all streams of one run. Raises StoreError on what is not whole rows of this format."""
    if not paths:
        raise StoreError("there is no stream of transactions (no *.txns.arrows file)")
    streams = [_read(path) for path in paths]
    kinds = {stream.facts.get("kind") for stream in streams}
    if len(kinds) > 1 or not kinds <= {kind.value for kind in HistoryKind}:
        raise StoreError(f"{paths[0]}: unknown or mixed kinds of history: {sorted(map(str, kinds))}")
    txns = _joined(HistoryKind(str(kinds.pop())), streams)
    txns.timed = len({stream.facts.get("boot_id") for stream in streams}) == 1
    if not txns.timed:
        txns.warnings.append("the streams were timed on different hosts or boots: real-time order is not judged")
    for path, stream in zip(paths, streams, strict=True):
        if not stream.complete:
            txns.unfit = txns.unfit or f"{path} was cut short: transactions may be missing"
    return txns


def _read(path: Path) -> _Stream:
    batches: list[Any] = []
    complete = False
    try:
        with pa.memory_map(str(path), "r") as source:
            size = source.size()
            tail = source.read_at(len(END_OF_STREAM), size - len(END_OF_STREAM)) if size >= len(END_OF_STREAM) else b""
            source.seek(0)
            reader = pa.ipc.open_stream(source)
            facts = {key.decode(): value.decode() for key, value in (reader.schema.metadata or {}).items()}
            if facts.get("format") != FORMAT or not reader.schema.equals(SCHEMA):
                raise StoreError(f"{path} is not a stream of {FORMAT} (format {facts.get('format', 'none')!r})")
            try:
                for batch in reader:
                    batch.validate(full=True)
                    batches.append(batch)
                complete = tail == END_OF_STREAM
            except (pa.ArrowException, OSError, ValueError, EOFError):
                complete = False
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(f"{path} is not a stream of transactions: {reason}") from error
    return _columns(path, facts, batches, complete)


def _columns(path: Path, facts: dict[str, str], batches: Sequence[Any], complete: bool) -> _Stream:
    if any(column.null_count for batch in batches for column in batch.columns):
        raise StoreError(f"{path} has nulls where none are allowed")
    rows = {
        name: _joined_columns([_numpy(batch.column(name), kind) for batch in batches], kind)
        for name, kind in _ROW_TYPES.items()
    }
    counts = _joined_columns([np.diff(_offsets(batch.column("mops"))) for batch in batches], np.int64)
    structs = [batch.column("mops").flatten() for batch in batches]
    mops = {
        name: _joined_columns([_numpy(struct.field(name), kind) for struct in structs], kind)
        for name, kind in _MOP_TYPES.items()
    }
    tails = _joined_columns([_numpy(batch.column("tail").flatten(), np.int64) for batch in batches], np.int64)
    tail_counts = _joined_columns([np.diff(_offsets(batch.column("tail"))) for batch in batches], np.int64)
    owner = np.repeat(np.arange(len(counts)), counts)
    wanted = np.bincount(owner, weights=mops["tail"], minlength=len(counts)) if len(owner) else np.zeros(len(counts))
    sane = (mops["act"] <= ODD).all() and (mops["tail"] >= 0).all() and (mops["length"] >= mops["tail"]).all()
    sane = sane and (rows["outcome"] <= 2).all() and (wanted == tail_counts).all() and (mops["value"] >= UNKNOWN).all()
    if not sane:
        raise StoreError(f"{path} has rows that contradict themselves")
    return _Stream(facts, rows, counts, mops, tails, complete)


def _numpy(array: Any, kind: Any) -> NDArray[Any]:
    buffer = array.buffers()[-1]
    if buffer is None or not len(array):
        return np.empty(0, kind)
    return np.frombuffer(buffer, dtype=kind, count=len(array), offset=array.offset * np.dtype(kind).itemsize)


def _offsets(array: Any) -> NDArray[Any]:
    if not len(array):
        return np.zeros(1, np.int32)
    return np.frombuffer(array.buffers()[1], dtype=np.int32, count=len(array) + 1, offset=array.offset * 4)


def _joined_columns(parts: Sequence[NDArray[Any]], kind: Any) -> NDArray[Any]:
    return np.concatenate(parts).astype(kind, copy=False) if parts else np.empty(0, kind)


def _joined(kind: HistoryKind, streams: Sequence[_Stream]) -> Transactions:
    """One table of all streams, rows in the order in which they were sent."""
    rows: dict[str, Any] = {name: np.concatenate([stream.rows[name] for stream in streams]) for name in _ROW_TYPES}
    counts = np.concatenate([stream.counts for stream in streams])
    mops = {name: np.concatenate([stream.mops[name] for stream in streams]) for name in _MOP_TYPES}
    tails = np.concatenate([stream.tails for stream in streams])
    stream_of = np.repeat(np.arange(len(streams)), [len(stream.mops["act"]) for stream in streams])
    keys, names = _dense(mops["key"])
    plain = np.repeat(mops["act"] != ODD, mops["tail"])
    of_element = (np.repeat(keys, mops["tail"])[plain], np.repeat(stream_of, mops["tail"])[plain], tails[plain])
    start, elements, odd = _orders(len(names), len(streams), keys, mops, stream_of, of_element, _odd_reads(mops, tails))
    columns: dict[str, Any] = {
        "act": np.where(mops["act"] == ODD, READ, mops["act"]).astype(np.uint8),
        "key": keys,
        "value": mops["value"],
        "length": mops["length"].astype(np.int64),
    }
    if len(streams) > 1:
        order = np.argsort(rows["invoked"], kind="stable")
        moved = _moved(counts, order)
        back = np.empty(len(moved), np.int64)
        back[moved] = np.arange(len(moved))
        rows = {name: column[order] for name, column in rows.items()}
        columns = {name: column[moved] for name, column in columns.items()}
        counts = counts[order]
        odd = {int(back[mop]): seen for mop, seen in odd.items()}
    return Transactions(
        kind=kind,
        **rows,
        start=np.concatenate(([0], np.cumsum(counts))),
        **columns,
        keys=len(names),
        element_start=start,
        elements=elements,
        odd=odd,
        key_name=lambda number: str(names[number]),
        export_key=lambda number: int(names[number]),
    )


def _odd_reads(mops: Mapping[str, NDArray[Any]], tails: Ints) -> dict[int, list[int]]:
    """The lists of the reads that are kept whole."""
    ends = np.cumsum(mops["tail"])
    return {
        mop: tails[int(ends[mop] - mops["tail"][mop]) : int(ends[mop])].tolist()
        for mop in np.flatnonzero(mops["act"] == ODD).tolist()
    }


def _moved(counts: Ints, order: Ints) -> Ints:
    """Where the micro-operations of each row come from when rows are put in ``order``."""
    first = np.cumsum(counts) - counts
    sizes = counts[order]
    ends = np.cumsum(sizes)
    return (
        np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - sizes, sizes) + np.repeat(first[order], sizes)
    )


def _dense(keys: Ints) -> tuple[Ints, Ints]:
    """Keys as numbers from 0, and their names. Keys that are small numbers already keep them."""
    if len(keys) and keys.min() >= 0 and keys.max() < len(keys) // 4 + 1000:
        return keys.astype(np.int64), np.arange(int(keys.max()) + 1)
    if len(keys) and keys.min() >= 0 and keys.max() < _TABLE:
        used = np.zeros(int(keys.max()) + 1, np.bool_)
        used[keys] = True
        number = np.cumsum(used, dtype=np.int32)
        return number[keys].astype(np.int64) - 1, np.flatnonzero(used)
    names, numbers = np.unique(keys, return_inverse=True)
    return numbers.astype(np.int64), names


def _orders(
    keys: int,
    streams: int,
    key: Ints,
    mops: dict[str, NDArray[Any]],
    stream_of: Ints,
    told: tuple[Ints, Ints, Ints],
    odd: dict[int, list[int]],
) -> tuple[Ints, Ints, dict[int, list[int]]]:
    """The longest list of each key that any stream remembered; reads of streams that disagree with it become odd."""
    element_key, element_stream, elements = told
    group = element_key * streams + element_stream
    elements = elements[np.argsort(group, kind="stable")]
    size = np.bincount(group, minlength=keys * streams).reshape(keys, streams)
    first = (np.cumsum(size) - size.ravel()).reshape(keys, streams)
    reads = np.flatnonzero((mops["act"] == READ) & (mops["value"] != UNKNOWN) & (mops["length"] > 0))
    if (mops["length"][reads] > size[key[reads], stream_of[reads]]).any():
        raise StoreError("a read of a list is longer than the list in its stream")
    best = size.argmax(axis=1)
    longest = size[np.arange(keys), best]
    begin = first[np.arange(keys), best]
    start = np.concatenate(([0], np.cumsum(longest)))
    every = np.repeat(begin - start[:-1], longest) + np.arange(int(start[-1]))
    chosen = elements[every]
    for stream in range(streams) if streams > 1 else ():
        mine = size[:, stream]
        owner = np.repeat(np.arange(keys), mine)
        inside = np.arange(int(mine.sum())) - np.repeat(np.cumsum(mine) - mine, mine)
        bad = elements[first[owner, stream] + inside] != chosen[start[owner] + inside]
        agreed = mine.copy()
        np.minimum.at(agreed, owner[bad], inside[bad])
        wrong = reads[(stream_of[reads] == stream) & (mops["length"][reads] > agreed[key[reads]])]
        for mop in wrong.tolist():
            at = int(first[key[mop], stream])
            odd[mop] = elements[at : at + int(mops["length"][mop])].tolist()
    return start, chosen, odd
