"""The history: what a run did, as Arrow IPC streams, append only. Driving writes it, judging reads it: the only seam.

A run directory holds, under ``history/``:

- ``P.invoked.arrows``: every op number that load process P was handed, written *before* it may start any of them,
  with all that identifies it. A number without a completion is ``info``: it may have happened.
- ``P.ops.arrows``: one row for each completion, and one for each failed try before it.
- ``faults.arrows``: what was done to the cluster, and when.
- ``final.TABLE.arrows``: what the tables held when all was quiet.

A stream that was closed ends in Arrow's end-of-stream marker; one without it was cut, by a crash or a full disk. A
load process that ended in order says so by a last CLOSED row whose number is the first one that it never started.
"""

import contextlib
import errno
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.arrays import TOUCHED, numpy_type, of_numbers, of_small, of_strings, of_touched, to_numpy, to_touched
from loadgen.clock import ClockOrigin, clock_origin
from loadgen.errors import StoreError
from loadgen.op import Completion, Outcome

Columns = dict[str, NDArray[Any]]

FORMAT = "loadgen-history-1"
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"

ROW_TRY, ROW_DONE, ROW_CLOSED = 0, 1, 2
"""What a row of an ops stream is: a failed try that was retried, an op's end, or the process's own end."""

_OPS_TYPES: Mapping[str, str] = {
    "type": "uint8",
    "number": "int64",
    "kind": "uint8",
    "process": "int32",
    "due": "int64",
    "sent": "int64",
    "done": "int64",
    "outcome": "uint8",
    "answer": "uint8",
    "tries": "int32",
    "stage": "uint8",
}
_ARROW: Mapping[str, Any] = {
    "uint8": pa.uint8(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
}
OPS_SCHEMA = pa.schema(
    [(name, _ARROW[kind]) for name, kind in _OPS_TYPES.items()] + [("code", pa.string()), ("touched", TOUCHED)]
)
_INT32, _INT64 = _ARROW["int32"], _ARROW["int64"]
FAULT_SCHEMA = pa.schema([("at", pa.int64()), ("fault", pa.string()), ("node", pa.string()), ("act", pa.string())])


def ops_batch(rows: Sequence[Completion], types: Sequence[int] | None = None) -> Any:
    """The record batch of ``rows``; ``types`` are their ROW_ values, ROW_DONE for each if left out.

    Arrays are made from numpy buffers: ``pyarrow.array`` would import pandas, which stops a live run for 200 ms.
    """
    count = len(rows)
    columns = zip(*rows, strict=True) if rows else [()] * len(Completion._fields)
    number, kind, process, due, sent, done, outcome, answer, tries, stage, code, touched = columns
    # One conversion for all columns of a width, and bytes() for the small ones: this is paid for every op of a run.
    wide = np.array((number, due, sent, done), dtype=np.int64)
    narrow = np.array((process, tries), dtype=np.int32)
    arrays = [
        of_small(types if types is not None else [ROW_DONE] * count),
        of_numbers(wide[0], _INT64),
        of_small(kind),
        of_numbers(narrow[0], _INT32),
        of_numbers(wide[1], _INT64),
        of_numbers(wide[2], _INT64),
        of_numbers(wide[3], _INT64),
        of_small(outcome),
        of_small(answer),
        of_numbers(narrow[1], _INT32),
        of_small(stage),
        of_strings(code),
        of_touched(touched),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=OPS_SCHEMA)


def table_batch(columns: Mapping[str, NDArray[Any]], types: Mapping[str, str]) -> Any:
    """The record batch of numpy columns, of the Arrow types that ``types`` names (int64, int32, uint8, string)."""
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in types.items()])
    arrays = [
        of_strings([str(value) for value in columns[name]])
        if kind == "string"
        else of_numbers(np.ascontiguousarray(columns[name], dtype=kind), _ARROW[kind])
        for name, kind in types.items()
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class StreamWriter:
    """Appends record batches to one Arrow IPC stream. Raises StoreError once the disk will take no more."""

    def __init__(self, path: Path, schema: Any, facts: Mapping[str, str] | None = None) -> None:
        origin = clock_origin()
        metadata = {"format": FORMAT, **{name: str(value) for name, value in asdict(origin).items()}, **(facts or {})}
        self.path = path
        self._schema = schema
        try:
            # Unbuffered, and never over another history: what was written is in the operating system's hands.
            self._file = path.open("xb", buffering=0)
        except OSError as error:
            raise StoreError(f"cannot write the history {path}: {error.strerror or error}") from error
        self._append(schema.with_metadata(metadata).serialize())

    def write(self, batch: Any) -> None:
        """Append one batch. After a StoreError nothing more may be written."""
        assert batch.schema.equals(self._schema), f"{self.path} holds other columns than {batch.schema.names}"
        self._append(batch.serialize())

    def close(self, *, complete: bool = True) -> None:
        """End the stream; with ``complete`` false without its marker, so that a reader knows that it was cut."""
        if self._file.closed:
            return
        if complete:
            with contextlib.suppress(StoreError):
                self._append(END_OF_STREAM)
        self._file.close()

    def _append(self, message: Any) -> None:
        """Append one whole message of the stream: pyarrow's own writer would make a call for each of its parts."""
        left = memoryview(message)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
            raise StoreError(f"cannot write the history {self.path}: {reason}") from error

    def __enter__(self) -> "StreamWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close(complete=error is None)


class HistoryWriter:
    """Writes the two streams of one load process."""

    def __init__(
        self, directory: Path, process: str, invoked_types: Mapping[str, str], facts: Mapping[str, str]
    ) -> None:
        self._types = invoked_types
        schema = pa.schema([(name, _ARROW[kind]) for name, kind in invoked_types.items()])
        facts = {"load_process": process, **facts}
        self._invoked = StreamWriter(directory / f"{process}.invoked.arrows", schema, facts)
        self._ops = StreamWriter(directory / f"{process}.ops.arrows", OPS_SCHEMA, facts)

    def invoked(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Write a block of numbers. Only after it returns may any of them be started."""
        self._invoked.write(table_batch(columns, self._types))

    def batch(self, batch: Any) -> None:
        """Append a batch made by ``ops_batch``."""
        self._ops.write(batch)

    def closed(self, next_number: int) -> None:
        """Say that this process has ended in order, and never started ``next_number`` or a later one it was handed."""
        row = Completion(next_number, 0, -1, 0, 0, 0, int(Outcome.OK), 0, 0, 0, "", ())
        self._ops.write(ops_batch([row], [ROW_CLOSED]))

    def close(self) -> None:
        """End both streams."""
        self._invoked.close()
        self._ops.close()


@dataclass(slots=True)
class LoadProcess:
    """What one load process did. ``ops`` and ``tries`` have the fields of Completion; ``code`` holds strings.

    ``touched_*`` of ``ops``: row i's touches are ``touched_row[touched_start[i]:touched_start[i + 1]]`` and so on.
    """

    name: str
    origin: ClockOrigin
    facts: Mapping[str, str]
    invoked: Columns
    ops: Columns
    tries: Columns
    closed_at: int | None
    """The first number that it never started, or None if it died."""


@dataclass(slots=True)
class History:
    """A whole run, as read back. ``problems`` says what was missing or broken, one sentence each.

    ``damaged`` names the streams (``load-0.ops``, ``final.orders``) that were not read to their end.
    """

    processes: list[LoadProcess] = field(default_factory=list)
    final: dict[str, Columns] = field(default_factory=dict)
    final_facts: dict[str, Mapping[str, str]] = field(default_factory=dict)
    faults: Columns = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)


def write_final(
    directory: Path,
    table: str,
    columns: Mapping[str, NDArray[Any]],
    types: Mapping[str, str],
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write what ``table`` held at the end, in one stream, with ``facts`` about it in its header."""
    batch = table_batch(columns, types)
    with StreamWriter(directory / f"final.{table}.arrows", batch.schema, facts) as stream:
        stream.write(batch)


def read_history(directory: Path) -> History:
    """Read everything under ``directory``. What is whole is returned, what is not is named in ``problems``.

    Raises StoreError only where there is no history at all.
    """
    paths = sorted(directory.glob("*.arrows")) if directory.is_dir() else []
    if not paths:
        raise StoreError(f"{directory} holds no history (no .arrows file)")
    history = History()
    streams: dict[str, Stream] = {}
    for path in paths:
        stream = read_stream(path)
        history.problems += stream.problems
        streams[path.name.removesuffix(".arrows")] = stream
        if stream.problems:
            history.damaged.add(path.name.removesuffix(".arrows"))
    for name, stream in streams.items():
        if name.startswith("final."):
            history.final[name.removeprefix("final.")] = stream.columns
            history.final_facts[name.removeprefix("final.")] = stream.facts
        elif name == "faults":
            history.faults = stream.columns
        elif name.endswith(".invoked"):
            ops = streams.get(name.removesuffix(".invoked") + ".ops")
            if ops is None:
                history.problems.append(f"{directory / name}.arrows has no ops stream beside it")
            _add_process(history, directory, name.removesuffix(".invoked"), stream, ops)
        elif name.removesuffix(".ops") + ".invoked" not in streams:
            history.problems.append(
                f"{directory / name}.arrows has no invoked stream beside it: its ops are not judged"
            )
    return history


@dataclass(slots=True)
class Stream:
    """One stream as read: its columns, the facts in its header, and what is wrong with it."""

    columns: Columns
    facts: Mapping[str, str]
    problems: list[str]


def read_stream(path: Path) -> Stream:
    """Read one stream as far as it is whole. Never raises on what the file holds: that is told in ``problems``."""
    batches: list[Any] = []
    schema: Any = None
    problem = ""
    try:
        with pa.memory_map(str(path), "r") as source:
            size = source.size()
            tail = source.read_at(len(END_OF_STREAM), size - len(END_OF_STREAM)) if size >= len(END_OF_STREAM) else b""
            source.seek(0)
            reader = pa.ipc.open_stream(source)
            schema = reader.schema
            end = source.tell()
            for batch in reader:
                batch.validate(full=True)
                batches.append(batch)
                end = source.tell()
        # The marker may stand by chance at the end of what was cut, so the last batch must end right before it.
        if tail != END_OF_STREAM or end + len(END_OF_STREAM) != size:
            problem = f"{path} was cut short: it has no end-of-stream marker"
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        problem = f"{path} is truncated or not a history of loadgen: {_reason(error)}"
    problems = [problem] if problem else []
    try:
        facts = _facts(schema)
        return Stream(_columns(schema, batches) if facts else {}, facts, problems)
    except (pa.ArrowException, ValueError) as error:
        return Stream({}, {}, [*problems, f"{path} is not a history of loadgen: {_reason(error)}"])


def _facts(schema: Any) -> Mapping[str, str]:
    """The facts in a stream's header; empty where there is no header. Raises ValueError if it is not one of ours."""
    if schema is None:
        return {}
    facts = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    if facts.get("format") != FORMAT:
        raise ValueError(f"its format is {facts.get('format', 'not said')}, not {FORMAT}")
    foreign = [column.name for column in schema if column.type not in (*_ARROW.values(), TOUCHED)]
    if foreign:
        raise ValueError(f"its columns {', '.join(foreign)} are of other types")
    return facts


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _add_process(history: History, directory: Path, name: str, invoked: Stream, ops: Stream | None) -> None:
    columns = ops.columns if ops is not None and ops.columns else _columns(OPS_SCHEMA, [])
    expected = _columns(OPS_SCHEMA, [])
    wrong = [column for column, empty in expected.items() if getattr(columns.get(column), "dtype", None) != empty.dtype]
    if wrong or "number" not in invoked.columns:
        history.problems.append(f"{directory / name}.*.arrows lacks the columns {', '.join(wrong or ['number'])}")
        return
    kinds = columns["type"]
    closed = columns["number"][kinds == ROW_CLOSED]
    history.processes.append(
        LoadProcess(
            name=name,
            origin=_origin(invoked.facts),
            facts=invoked.facts,
            invoked=invoked.columns,
            ops=_select(columns, kinds == ROW_DONE),
            tries=_select(columns, kinds == ROW_TRY),
            closed_at=int(closed[-1]) if len(closed) else None,
        )
    )


def _origin(facts: Mapping[str, str]) -> ClockOrigin:
    """Whose clock a stream's times are of. Without a boot id nothing can be ordered against another process."""
    wall_ns, monotonic_ns = (facts.get(name, "") for name in ("wall_ns", "monotonic_ns"))
    if not (wall_ns.isdigit() and monotonic_ns.isdigit()):
        return ClockOrigin("", "", 0, 0)
    return ClockOrigin(facts.get("host", ""), facts.get("boot_id", ""), int(wall_ns), int(monotonic_ns))


def _select(columns: Columns, mask: NDArray[np.bool_]) -> Columns:
    """The rows of ``columns`` where ``mask`` holds, touches included."""
    if mask.all():
        return columns
    start = columns["touched_start"]
    lengths = np.diff(start)
    touched = np.repeat(mask, lengths)
    return {
        **{name: values[mask] for name, values in columns.items() if not name.startswith("touched_")},
        "touched_start": np.concatenate(([0], np.cumsum(lengths[mask]))),
        **{name: columns[name][touched] for name in ("touched_row", "touched_read", "touched_wrote")},
    }


def _columns(schema: Any, batches: Sequence[Any]) -> Columns:
    columns: Columns = {}
    for index, column in enumerate(schema):
        arrays = [batch.column(index) for batch in batches]
        if column.type == TOUCHED:
            columns |= to_touched(arrays)
        elif pa.types.is_string(column.type):
            # Error codes are few: as objects, equal codes are one string.
            texts = itertools.chain.from_iterable(array.to_pylist() for array in arrays)
            columns[column.name] = np.array([known or "" for known in texts], dtype=object)
        else:
            parts = [to_numpy(array) for array in arrays]
            columns[column.name] = np.concatenate(parts) if parts else np.empty(0, numpy_type(column.type))
    return columns


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON, whole or not at all. Raises StoreError if the disk will not take it."""
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_text(json.dumps(value, indent=2, default=_plain) + "\n")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def _plain(value: Any) -> Any:
    convert: Callable[[], Any] | None = getattr(value, "tolist", None)
    if convert is None:
        raise TypeError(f"{type(value).__name__} has no JSON form")
    return convert()
