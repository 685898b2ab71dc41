"""Percentiles: the one definition of them, for every figure and every file."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import NS_PER_MS

RANKS = {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p999": 999}
"""Percentiles in thousandths."""
LEAST_FOR_P999 = 1_000
"""p99.9 of fewer samples is its maximum by another name: it is not given."""


def nearest_rank(thousandths: int, count: Any) -> Any:
    """Which of ``count`` samples in ascending order, from 0, is their percentile: the one definition of it here.

    It is the smallest sample that at least that share of all samples do not exceed. ``count`` may be an array.
    """
    return (thousandths * count + 999) // 1000 - 1


def percentiles(durations_ns: NDArray[np.int64]) -> dict[str, float | int | None]:
    """Percentiles by nearest rank, so that each one is a time that was really measured; None without samples."""
    return percentiles_of_sorted(np.sort(durations_ns))


def percentiles_of_sorted(ordered: NDArray[np.int64]) -> dict[str, float | int | None]:
    """The percentiles of durations that ascend."""
    count = len(ordered)
    figures: dict[str, float | int | None] = {
        name: _ms(ordered[nearest_rank(thousandths, count)]) if count else None for name, thousandths in RANKS.items()
    }
    if count < LEAST_FOR_P999:
        figures["p999"] = None
    return {**figures, "max": _ms(ordered[-1]) if count else None, "count": count}


def _ms(duration_ns: Any) -> float:
    return round(int(duration_ns) / NS_PER_MS, 3)
