"""Counting by place, and finding duplicates."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def total(place: NDArray[Any], units: NDArray[Any], size: int) -> NDArray[np.int64]:
    """The sum of ``units`` by ``place``."""
    # Sums of 32-bit units over any table that fits into memory stay below 2^53, where doubles are exact.
    return np.bincount(place, weights=units, minlength=size).astype(np.int64)


def repeated(values: NDArray[Any]) -> NDArray[np.int64]:
    """The positions of values that also occur at an earlier position."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return np.sort(order[1:][ordered[1:] == ordered[:-1]])
