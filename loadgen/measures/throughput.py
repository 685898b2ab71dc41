"""How many ops of the main kind there were, how they ended, and how many a second were answered well.

    due = started + skipped        started = ok + fail + info        ok = the sum of the answers

``processes`` are complete (measures.offered): ops of which nothing tells how they ended are among them, as
``info`` where they may have been started, else as ``skipped``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import NS_PER_S
from loadgen.history.arrays import among
from loadgen.history.history import LoadProcess
from loadgen.history.timeline import Timeline
from loadgen.op import Outcome
from loadgen.workload.facts import WorkloadFacts

LONGEST_S = 10**7
"""The most seconds in the search for the best one: about 115 days, far more than a run may take."""


def count_ops(
    processes: Sequence[LoadProcess], times: Timeline, facts: WorkloadFacts, main: str = ""
) -> dict[str, Any]:
    """The counts of the main kind (or of all, where all count), each answer by its name, and ``per_second_mean`` and
    ``per_second_peak`` of the good ones. ``main`` is the run's main kind.

    The mean is from the first to the last instant at which an op was due (None if that is no time at all), of the
    good answers in that time: what an overloaded server still does afterwards would otherwise raise it above what
    it can do. The peak is the best whole second since the run's start, by the instant of the answer.
    """
    codes = facts.main_codes(main)
    counts = dict.fromkeys(("ok", *facts.always_told, "fail", "info", "skipped"), 0)
    bounds: list[int] = []
    for process, shift in zip(processes, times.shifts, strict=True):
        ops = process.ops
        chosen = among(ops["kind"], codes)
        for outcome in Outcome:
            counts[outcome.name.lower()] += int((chosen & (ops["outcome"] == outcome)).sum())
        ok = chosen & (ops["outcome"] == Outcome.OK)
        for answer, count in enumerate(np.bincount(ops["answer"][ok]).tolist()):
            name = facts.answers[answer] if answer < len(facts.answers) else f"answer_{answer}"
            if count and answer and name not in _OWN:
                counts[name] = counts.get(name, 0) + count
        if chosen.any():
            due = ops["due"][chosen]
            bounds += [int(due.min()) + shift, int(due.max()) + shift]
    good_ns = np.concatenate([*good_ends(processes, times, facts, main), np.empty(0, np.int64)])
    in_time = int((good_ns <= max(bounds)).sum()) if bounds else 0
    seconds = good_ns // NS_PER_S
    seconds = seconds[(seconds >= 0) & (seconds < LONGEST_S)]
    window_ns = max(bounds) - min(bounds) if bounds else 0
    started = counts["ok"] + counts["fail"] + counts["info"]
    return {
        "due": started + counts["skipped"],
        "started": started,
        **counts,
        "per_second_mean": round(in_time / window_ns * NS_PER_S, 2) if window_ns else None,
        "per_second_peak": int(np.bincount(seconds).max()) if len(seconds) else 0,
    }


_OWN = frozenset({"due", "started", "ok", "fail", "info", "skipped", "per_second_mean", "per_second_peak"})
"""Figures that an answer of the same name must not change."""


def good_ends(
    processes: Sequence[LoadProcess], times: Timeline, facts: WorkloadFacts, main: str = ""
) -> list[NDArray[np.int64]]:
    """When the good answers came, by process, in nanoseconds since the run's start: those that the rate counts."""
    codes, ends = facts.main_codes(main), []
    for process, shift in zip(processes, times.shifts, strict=True):
        ops = process.ops
        good = (ops["outcome"] == Outcome.OK) & among(ops["kind"], codes) & _good(ops["answer"], facts)
        ends.append(ops["done"][good] + shift)
    return ends


def _good(answers: NDArray[Any], facts: WorkloadFacts) -> NDArray[np.bool_]:
    """Which answers the headline rate counts."""
    if facts.good:
        return np.asarray(answers == facts.answers.index(facts.good))
    if facts.all_kinds_count:
        return np.ones(len(answers), dtype=bool)
    return ~among(answers, facts.refused_codes)


def acknowledged(processes: Sequence[LoadProcess], kind: int | None = None, refusals: Sequence[int] = ()) -> int:
    """How many ops of ``kind`` (None: of any) were answered, by anything but ``refusals``."""
    count = 0
    for process in processes:
        ops = process.ops
        answered = (ops["outcome"] == Outcome.OK) & ~among(ops["answer"], refusals)
        count += int((answered if kind is None else answered & (ops["kind"] == kind)).sum())
    return count


def due_s(processes: Sequence[LoadProcess], times: Timeline) -> float | None:
    """Seconds from the first to the last instant at which an op was due; None if that is no time at all."""
    last = [
        int(process.ops["due"].max()) + shift
        for process, shift in zip(processes, times.shifts, strict=True)
        if len(process.ops["due"])
    ]
    return max(last, default=0) / NS_PER_S or None


def duration_s(processes: Sequence[LoadProcess], times: Timeline) -> float:
    """Seconds from the first instant at which an op was due to the last end of an op."""
    ends = [
        int(process.ops["done"].max()) + times.shifts[index]
        for index, process in enumerate(processes)
        if len(process.ops["done"])
    ]
    return round(max(ends, default=0) / NS_PER_S, 3)
