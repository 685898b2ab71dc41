"""How long ops took: response time from the instant they were due, service time from the instant they were sent."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import NS_PER_MS
from loadgen.history import LoadProcess
from loadgen.op import Outcome
from loadgen.sale import Answer, Kind

RANKS = {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p999": 999}
"""Percentiles in thousandths."""
LEAST_FOR_P999 = 1_000
"""p99.9 of fewer samples is its maximum by another name: it is not given."""
REFUSALS = (Answer.SOLD_OUT, Answer.LIMITED)

Times = dict[str, dict[str, float | int | None]]


def response_and_service(processes: Sequence[LoadProcess]) -> tuple[Times, Times]:
    """``{kind: {p50, p90, p95, p99, p999, max, count}}`` in milliseconds, by response and by service.

    Of every answered op: ``order`` are the placed ones, ``order_refused`` those that were sold out or over the limit.
    What failed or is ``info`` was not answered, and what was skipped was not asked: they count elsewhere.
    """
    response: dict[str, list[NDArray[np.int64]]] = {name: [] for name in _NAMES}
    service: dict[str, list[NDArray[np.int64]]] = {name: [] for name in _NAMES}
    for process in processes:
        ops = process.ops
        ok = ops["outcome"] == Outcome.OK
        for name, kind in _NAMES.items():
            chosen = ok & (ops["kind"] == kind)
            if kind == Kind.ORDER:
                chosen &= np.isin(ops["answer"], REFUSALS) == (name == "order_refused")
            done = ops["done"][chosen]
            response[name].append(done - ops["due"][chosen])
            service[name].append(done - ops["sent"][chosen])
    return (
        {name: percentiles(np.concatenate([*parts, _NONE])) for name, parts in response.items()},
        {name: percentiles(np.concatenate([*parts, _NONE])) for name, parts in service.items()},
    )


def nearest_rank(thousandths: int, count: Any) -> Any:
    """Which of ``count`` samples in ascending order, from 0, is their percentile: the one definition of it here.

    It is the smallest sample that at least that share of all samples do not exceed. ``count`` may be an array.
    """
    return (thousandths * count + 999) // 1000 - 1


def percentiles(durations_ns: NDArray[np.int64]) -> dict[str, float | int | None]:
    """Percentiles by nearest rank, so that each one is a time that was really measured; None without samples."""
    count = len(durations_ns)
    ordered = np.sort(durations_ns)
    figures: dict[str, float | int | None] = {
        name: _ms(ordered[nearest_rank(thousandths, count)]) if count else None for name, thousandths in RANKS.items()
    }
    if count < LEAST_FOR_P999:
        figures["p999"] = None
    return {**figures, "max": _ms(ordered[-1]) if count else None, "count": count}


def _ms(duration_ns: Any) -> float:
    return round(int(duration_ns) / NS_PER_MS, 3)


_NONE = np.empty(0, np.int64)
_NAMES = {
    "order": Kind.ORDER,
    "order_refused": Kind.ORDER,
    "pay": Kind.PAY,
    "cancel": Kind.CANCEL,
    "release": Kind.RELEASE,
    "browse": Kind.BROWSE,
}
