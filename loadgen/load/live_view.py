"""What a person sees while a run goes: Locust's statistics, and one line of progress after another.

Both are views of the rows that go to the history, taken a batch at a time; the report never reads them.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from locust.stats import StatsError, bucket_response_time
from numpy.typing import NDArray

from loadgen.clock import NS_PER_MS, NS_PER_S, now_ns
from loadgen.history.arrays import to_numpy
from loadgen.history.history import ROW_DONE, ROW_TRY
from loadgen.load.exporting import RequestEvents
from loadgen.op import Completion, Outcome, Stage
from loadgen.plan import Plan
from loadgen.schedule import main_kind
from loadgen.workload import Workload
from loadgen.workload.facts import REFUSED

METHOD = "op"
"""The "method" of our entries in Locust's statistics."""
MOST_PENDING_ROWS = 5_000
"""Rows are counted when a line is asked for, or when there are as many: that takes about 1 ms."""

_HALF_MS = NS_PER_MS // 2

_kind_answer_outcome = itemgetter(1, 7, 6)


class LocustView:
    """Adds finished ops to Locust's RequestStats, a batch at a time: a tenth of the cost of an event for each.

    An entry for each kind; of arrivals that may be refused, the refused ones apart. ``skipped`` ops were never sent,
    so they are no requests.
    """

    def __init__(self, workload: Workload, stats: Any) -> None:
        self._workload = workload
        self._stats = stats
        self._followed = workload.kinds.index(workload.arrivals[0])
        self._refused = workload.words.refused_codes
        self._error_keys: dict[tuple[str, str], str] = {}
        self.events = RequestEvents(METHOD, self._name)

    def record(self, rows: Sequence[Completion], types: Sequence[int]) -> None:
        """Add a batch; at most some thousand rows, or the load's thread waits for the interpreter."""
        if ROW_TRY in types:
            rows = [row for row, kind in zip(rows, types, strict=True) if kind == ROW_DONE]
        self.events.tell(rows)
        groups: defaultdict[tuple[int, int, int], list[Completion]] = defaultdict(list)
        for key, row in zip(map(_kind_answer_outcome, rows), rows, strict=True):
            groups[key].append(row)
        # Locust replaces these objects when a run starts and when a worker reports: look them up each time.
        stats = self._stats
        now_s = time.time()
        wall_ns = time.time_ns() - now_ns()
        _keep_second(stats.total, now_s)
        for (kind, answer, outcome), group in groups.items():
            if outcome == Outcome.SKIPPED:
                continue
            name = self._name(kind, answer, outcome)
            entry = stats.get(name, METHOD)
            _keep_second(entry, now_s)
            batch = _Batch(group, wall_ns)
            batch.add_to(entry, now_s)
            batch.add_to(stats.total, now_s)
            if outcome != Outcome.OK:
                batch.add_failures_to(entry)
                batch.add_failures_to(stats.total)
                self._add_errors(name, group, now_s)

    def _name(self, kind: int, answer: int, outcome: int) -> str:
        refused = kind == self._followed and outcome == Outcome.OK and answer in self._refused
        return self._workload.kinds[kind] + (REFUSED if refused else "")

    def _add_errors(self, name: str, group: Sequence[Completion], now_s: float) -> None:
        counts = Counter((row.code, row.stage, row.outcome) for row in group)
        for (code, stage, outcome), count in counts.items():
            text = f"{code} at {Stage(stage).name.lower()}: {Outcome(outcome).name.lower()}"
            known = (name, text)
            if known not in self._error_keys:
                self._error_keys[known] = StatsError.create_key(METHOD, name, text)
            key = self._error_keys[known]
            error = self._stats.errors.get(key)
            if error is None:
                error = self._stats.errors[key] = StatsError(METHOD, name, text, first_seen=now_s)
            error.occurrences += count
            error.last_seen = now_s


class _Batch:
    """Ops of one entry, counted once and added to the entry and to the total."""

    def __init__(self, rows: Sequence[Completion], wall_ns: int) -> None:
        times_ns = [row[5] - row[3] for row in rows]
        self._count = len(rows)
        self._total_ms = sum(times_ns) / NS_PER_MS
        self._least_ms = min(times_ns) / NS_PER_MS
        self._most_ms = max(times_ns) / NS_PER_MS
        # Locust's own steps: whole milliseconds below 100, then two digits.
        whole_ms: dict[int, int] = {}
        for time_ns in times_ns:
            ms = (time_ns + _HALF_MS) // NS_PER_MS
            whole_ms[ms] = whole_ms.get(ms, 0) + 1
        self._buckets = [(int(bucket_response_time(ms)), count) for ms, count in whole_ms.items()]
        # Rows stand in the order of their ends, but for a few at the seams of a flush.
        first, last = (rows[0][5] + wall_ns) // NS_PER_S, (rows[-1][5] + wall_ns) // NS_PER_S
        if first == last:
            self._seconds: dict[int, int] = {first: len(rows)}
        else:
            self._seconds = Counter([(row[5] + wall_ns) // NS_PER_S for row in rows])

    def add_to(self, entry: Any, now_s: float) -> None:
        """Count them in ``entry``."""
        entry.num_requests += self._count
        entry.total_response_time += self._total_ms
        least = entry.min_response_time
        entry.min_response_time = self._least_ms if least is None else min(least, self._least_ms)
        entry.max_response_time = max(entry.max_response_time, self._most_ms)
        entry.last_request_timestamp = now_s
        for bucket, count in self._buckets:
            entry.response_times[bucket] += count
        for second, count in self._seconds.items():
            entry.num_reqs_per_sec[second] += count

    def add_failures_to(self, entry: Any) -> None:
        """Count them as failures of ``entry``, too."""
        entry.num_failures += self._count
        for second, count in self._seconds.items():
            entry.num_fail_per_sec[second] += count


def _keep_second(entry: Any, now_s: float) -> None:
    """Keep what the entry held at the end of a second that is over: Locust's charts of percentiles are made of it."""
    last_s = entry.last_request_timestamp
    if entry.use_response_times_cache and last_s and int(now_s) > int(last_s):
        entry._cache_response_times(int(now_s) - 1)


# Percentiles of the progress line: 2 % steps, from a microsecond to hours.
_STEP = float(np.log(1.02))
_STEPS = 1_200


def histogram(times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many times lie in each step of 2 %, from one microsecond up."""
    steps = np.log(np.maximum(times_ns, 1_000) / 1_000.0) / _STEP
    return np.bincount(np.minimum(steps.astype(np.int64), _STEPS - 1), minlength=_STEPS)


def percentile_ms(counts: NDArray[np.int64], share: float) -> float:
    """The time below which ``share`` of the counted ones lie, within 1 %; 0 of none."""
    total = int(counts.sum())
    if not total:
        return 0.0
    step = int(np.searchsorted(np.cumsum(counts), math.ceil(share * total)))  # by nearest rank, as in the report
    return float(np.exp((min(step, _STEPS - 1) + 0.5) * _STEP) / 1_000.0)


@dataclass(frozen=True, slots=True)
class Progress:
    """One interval of a run. Rates are for each second of it, times are milliseconds; the counts are the interval's."""

    second: float
    due_per_second: float
    placed_per_second: float
    refused: Mapping[str, int]
    fail: int
    info: int
    skipped: int
    in_flight: int
    queued: int
    response_p50_ms: float
    response_p99_ms: float
    lag_p99_ms: float
    good: str = field(default="good", compare=False)
    """What the workload calls the answer that is counted in ``placed_per_second``, a name from its first workload."""

    def __str__(self) -> str:
        """One line, in the order of an op's life. 120 columns hold it up to 99 of each count an interval."""
        refused = "".join(f" {name.replace('_', '-')} {short(count)}" for name, count in self.refused.items())
        return (
            f"{self.second:4.0f}s due {self.due_per_second:.0f} {self.good} {self.placed_per_second:.0f}/s{refused}"
            f" fail {short(self.fail)} info {short(self.info)} skip {short(self.skipped)}"
            f" | busy {short(self.in_flight)}+{short(self.queued)}"
            f" | p50 {short(self.response_p50_ms)} p99 {short(self.response_p99_ms)} lag {short(self.lag_p99_ms)} ms"
        )


class LiveView:
    """Counts the batches of all load processes between two lines of progress."""

    def __init__(self, plan: Plan, workload: Workload) -> None:
        self._plan = plan
        self._workload = workload
        # As in the report: the main kind; where every kind arrives by itself, all of them.
        all_arrive = set(workload.arrivals) == set(workload.kinds)
        main = workload.arrivals if all_arrive else (main_kind(plan, workload.arrivals),)
        self._main = [workload.kinds.index(kind) for kind in main]
        self._gauges: dict[str, tuple[int, int]] = {}
        self._pending: list[Any] = []
        self._pending_rows = 0
        self._start_ns = self._last_ns = 0
        self.totals: Counter[str] = Counter()
        """Counts since the begin: due, fail, info, skipped and each answer of the main kinds, and tries that failed."""
        self._shown: Counter[str] = Counter()
        self._response = np.zeros(_STEPS, np.int64)
        self._lag = np.zeros(_STEPS, np.int64)

    def begin(self, start_ns: int) -> None:
        """The first second begins at ``start_ns``."""
        self._start_ns = self._last_ns = start_ns

    def observe(self, batch: Any, process: str, *, in_flight: int, queued: int) -> None:
        """Take a batch made by ``history.ops_batch``, and how many ops its process has in flight and queued."""
        self._gauges[process] = (in_flight, queued)
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        if self._pending_rows >= MOST_PENDING_ROWS:
            self._count()

    def interval(self, now: int) -> Progress:
        """What happened since the last call, or since the begin."""
        self._count()
        elapsed_s = max((now - self._last_ns) / NS_PER_S, 1e-3)
        counts = Counter({name: count - self._shown[name] for name, count in self.totals.items()})
        workload = self._workload
        good = (workload.good,) if workload.good else tuple(set(workload.answers) - set(workload.refused))
        refused = {name: counts[name] for name in workload.answers if name in self.totals and name not in good}
        gauges = list(self._gauges.values())
        progress = Progress(
            second=(now - self._start_ns) / NS_PER_S,
            due_per_second=counts["due"] / elapsed_s,
            placed_per_second=sum(counts[name] for name in good) / elapsed_s,
            refused=refused,
            fail=counts["fail"],
            info=counts["info"],
            skipped=counts["skipped"],
            in_flight=sum(in_flight for in_flight, _ in gauges),
            queued=sum(queued for _, queued in gauges),
            response_p50_ms=percentile_ms(self._response, 0.5),
            response_p99_ms=percentile_ms(self._response, 0.99),
            lag_p99_ms=percentile_ms(self._lag, 0.99),
            good=workload.good.replace("_", "-") or "ok",
        )
        self._last_ns, self._shown = now, Counter(self.totals)
        self._response[:] = 0
        self._lag[:] = 0
        return progress

    def line(self, now: int) -> str:
        """The interval up to ``now`` as a line of text."""
        return str(self.interval(now))

    def _count(self) -> None:
        """Add what is pending to the totals and histograms."""
        pending, self._pending, self._pending_rows = self._pending, [], 0
        if not pending:
            return
        rows = _columns(pending)
        done = rows["type"] == ROW_DONE
        totals = self.totals
        totals["tries"] += int(np.count_nonzero(rows["type"] == ROW_TRY))
        main = done & np.isin(rows["kind"], self._main)
        outcomes = np.bincount(rows["outcome"][main], minlength=len(Outcome)).tolist()
        for outcome in (Outcome.FAIL, Outcome.INFO, Outcome.SKIPPED):
            totals[outcome.name.lower()] += outcomes[outcome]
        totals["due"] += sum(outcomes)
        ok = main & (rows["outcome"] == Outcome.OK)
        for answer, count in enumerate(np.bincount(rows["answer"][ok]).tolist()):
            if count:
                totals[self._workload.answers[answer]] += count
        self._response += histogram((rows["done"] - rows["due"])[ok])
        started = done & (rows["outcome"] != Outcome.SKIPPED)
        self._lag += histogram((rows["sent"] - rows["due"])[started])


def short(number: float) -> str:
    """A number in at most four characters: 0, 0.4, 9.5, 999, 1.2k, 99k, 1.2M, 99G."""
    if number < 9.95:
        return f"{number:.1f}" if number % 1 else f"{number:.0f}"
    for unit in ("", "k", "M"):
        if unit and number < 9.95:
            return f"{number:.1f}{unit}"
        if number < 999.5:
            return f"{number:.0f}{unit}"
        number /= 1e3
    return f"{number:.0f}G"


_COUNTED = ("type", "kind", "due", "sent", "done", "outcome", "answer")


def _columns(batches: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """What is counted of these batches, as numpy arrays."""
    table = pa.Table.from_batches(batches).select(list(_COUNTED)).combine_chunks()
    return {name: np.concatenate([to_numpy(part) for part in _parts(table.column(name))]) for name in _COUNTED}


def _parts(column: Any) -> list[Any]:
    """The chunks of a column; one without a row where there is none."""
    return list(column.chunks) or [pa.Array.from_buffers(column.type, 0, [None, None])]
