"""The offered load: every arrival of the schedule that became due, and a row for each one that has none.

``due = started + skipped`` must hold in every ending, so an arrival without a row gets one here, for figures only:

- ``info`` if its load process had its number and still lived when it was due, so that it may have started;
- ``skipped`` if nobody can have started it: its process was lost before (WORKER_LOST), or it got no number (NO_NUMBER).

The consistency checks do not read these rows. For them, every number that a dead process received may have happened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import NS_PER_S
from loadgen.history.history import LoadProcess
from loadgen.op import Outcome
from loadgen.plan import MAX_DURATION_S, Plan
from loadgen.schedule import arrival_profile, has_schedule, kinds_by_mix, plan_arrivals
from loadgen.shapes import is_closed
from loadgen.untrusted import mapping
from loadgen.workload.facts import words_of

WORKER_LOST = "worker-lost"
"""The code of an arrival whose load process was gone."""
NO_NUMBER = "no-number"
"""The code of an arrival that got no number in time, from a history that could not be written."""
NO_ENDING = "no-ending"
"""The code of an op that may have started and has no row."""
MOST_ARRIVALS = 30_000_000
"""A longer schedule is not computed again, because it would take more memory than the run's own rows."""

MAX_HORIZON_NS = int(MAX_DURATION_S * NS_PER_S)

Numbers = NDArray[np.int64]
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Offered:
    """A run's load processes with a row for every arrival that was due, and what had to be added, in words."""

    processes: list[LoadProcess]
    notes: list[str] = field(default_factory=list)

    def skipped_because(self, kind: int | None) -> dict[str, int]:
        """Why arrivals of ``kind`` (None: of any) were skipped, by cause: those past the late limit, and the added."""
        counts = {"late": 0, "worker_lost": 0, "no_number": 0}
        names = {WORKER_LOST: "worker_lost", NO_NUMBER: "no_number"}
        for process in self.processes:
            ops = process.ops
            skipped = ops["outcome"] == Outcome.SKIPPED
            if kind is not None:
                skipped &= ops["kind"] == kind
            codes = ops["code"][skipped]
            for code, name in names.items():
                counts[name] += int((codes == code).sum())
            counts["late"] += len(codes)
        counts["late"] -= counts["worker_lost"] + counts["no_number"]
        return counts


@dataclass(frozen=True, slots=True)
class _Ending:
    """How one load process ended, from its history and the load side. Times are of its own clock."""

    share: tuple[int, int]
    closed_at: int | None
    """The first number that it never started; None if it died."""
    lost: str
    """Why it did not drive its share to the end; empty if it did."""
    unnumbered: int
    start_ns: int | None
    last_ns: int | None
    """Its last sign of life."""


def offered(
    processes: Sequence[LoadProcess], plan: Plan, workload: Mapping[str, Any], load: Mapping[str, Any]
) -> Offered:
    """The processes of a run, complete. ``workload`` is plan.json's, ``load`` is load.json, empty if the load died."""
    words = words_of(plan.workload, workload)
    arriving = words.arrivals
    codes = [words.kinds.index(name) for name in arriving]
    if not has_schedule(plan) or not all(_joinable(process) for process in processes):
        return Offered(list(processes))
    told = mapping(load.get("processes"))
    endings = [_ending(process, mapping(told.get(process.name)), len(processes)) for process in processes]
    if is_closed(plan.shape):
        return _closed_loop(processes, endings, codes)
    # So it is in any run that nothing happened to.
    whole = all(
        not ending.lost and not ending.unnumbered and process.told_all(codes)
        for process, ending in zip(processes, endings, strict=True)
    )
    missing = _missing_shares(endings)
    if whole and not missing:
        return Offered(list(processes))
    if arrival_profile(plan, arriving).total > MOST_ARRIVALS:
        return Offered(list(processes), ["the schedule is too long to count what lost load processes left of it"])
    return _Accounts(plan, arriving, codes, load, processes, endings).completed(missing)


class _Accounts:
    """Completes the processes of an open run."""

    def __init__(
        self,
        plan: Plan,
        arriving: Sequence[str],
        codes: Sequence[int],
        load: Mapping[str, Any],
        processes: Sequence[LoadProcess],
        endings: Sequence[_Ending],
    ) -> None:
        self._plan = plan
        self._arriving = arriving
        self._codes = codes
        self._processes = processes
        self._endings = [
            replace(ending, start_ns=self._start_of(process, ending))
            for process, ending in zip(processes, endings, strict=True)
        ]
        self._start_wall_ns = self._first_instant(load)
        self._horizon_ns = self._horizon(load)
        last = [int(process.invoked["number"][-1]) for process in processes if len(process.invoked["number"])]
        self._next_number = 1 + max(last, default=-1)

    def completed(self, missing: Sequence[tuple[int, int]]) -> Offered:
        processes, notes = [], []
        for process, ending in zip(self._processes, self._endings, strict=True):
            rows = self._rows(process, ending)
            processes.append(_with_rows(process, rows))
            notes += _note(process.name, ending, rows)
        for share in missing:
            name = f"{share[0]} (no history)"
            process = _nobody(name, self._processes)
            ending = _Ending(share, None, "it was lost before the load began", 0, None, None)
            rows = self._rows(process, ending)
            processes.append(_with_rows(process, rows))
            notes += _note(name, ending, rows)
        return Offered(processes, notes)

    def _rows(self, process: LoadProcess, ending: _Ending) -> Columns:
        """The rows that are missing in one process."""
        start_ns = ending.start_ns
        if start_ns is None and self._start_wall_ns is not None:
            start_ns = self._start_wall_ns - process.origin.wall_ns + process.origin.monotonic_ns
        if start_ns is None:
            return _no_rows()
        numbers = process.invoked["number"]
        stopped_by_itself = ending.closed_at is not None and not ending.lost
        due = self._due(ending.share, MAX_HORIZON_NS if stopped_by_itself else self._horizon_ns) + start_ns
        open_ = np.ones(len(due), dtype=bool)
        ended = np.searchsorted(numbers, process.ended(self._codes))
        open_[ended[ended < len(due)]] = False
        position = np.arange(len(due))
        numbered = position < len(numbers)
        if ending.closed_at is not None:
            may_have_started = position < int(np.searchsorted(numbers, ending.closed_at))
            if stopped_by_itself:
                # Nothing was due any more when it was stopped, but for what had no number.
                open_ &= position < int(np.searchsorted(numbers, ending.closed_at)) + ending.unnumbered
        else:
            last_ns = ending.last_ns if ending.last_ns is not None else -1
            may_have_started = numbered & (due <= last_ns)
        at = np.flatnonzero(open_)
        kind = self._kinds(process, at)
        return {
            "number": np.where(numbered[at], np.append(numbers, -1)[np.minimum(at, len(numbers))], -1),
            "kind": kind,
            "due": due[at],
            "outcome": np.where(may_have_started[at], int(Outcome.INFO), int(Outcome.SKIPPED)),
            "code": np.where(
                may_have_started[at], NO_ENDING, WORKER_LOST if ending.lost or ending.closed_at is None else NO_NUMBER
            ).astype(object),
        }

    def _kinds(self, process: LoadProcess, at: Numbers) -> NDArray[Any]:
        """The kinds of the arrivals ``at``: by their numbers, or by the numbers that they would have received."""
        told = process.invoked.get("kind")
        numbers = process.invoked["number"]
        kinds = np.full(len(at), self._codes[0])
        has_number = at < len(numbers)
        if told is not None and len(told) == len(numbers):
            kinds[has_number] = told[at[has_number]]
        count = int((~has_number).sum())
        if count:
            drawn = kinds_by_mix(self._plan, self._arriving, np.arange(self._next_number, self._next_number + count))
            kinds[~has_number] = np.array(self._codes)[drawn]
            self._next_number += count
        return kinds

    def _due(self, share: tuple[int, int], horizon_ns: int) -> Numbers:
        """What was due of a share before ``horizon_ns``, in nanoseconds since the start."""
        chunks = []
        for chunk in plan_arrivals(self._plan, self._arriving, *share):
            chunks.append(chunk[chunk < horizon_ns])
            if len(chunks[-1]) < len(chunk):
                break
        return np.concatenate([*chunks, np.empty(0, np.int64)])

    def _start_of(self, process: LoadProcess, ending: _Ending) -> int | None:
        """When a process's schedule began: its first recorded arrival is in the schedule."""
        told = _arrivals(process, self._codes)
        if not told.any():
            return None
        numbers = process.ops["number"][told]
        first = int(np.argmin(numbers))
        wanted = int(np.searchsorted(process.invoked["number"], numbers[first]))
        for chunk in plan_arrivals(self._plan, self._arriving, *ending.share):
            if wanted < len(chunk):
                return int(process.ops["due"][told][first]) - int(chunk[wanted])
            wanted -= len(chunk)
        return None

    def _first_instant(self, load: Mapping[str, Any]) -> int | None:
        """The wall clock's nanoseconds at the begin of the schedule."""
        told = load.get("start_wall_ns")
        if isinstance(told, int):
            return told
        known = [
            process.origin.wall_of(ending.start_ns)
            for process, ending in zip(self._processes, self._endings, strict=True)
            if ending.start_ns is not None
        ]
        return min(known, default=None)

    def _horizon(self, load: Mapping[str, Any]) -> int:
        """Up to when arrivals were due, in nanoseconds since the start: as recorded, or the last sign of life of any
        process."""
        told = load.get("offered_s")
        if isinstance(told, int | float) and isfinite(told):
            return int(max(0.0, min(told, self._plan.duration_s)) * NS_PER_S)
        lives = [
            ending.last_ns - ending.start_ns
            for ending in self._endings
            if ending.last_ns is not None and ending.start_ns is not None
        ]
        return min(max(lives, default=0), int(self._plan.duration_s * NS_PER_S))


def _closed_loop(processes: Sequence[LoadProcess], endings: Sequence[_Ending], codes: Sequence[int]) -> Offered:
    """Where nothing arrives, what was taken and has no row is ``info``: the numbers before the last one that has."""
    completed, notes = [], []
    for process, ending in zip(processes, endings, strict=True):
        numbers = process.invoked["number"]
        told = process.ended(codes)
        taken = np.searchsorted(numbers, ending.closed_at) if ending.closed_at is not None else 0
        if ending.closed_at is None and len(told):
            taken = np.searchsorted(numbers, told.max()) + 1
        at = np.setdiff1d(np.arange(int(taken)), np.searchsorted(numbers, told))
        kind = process.invoked.get("kind")
        rows: Columns = {
            "number": numbers[at],
            "kind": kind[at] if kind is not None and len(kind) == len(numbers) else np.full(len(at), codes[0]),
            "due": np.full(len(at), ending.last_ns or 0, dtype=np.int64),
            "outcome": np.full(len(at), int(Outcome.INFO)),
            "code": np.full(len(at), NO_ENDING, dtype=object),
        }
        completed.append(_with_rows(process, rows))
        notes += _note(process.name, ending, rows)
    return Offered(completed, notes)


def _ending(process: LoadProcess, told: Mapping[str, Any], count: int) -> _Ending:
    closed_at = process.closed_at
    if closed_at is None and isinstance(told.get("next_number"), int):
        closed_at = told["next_number"]  # It ended in order, and only its history could not be written to the end.
    lost = told.get("lost")
    unnumbered = told.get("unnumbered")
    times = [rows[name] for rows in (process.ops, process.tries) for name in ("due", "done") if name in rows]
    ends = [column.max() for column in times if len(column)]
    return _Ending(
        share=_share(process, count),
        closed_at=closed_at,
        lost=lost if isinstance(lost, str) and lost else "it died" if closed_at is None else "",
        unnumbered=unnumbered if isinstance(unnumbered, int) and unnumbered > 0 else 0,
        start_ns=None,
        last_ns=int(max(ends)) if ends else None,
    )


def _share(process: LoadProcess, count: int) -> tuple[int, int]:
    """Which part of the schedule a process was given: ``(index, count)``. An older history does not say."""
    index, _, of = process.facts.get("share", "").partition("/")
    if index.isdecimal() and of.isdecimal() and int(index) < int(of) <= 10_000:
        return int(index), int(of)
    name = process.name
    return (int(name), count) if name.isdecimal() and int(name) < count else (0, 1)


def _missing_shares(endings: Sequence[_Ending]) -> list[tuple[int, int]]:
    """Parts of the schedule that no process was there for."""
    shares = {ending.share for ending in endings}
    counts = {count for _, count in shares}
    if len(counts) != 1:
        return []
    count = counts.pop()
    return [(index, count) for index in range(count) if (index, count) not in shares]


def _arrivals(process: LoadProcess, codes: Sequence[int]) -> NDArray[np.bool_]:
    """Which rows are ends of arrivals whose numbers the process received."""
    ops, numbers = process.ops, process.invoked["number"]
    arrived = np.isin(ops["kind"], codes)
    if not len(numbers):
        return np.zeros(len(arrived), dtype=bool)
    at = np.minimum(np.searchsorted(numbers, ops["number"]), len(numbers) - 1)
    return np.asarray(arrived & (numbers[at] == ops["number"]))


def _with_rows(process: LoadProcess, rows: Columns) -> LoadProcess:
    """``process`` with more rows, whose times are all the instant when they were due. What they touched is left out."""
    count = len(rows["due"])
    if not count:
        return process
    given = {**rows, "sent": rows["due"], "done": rows["due"]}
    ops = {
        name: np.concatenate([column, given.get(name, np.zeros(count)).astype(column.dtype)])
        for name, column in process.ops.items()
        if not name.startswith("touched_")
    }
    return replace(process, ops=ops)


def _note(name: str, ending: _Ending, rows: Columns) -> list[str]:
    if not len(rows["due"]):
        return []
    info = int((rows["outcome"] == Outcome.INFO).sum())
    skipped = len(rows["due"]) - info
    cause = f"lost ({ending.lost})" if ending.lost else "not given its numbers in time"
    return [f"load process {name} was {cause}: of its arrivals {skipped:,} count as skipped and {info:,} as info"]


def _nobody(name: str, processes: Sequence[LoadProcess]) -> LoadProcess:
    """A load process that did nothing at all."""
    some = processes[0]
    invoked, ops, tries = (
        {column: values[:0] for column, values in columns.items()} for columns in (some.invoked, some.ops, some.tries)
    )
    return LoadProcess(name, some.origin, {}, invoked, ops, tries, None)


def _no_rows() -> Columns:
    return {name: np.empty(0, np.int64) for name in ("number", "kind", "due", "outcome", "code")}


def _joinable(process: LoadProcess) -> bool:
    numbers = process.invoked.get("number")
    return (
        numbers is not None
        and numbers.dtype == np.int64
        and bool((numbers[1:] > numbers[:-1]).all())
        and {"number", "kind", "due", "outcome"} <= set(process.ops)
    )
