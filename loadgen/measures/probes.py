"""What a probe did, in figures: its transactions by outcome, and how long each kind took."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from loadgen.clock import NS_PER_S
from loadgen.history.history import LoadProcess
from loadgen.history.timeline import Timeline
from loadgen.measures.latency import Times
from loadgen.op import Outcome
from loadgen.percentiles import percentiles


def count_transactions(processes: Sequence[LoadProcess], times: Timeline) -> dict[str, Any]:
    """``due``, ``started``, ``ok``, ``fail``, ``info``, ``skipped`` and ``per_second_mean`` of all kinds together.

    ``processes`` are complete (measures.offered). The mean is of the ok ones from the first to the last instant at
    which one was due.
    """
    counts = {outcome.name.lower(): 0 for outcome in Outcome}
    dues: list[int] = []
    for process, shift in zip(processes, times.shifts, strict=True):
        ops = process.ops
        for outcome in Outcome:
            counts[outcome.name.lower()] += int((ops["outcome"] == outcome).sum())
        if len(ops["due"]):
            dues += [int(ops["due"].min()) + shift, int(ops["due"].max()) + shift]
    window_ns = max(dues) - min(dues) if dues else 0
    started_count = counts["ok"] + counts["fail"] + counts["info"]
    return {
        "due": started_count + counts["skipped"],
        "started": started_count,
        **counts,
        "per_second_mean": round(counts["ok"] / window_ns * NS_PER_S, 2) if window_ns else None,
    }


def times_by_kind(processes: Sequence[LoadProcess], kinds: Sequence[str]) -> tuple[Times, Times]:
    """Response and service times of the answered ops of each kind, in milliseconds."""
    response, service = {}, {}
    for code, name in enumerate(kinds):
        spans: dict[str, list[Any]] = {"due": [], "sent": []}
        for process in processes:
            chosen = (process.ops["outcome"] == Outcome.OK) & (process.ops["kind"] == code)
            for since, parts in spans.items():
                parts.append(process.ops["done"][chosen] - process.ops[since][chosen])
        response[name] = percentiles(np.concatenate([*spans["due"], np.empty(0, np.int64)]))
        service[name] = percentiles(np.concatenate([*spans["sent"], np.empty(0, np.int64)]))
    return response, service
