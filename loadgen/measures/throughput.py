"""How many orders there were, how they ended, and how many a second were placed.

    due = started + skipped        started = ok + fail + info        ok = placed + sold_out + limited

``processes`` are complete (measures.offered): orders of which nothing tells how they ended are among them, as
``info`` where they may have been started, else as ``skipped``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from loadgen.clock import NS_PER_S
from loadgen.history.history import LoadProcess
from loadgen.history.timeline import Timeline
from loadgen.op import Outcome
from loadgen.shop.sale import Answer, Kind

LONGEST_S = 10**7
"""Seconds told apart when the best one is looked for: about 115 days, far more than a run may take."""


def count_orders(processes: Sequence[LoadProcess], times: Timeline) -> dict[str, Any]:
    """The counts of orders, and ``per_second_mean`` and ``per_second_peak`` of the placed ones.

    The mean is from the first to the last instant at which an order was due (None if that is no time at all), of the
    orders placed in that time: what an overloaded server still places afterwards would otherwise raise it above what
    it can do. The peak is the best whole second since the run's start, by the instant of the answer.
    """
    counts = dict.fromkeys(("placed", "sold_out", "limited", "fail", "info", "skipped"), 0)
    bounds: list[int] = []
    placed_at = []
    for index, process in enumerate(processes):
        ops = process.ops
        order = ops["kind"] == Kind.ORDER
        ok = order & (ops["outcome"] == Outcome.OK)
        for answer in (Answer.PLACED, Answer.SOLD_OUT, Answer.LIMITED):
            counts[answer.name.lower()] += int((ok & (ops["answer"] == answer)).sum())
        for outcome in (Outcome.FAIL, Outcome.INFO, Outcome.SKIPPED):
            counts[outcome.name.lower()] += int((order & (ops["outcome"] == outcome)).sum())
        if order.any():
            due = ops["due"][order]
            bounds += [int(due.min()) + times.shifts[index], int(due.max()) + times.shifts[index]]
        done = ops["done"][ok & (ops["answer"] == Answer.PLACED)]
        placed_at.append(done + times.shifts[index])
    placed_ns = np.concatenate([*placed_at, np.empty(0, np.int64)])
    in_time = int((placed_ns <= max(bounds)).sum()) if bounds else 0
    seconds = placed_ns // NS_PER_S
    seconds = seconds[(seconds >= 0) & (seconds < LONGEST_S)]
    window_ns = max(bounds) - min(bounds) if bounds else 0
    ok_count = counts["placed"] + counts["sold_out"] + counts["limited"]
    started = ok_count + counts["fail"] + counts["info"]
    return {
        "due": started + counts["skipped"],
        "started": started,
        "ok": ok_count,
        **counts,
        "per_second_mean": round(in_time / window_ns * NS_PER_S, 2) if window_ns else None,
        "per_second_peak": int(np.bincount(seconds).max()) if len(seconds) else 0,
    }


def acknowledged(processes: Sequence[LoadProcess], kind: int | None = None, refusals: Sequence[int] = ()) -> int:
    """How many ops of ``kind`` (None: of any) were answered, by anything but ``refusals``."""
    count = 0
    for process in processes:
        ops = process.ops
        answered = (ops["outcome"] == Outcome.OK) & ~np.isin(ops["answer"], np.array(refusals, dtype=np.int64))
        count += int((answered if kind is None else answered & (ops["kind"] == kind)).sum())
    return count


def duration_s(processes: Sequence[LoadProcess], times: Timeline) -> float:
    """Seconds from the first instant at which an op was due to the last end of an op."""
    ends = [
        int(process.ops["done"].max()) + times.shifts[index]
        for index, process in enumerate(processes)
        if len(process.ops["done"])
    ]
    return round(max(ends, default=0) / NS_PER_S, 3)
