"""The history: what a run did, as Arrow IPC streams, append only. The load writes it and the judge reads it. It is the
only link between them.

A run directory holds, under ``history/``:

- ``P.invoked.arrows``: every op number that load process P received, with everything that identifies its op. They are
  written *before* P may start any of them. A number without a completion is ``info``: it may have happened.
- ``P.ops.arrows``: one row for each completion, and one for each failed try before it.
- ``faults.arrows``: what was done to the cluster, and when.
- ``final.TABLE.arrows``: what the tables held when all was quiet.
- ``series.arrow``: counts and times of each second, made from the streams (judge.stored_series): it proves nothing.

Each batch of a stream is sealed, and so is its end (stream.py): one without an end was cut, by a crash or a full disk.
A load process that ended in order says so by a last CLOSED row whose number is the first one that it never started.
Streams of other names are a later version's: they are passed over with a warning.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.clock import ClockOrigin
from loadgen.errors import StoreError
from loadgen.history.arrays import TOUCHED, of_numbers, of_small, of_strings, of_touched
from loadgen.history.stream import END_OF_STREAM as END_OF_STREAM
from loadgen.history.stream import Columns as Columns
from loadgen.history.stream import Sealed, Stream, arrow_type, no_rows
from loadgen.history.stream import StreamWriter as StreamWriter
from loadgen.history.stream import read_stream as read_stream
from loadgen.history.stream import table_batch as table_batch
from loadgen.op import Completion, Outcome

SUFFIX = ".arrows"
MOST_STREAMS = 50_000
"""More files are not the history of a run."""
LATEST_NS = 2**62
"""A later instant is shown by no clock, and sums of two times stay below 2^63."""
_KNOWN = re.compile(r"final\..+|faults|.+\.(?:invoked|ops)", re.DOTALL)

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
OPS_SCHEMA = pa.schema(
    [(name, arrow_type(kind)) for name, kind in _OPS_TYPES.items()] + [("code", pa.string()), ("touched", TOUCHED)]
)
_INT32, _INT64 = pa.int32(), pa.int64()
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


class HistoryWriter:
    """Writes the two streams of one load process."""

    def __init__(
        self, directory: Path, process: str, invoked_types: Mapping[str, str], facts: Mapping[str, str]
    ) -> None:
        self._types = invoked_types
        schema = pa.schema([(name, arrow_type(kind)) for name, kind in invoked_types.items()])
        facts = {"load_process": process, **facts}
        self._invoked = StreamWriter(directory / f"{process}.invoked{SUFFIX}", schema, facts)
        self._ops = StreamWriter(directory / f"{process}.ops{SUFFIX}", OPS_SCHEMA, facts)
        self.written = 0
        """How many rows of tries and ends have been written."""

    def invoked(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Write a block of numbers. Only after it returns may any of them be started."""
        self._invoked.write(table_batch(columns, self._types))

    def batch(self, batch: Any) -> None:
        """Append a batch made by ``ops_batch``."""
        self._ops.write(batch)
        self.written += batch.num_rows

    def closed(self, next_number: int) -> None:
        """Record that this process has ended in order, and never started ``next_number`` or a later number."""
        row = Completion(next_number, 0, -1, 0, 0, 0, int(Outcome.OK), 0, 0, 0, "", ())
        self._ops.write(ops_batch([row], [ROW_CLOSED]))

    def close(self) -> None:
        """End both streams."""
        self._invoked.close()
        self._ops.close()

    @property
    def sealed(self) -> dict[str, Sealed]:
        """What both streams hold so far, by their names."""
        return {stream.path.name.removesuffix(SUFFIX): stream.sealed for stream in (self._invoked, self._ops)}


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
    """The first number that it never started; None if it died, or if its streams are not whole."""

    def ended(self, kinds: Sequence[int] | None = None) -> NDArray[np.int64]:
        """The numbers that it was handed and that have a row of ``kinds`` (None: of any), each once, in their order.

        Its numbers ascend; where a damaged history's do not, some are not found.
        """
        numbers = self.invoked.get("number", np.zeros(0, np.int64))
        found = np.zeros(len(numbers), dtype=bool)
        if len(numbers):
            told = self.ops["number"] if kinds is None else self.ops["number"][np.isin(self.ops["kind"], kinds)]
            at = np.minimum(np.searchsorted(numbers, told), len(numbers) - 1)
            found[at[numbers[at] == told]] = True
        return np.asarray(numbers[found])

    def told_all(self, kinds: Sequence[int] | None = None) -> bool:
        """Whether it ended in order, and every number that it started has a row of ``kinds`` (None: of any)."""
        if self.closed_at is None:
            return False
        numbers = self.invoked.get("number", np.zeros(0, np.int64))
        return int((self.ended(kinds) < self.closed_at).sum()) == int((numbers < self.closed_at).sum())


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
    warnings: list[str] = field(default_factory=list)
    """What was passed over, one sentence each."""
    torn: dict[str, str] = field(default_factory=dict)
    """Those of ``problems`` that are no more than a missing end, by the load process whose stream it is."""
    sealed: dict[str, Sealed | None] = field(default_factory=dict)
    """What the seals of each stream vouch for, by its name; None for an older version's, which has none."""


def write_final(
    directory: Path,
    table: str,
    columns: Mapping[str, NDArray[Any]],
    types: Mapping[str, str],
    facts: Mapping[str, str] | None = None,
) -> Sealed:
    """Write what ``table`` held at the end, in one stream, with ``facts`` about it in its header; what it holds now.

    Raises StoreError, and leaves nothing then.
    """
    batch = table_batch(columns, types)
    path = directory / f"final.{table}{SUFFIX}"
    try:
        with StreamWriter(path, batch.schema, facts) as stream:
            stream.write(batch)
    except BaseException:
        # A part of a table would look like a database that lost the rest.
        path.unlink(missing_ok=True)
        raise
    return stream.sealed


def read_history(directory: Path, *, run_id: str = "", listed: Collection[str] | None = None) -> History:
    """Read everything under ``directory``. What is whole is returned, what is not is named in ``problems``.

    A stream that says it is of another run than ``run_id`` is a problem. ``listed`` are the streams that the run says
    it wrote: of others, what is not sound is passed over with a warning, what is sound is read with one. Raises
    StoreError only where there is no history at all.
    """
    history = History()
    streams: dict[str, Stream] = {}
    unlisted: list[str] = []
    paths = _paths(directory)
    known = [path for path in paths if _KNOWN.fullmatch(path.name.removesuffix(SUFFIX))]
    for path in set(paths) - set(known):
        history.warnings.append(f"{path} is not a stream that this version knows: it is ignored")
    for path in known:
        stream = read_stream(path)
        name = path.name.removesuffix(SUFFIX)
        _refuse_foreign(stream, path, run_id)
        history.sealed[name] = stream.sealed
        if listed is not None and name not in listed:
            unlisted.append(f"{name} ({stream.problem})" if stream.problem else name)
            if stream.problem:
                continue
        streams[name] = stream
        if stream.problem:
            history.problems.append(stream.problem)
            history.damaged.add(name)
            if stream.torn and _process_of(name):
                history.torn[stream.problem] = _process_of(name)
    if unlisted:
        told = ", ".join(unlisted[:3]) + (" and others" if len(unlisted) > 3 else "")
        history.warnings.append(f"streams that the run does not list, judged where they are intact: {told}")
    _sort(history, directory, streams)
    return history


def _sort(history: History, directory: Path, streams: Mapping[str, Stream]) -> None:
    """Put each stream where it belongs, by its name."""
    for name, stream in streams.items():
        if name.startswith("final.") and stream.problem:
            continue  # A part of a table would look like a database that lost the rest.
        if name.startswith("final."):
            history.final[name.removeprefix("final.")] = stream.columns
            history.final_facts[name.removeprefix("final.")] = stream.facts
        elif name == "faults":
            history.faults = stream.columns
        elif name.endswith(".invoked"):
            _add_process(history, directory, _process_of(name), stream, streams.get(_process_of(name) + ".ops"))
        elif _process_of(name) + ".invoked" not in streams:
            history.problems.append(
                f"{directory / name}{SUFFIX} has no invoked stream beside it, so its ops are not judged"
            )


def _paths(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(SUFFIX))
    except OSError as error:
        raise StoreError(f"{directory} holds no history: {error.strerror or error}") from error
    if not 0 < len(names) <= MOST_STREAMS:
        raise StoreError(
            f"{directory} holds {f'{len(names):,} streams' if names else f'no history (no {SUFFIX} file)'}"
        )
    return [directory / name for name in names]


def _process_of(name: str) -> str:
    """Which load process a stream is of; empty for final reads and faults."""
    process, _, what = name.rpartition(".")
    return process if what in ("invoked", "ops") else ""


def _refuse_foreign(stream: Stream, path: Path, run_id: str) -> None:
    """Trust nothing of a stream that says it is another run's, or another stream of this one."""
    name = path.name.removesuffix(SUFFIX)
    told, told_name = stream.facts.get("run_id", ""), stream.facts.get("stream", "")
    foreign = f"of another run, {told}" if run_id and told and told != run_id else ""
    foreign = foreign or (f"the stream {told_name} in the place of another" if told_name not in ("", name) else "")
    if foreign:
        stream.problem, stream.torn, stream.columns = f"{path} is {foreign}", False, {}


def _add_process(history: History, directory: Path, name: str, invoked: Stream, ops: Stream | None) -> None:
    columns = ops.columns if ops is not None and ops.columns else no_rows(OPS_SCHEMA)
    numbered = getattr(invoked.columns.get("number"), "dtype", None) == np.int64
    fault = (
        "has no ops stream beside it"
        if ops is None
        else "lacks the column number"
        if not numbered and not invoked.problem
        else _fault(columns)
    )
    whole = not fault and ops is not None and not (invoked.problem or ops.problem)
    if fault:
        history.problems.append(f"{directory / name}.invoked{SUFFIX} {fault}")
        history.damaged |= {f"{name}.ops"}
        columns = no_rows(OPS_SCHEMA)
    if not numbered:
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
            closed_at=int(closed[-1]) if len(closed) and whole else None,
        )
    )


def _fault(ops: Columns) -> str:
    """What is wrong with the columns of an ops stream; empty if a run can have written them."""
    expected = no_rows(OPS_SCHEMA)
    wrong = [name for name, empty in expected.items() if getattr(ops.get(name), "dtype", None) != empty.dtype]
    if wrong or len(ops) != len(expected):
        return f"and the ops beside it lack the columns {', '.join(wrong) or 'of this version'}"
    if len(ops["type"]) and int(ops["type"].max()) > ROW_CLOSED:
        return "and the ops beside it hold rows of an unknown type"
    for name in ("due", "sent", "done"):
        times = ops[name]
        if len(times) and not 0 <= int(times.min()) <= int(times.max()) <= LATEST_NS:
            return f"and the ops beside it hold a time ({name}) that no clock shows"
    return ""


def _origin(facts: Mapping[str, str]) -> ClockOrigin:
    """Whose clock a stream's times are of. Without a boot id nothing can be ordered against another process."""
    wall_ns, monotonic_ns = (facts.get(name, "") for name in ("wall_ns", "monotonic_ns"))
    if not all(re.fullmatch("[0-9]{1,19}", text) and int(text) <= LATEST_NS for text in (wall_ns, monotonic_ns)):
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
