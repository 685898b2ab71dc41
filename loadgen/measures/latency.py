"""How long ops took: response time from the instant they were due, service time from the instant they were sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import NS_PER_MS, NS_PER_S
from loadgen.history.arrays import among
from loadgen.history.history import LoadProcess
from loadgen.op import Outcome
from loadgen.percentiles import RANKS, percentiles_of_sorted
from loadgen.statistics.proportion import design_effect, percentile_ranks
from loadgen.workload.facts import REFUSED, WorkloadFacts

Times = dict[str, dict[str, Any]]
LONGEST_S = 10**6
"""Over a longer time bursts are not looked for."""


def response_and_service(processes: Sequence[LoadProcess], facts: WorkloadFacts) -> tuple[Times, Times]:
    """``{kind: {p50, p90, p95, p99, p999, max, count, interval}}`` in milliseconds, by response and by service.

    ``interval`` has of each percentile the bounds that hold it with 95 % confidence, None where the sample is too small
    for them: order statistics, of a sample that is worth less where slow ops come in bursts. Of every answered op of
    each kind; of the first kind that arrives, refused ops are listed separately, under ``KIND_refused``. Failed,
    ``info`` and skipped ops have no answer and are not included.
    """
    response: dict[str, list[NDArray[np.int64]]] = {name: [] for name in facts.timed}
    service: dict[str, list[NDArray[np.int64]]] = {name: [] for name in facts.timed}
    seconds: dict[str, list[NDArray[np.int64]]] = {name: [] for name in facts.timed}
    for process in processes:
        ops = process.ops
        for name in facts.timed:
            _, chosen = chosen_ops(process, facts, name)
            done = ops["done"][chosen]
            response[name].append(done - ops["due"][chosen])
            service[name].append(done - ops["sent"][chosen])
            seconds[name].append((ops["due"][chosen] + process.origin.wall_of(0)) // NS_PER_S)
    due = {name: _due_in(_joined(parts)) for name, parts in seconds.items()}
    told = [
        {name: _figures(_joined(parts), due[name]) for name, parts in times.items()} for times in (response, service)
    ]
    return told[0], told[1]


@dataclass(frozen=True, slots=True)
class _Due:
    """The second of each op in which it was due, since the first of them, and how many were due in each.

    ``counts`` is empty where bursts are not looked for: all in one second, or in too long a time.
    """

    second: NDArray[np.int64]
    counts: NDArray[np.int64]


def _due_in(seconds: NDArray[np.int64]) -> _Due:
    since = seconds - seconds.min(initial=np.iinfo(np.int64).max)
    bursts = 0 < int(since.max(initial=0)) < LONGEST_S
    return _Due(since, np.bincount(since) if bursts else np.empty(0, np.int64))


def chosen_ops(process: LoadProcess, facts: WorkloadFacts, name: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which ops are meant by ``name``, one of ``facts.timed``, and which of them were answered.

    In the kind that is split, ops without an answer are counted with those that were not refused.
    """
    ops = process.ops
    kind = name if name in facts.kinds else name.removesuffix(REFUSED)
    of_kind = np.asarray(ops["kind"] == facts.kinds.index(kind))
    answered = of_kind & (ops["outcome"] == Outcome.OK)
    if kind == facts.split:
        refused = answered & among(ops["answer"], facts.refused_codes)
        return (refused, refused) if name != kind else (of_kind & ~refused, answered & ~refused)
    return of_kind, answered


def _figures(times: NDArray[np.int64], due: _Due) -> dict[str, Any]:
    ordered = np.sort(times)
    figures = percentiles_of_sorted(ordered)
    bounds = {name: _interval(name, ordered, times, due) if figures[name] is not None else None for name in RANKS}
    return {**figures, "interval": bounds}


def _interval(name: str, ordered: NDArray[np.int64], times: NDArray[np.int64], due: _Due) -> list[float] | None:
    """The bounds of a percentile in milliseconds."""
    count = len(times)
    if (ranks := percentile_ranks(RANKS[name], count)) is None:
        return None
    if len(due.counts):
        slow = np.bincount(due.second[times > ordered[ranks[1]]], minlength=len(due.counts))
        effect = design_effect(slow, due.counts)
        if (ranks := percentile_ranks(RANKS[name], count, design_effect=effect)) is None:
            return None
    return [round(int(ordered[rank]) / NS_PER_MS, 3) for rank in (ranks[0], ranks[2])]


def _joined(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([*parts, np.empty(0, np.int64)])
