"""The series of a run: for each second and each kind of op the counts, and histograms of the times. It only ever adds.

Second 0 begins when the run's first op was due. ``due`` and ``skipped`` stand in the second in which an op was due;
``ok``, ``fail``, ``info``, the answers (``answer.NAME``) and the times of what was ``ok`` in the second in which it
ended; ``tries_failed`` in the second in which a failed try ended. The kinds are those of the run, the first one that
arrives split into answered and refused (``order``, ``order_refused``), as WorkloadFacts.split says: what failed, is
open or was skipped stands with the answered ones.

The series of two processes, of two parts of a run, or of two runs add up by adding their counts: nothing is lost, and
the order does not matter.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import NS_PER_S
from loadgen.history.history import LoadProcess
from loadgen.history.timeline import Timeline
from loadgen.measures.histogram import BUCKET_BITS, BUCKETS, Histogram, Numbers, added, bucket_middle, bucket_of
from loadgen.op import Outcome
from loadgen.percentiles import nearest_rank
from loadgen.workload.facts import REFUSED, WorkloadFacts

PART = 1 << 20
"""Ops that are counted at a time: the memory that it takes, however long the run was."""
LAST_S = 10**7
"""What ended later stands in this second: about 115 days, far more than a run may take."""
COUNTS = ("due", "ok", "fail", "info", "skipped", "tries_failed")
TIMES = ("response", "service")
"""The histograms: from the instant an op was due, and from that at which it was sent."""
ANSWER = "answer."
"""What the figure of an answer begins with."""

Small = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Series:
    """Rows of ``count`` by second, kind, figure and bucket (0 but for TIMES), in this order, each one once.

    ``kind`` and ``figure`` are places in ``kinds`` and ``figures``. ``start_wall_ns`` is when second 0 begins.
    """

    start_wall_ns: int
    kinds: tuple[str, ...]
    figures: tuple[str, ...]
    second: Small
    kind: Small
    figure: Small
    bucket: Small
    counts: Numbers

    @property
    def seconds(self) -> int:
        """How many seconds there are, to the last one in which anything happened."""
        return int(self.second[-1]) + 1 if len(self.second) else 0

    def count(self, figure: str, kinds: Collection[str] | None = None) -> Numbers:
        """A count by second, of ``kinds`` (None: of all), without gaps: ``due``, ``ok``, ``answer.placed`` …

        A kind stands for its answered ops alone: ask for ``order_refused`` too where all are meant.
        """
        chosen = self._chosen(figure, kinds)
        counts = np.zeros(self.seconds, np.int64)
        np.add.at(counts, self.second[chosen], self.counts[chosen])
        return counts

    def histogram(
        self, figure: str, kinds: Collection[str] | None = None, seconds: tuple[int, int] | None = None
    ) -> Histogram:
        """The times of ``figure`` (see TIMES) of ``kinds``, of all seconds or from the first to before the second."""
        chosen = self._chosen(figure, kinds)
        if seconds is not None:
            chosen &= (self.second >= seconds[0]) & (self.second < seconds[1])
        return Histogram(*added(self.bucket[chosen].astype(np.int64), self.counts[chosen]))

    def percentiles(self, figure: str, kinds: Collection[str] | None, thousandths: int) -> NDArray[np.float64]:
        """A percentile in nanoseconds by second; NaN where nothing ended."""
        chosen = self._chosen(figure, kinds)
        cells, counts = added(
            (self.second[chosen].astype(np.int64) << BUCKET_BITS) + self.bucket[chosen], self.counts[chosen]
        )
        times = np.full(self.seconds, np.nan)
        if len(cells):
            second, up_to = cells >> BUCKET_BITS, np.cumsum(counts)
            told, begin = np.unique(second, return_index=True)
            before = up_to[begin] - counts[begin]
            total = np.add.reduceat(counts, begin)
            at = np.searchsorted(up_to, before + nearest_rank(thousandths, total), side="right")
            times[told] = bucket_middle(cells[at] & (BUCKETS - 1))
        return times

    def __add__(self, other: "Series") -> "Series":
        """Both together, second by second. The names of either are kept; second 0 is that of the earlier one."""
        kinds = tuple(dict.fromkeys(self.kinds + other.kinds))
        figures = tuple(dict.fromkeys(self.figures + other.figures))
        cells = []
        for part in (self, other):
            kind = np.array([kinds.index(name) for name in part.kinds], np.int64)[part.kind]
            figure = np.array([figures.index(name) for name in part.figures], np.int64)[part.figure]
            cells.append(cells_of(part.second, kind, figure, part.bucket, len(kinds), len(figures)))
        start = min(part.start_wall_ns for part in (self, other))
        merged = added(np.concatenate(cells), np.concatenate([self.counts, other.counts]))
        return _series(start, kinds, figures, *merged)

    def _chosen(self, figure: str, kinds: Collection[str] | None) -> NDArray[np.bool_]:
        at = self.figures.index(figure) if figure in self.figures else -1
        chosen = np.asarray(self.figure == at)
        if kinds is not None:
            chosen &= np.isin(self.kind, [self.kinds.index(name) for name in kinds if name in self.kinds])
        return chosen


def with_refused(kinds: Iterable[str]) -> tuple[str, ...]:
    """Kinds of op, each with its refused ops."""
    return tuple(name for kind in kinds for name in (kind, kind + REFUSED))


def series_of(processes: Sequence[LoadProcess], times: Timeline, facts: WorkloadFacts) -> Series:
    """The series of a run's processes (complete: see measures.offered) in one pass over their ops, part by part."""
    kinds = facts.timed
    highest = max((int(process.ops["answer"].max(initial=0)) for process in processes), default=0)
    answers = [*facts.answers, *(f"answer_{code}" for code in range(len(facts.answers), highest + 1))]
    figures = (*COUNTS, *TIMES, *(ANSWER + name for name in answers))
    counter = _Counter(facts, kinds, figures)
    for process, shift in zip(processes, times.shifts, strict=True):
        for begin in range(0, len(process.ops["due"]), PART):
            counter.ops({name: process.ops[name][begin : begin + PART] for name in _READ}, shift)
        for begin in range(0, len(process.tries.get("done", ())), PART):
            tries = {name: column[begin : begin + PART] for name, column in process.tries.items() if name in _READ}
            counter.tries(tries, shift)
    return _series(times.start_wall_ns, kinds, figures, *counter.counted())


_READ = ("kind", "due", "sent", "done", "outcome", "answer")
_NONE = np.empty(0, np.int64)


class _Counter:
    """Counts ops into cells, a part at a time."""

    def __init__(self, facts: WorkloadFacts, kinds: tuple[str, ...], figures: tuple[str, ...]) -> None:
        self._kinds = kinds
        self._figures = {name: at for at, name in enumerate(figures)}
        self._place = np.array([kinds.index(kind) for kind in facts.kinds], np.int64)
        # Facts that were put together from a damaged run may name a kind that they lack.
        split = facts.split in facts.kinds
        self._split = facts.kinds.index(facts.split) if split else -1
        self._refusals = np.array(facts.refused_codes if split else (), np.int64)
        self._parts: list[tuple[Numbers, Numbers]] = []

    def ops(self, ops: Mapping[str, NDArray[Any]], shift: int) -> None:
        """Count a part of a process's ops, whose times are ``shift`` before the run's."""
        known = (ops["kind"] < len(self._place)) & (ops["outcome"] < len(Outcome))
        if not known.all():
            ops = {name: column[known] for name, column in ops.items()}
        outcome, answer, due, done = ops["outcome"], ops["answer"].astype(np.int64), ops["due"], ops["done"]
        ok = outcome == Outcome.OK
        refused = ok & (ops["kind"] == self._split) & np.isin(answer, self._refusals)
        kind = self._place[ops["kind"]] + refused
        due_s = _second(due + shift)
        # What was skipped has no other end.
        end_s = np.where(outcome == Outcome.SKIPPED, due_s, _second(done + shift))
        by_outcome = np.array([self._figures[each.name.lower()] for each in Outcome], np.int64)
        ok_kind, ok_s = kind[ok], end_s[ok]
        self._add(
            self._cell(due_s, kind, np.full(len(kind), self._figures["due"])),
            self._cell(end_s, kind, by_outcome[outcome]),
            self._cell(ok_s, ok_kind, self._figures[TIMES[-1]] + 1 + answer[ok]),
            *(
                self._cell(ok_s, ok_kind, np.full(len(ok_s), self._figures[name]), bucket_of((done - since)[ok]))
                for name, since in zip(TIMES, (due, ops["sent"]), strict=True)
            ),
        )

    def tries(self, tries: Mapping[str, NDArray[Any]], shift: int) -> None:
        """Count a part of a process's failed tries."""
        kind = tries.get("kind", np.zeros(len(tries["done"]), np.int64))
        known = kind < len(self._place)
        at = self._place[kind[known]]
        self._add(
            self._cell(_second(tries["done"][known] + shift), at, np.full(len(at), self._figures["tries_failed"]))
        )

    def counted(self) -> tuple[Numbers, Numbers]:
        """The cells, and the count of each."""
        while len(self._parts) > 1:
            self._merge()
        return self._parts[0] if self._parts else (_NONE, _NONE)

    def _cell(self, second: Numbers, kind: Numbers, figure: Numbers, bucket: Any = 0) -> Numbers:
        return cells_of(second, kind, figure, bucket, len(self._kinds), len(self._figures))

    def _add(self, *cells: Numbers) -> None:
        found, counts = np.unique(np.concatenate(cells), return_counts=True)
        self._parts.append((found, counts.astype(np.int64)))
        # Equals are merged with equals: each cell is moved a few times only, and there are never many parts.
        while len(self._parts) > 1 and len(self._parts[-1][0]) >= len(self._parts[-2][0]):
            self._merge()

    def _merge(self) -> None:
        last, before = self._parts.pop(), self._parts.pop()
        self._parts.append(added(*(np.concatenate(pair) for pair in zip(before, last, strict=True))))


def _series(
    start_wall_ns: int, kinds: tuple[str, ...], figures: tuple[str, ...], cells: Numbers, counts: Numbers
) -> Series:
    rest, figure = np.divmod(cells >> BUCKET_BITS, len(figures))
    second, kind = np.divmod(rest, len(kinds))
    second, kind, figure, bucket = (column.astype(np.int32) for column in (second, kind, figure, cells & (BUCKETS - 1)))
    return Series(start_wall_ns, kinds, figures, second, kind, figure, bucket, counts)


def cells_of(second: Any, kind: Any, figure: Any, bucket: Any, kinds: int, figures: int) -> Numbers:
    """One number for each row: in their order, the rows' own."""
    return np.asarray((((second.astype(np.int64) * kinds + kind) * figures + figure) << BUCKET_BITS) + bucket)


def _second(times_ns: Numbers) -> Numbers:
    return np.clip(times_ns // NS_PER_S, 0, LAST_S)
