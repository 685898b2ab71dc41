"""Histograms of times, which add up without loss: HdrHistogram's buckets of 1 ns with three significant digits.

Exact up to 2 µs, then each bucket is at most 1/1024 of its time wide. A time is reported as the middle of its bucket,
so it is at most 0.05 % off.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.percentiles import nearest_rank

LONGEST_NS = 2**52
"""A longer time counts as this one, 52 days."""
BUCKET_BITS = 16
BUCKETS = 1 << BUCKET_BITS
"""No bucket has a higher number."""
_DIGITS = 11
"""Bits of a bucket's number within its power of two: 2048 buckets of one, then 1024 for each power."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many times fell in each bucket. ``buckets`` ascend, ``counts`` are above 0."""

    buckets: Numbers
    counts: Numbers

    @property
    def count(self) -> int:
        """How many times there are."""
        return int(self.counts.sum())

    def percentile(self, thousandths: int) -> float | None:
        """A percentile in nanoseconds, by the rank of ``percentiles.nearest_rank``; None without times."""
        return self.at_rank(int(nearest_rank(thousandths, self.count))) if len(self.counts) else None

    def at_rank(self, rank: int) -> float:
        """The time in nanoseconds of this rank among all, from 0 in ascending order."""
        at = int(np.searchsorted(np.cumsum(self.counts), rank, side="right"))
        return float(bucket_middle(self.buckets[at : at + 1])[0])

    def within(self, limit_ns: float) -> int:
        """How many times are not above the limit; those of the limit's own bucket are among them."""
        return int(self.counts[self.buckets <= int(bucket_of(np.array([int(limit_ns)]))[0])].sum())

    def __add__(self, other: "Histogram") -> "Histogram":
        counts = np.concatenate([self.counts, other.counts])
        return Histogram(*added(np.concatenate([self.buckets, other.buckets]), counts))


def histogram_of(times_ns: Numbers) -> Histogram:
    """The histogram of times in nanoseconds."""
    return Histogram(*added(bucket_of(times_ns), np.ones(len(times_ns), np.int64)))


def bucket_of(times_ns: Numbers) -> Numbers:
    """The bucket of each time, as HdrHistogram numbers them (1 ns, three significant digits)."""
    value = np.clip(times_ns, 0, LONGEST_NS)
    shift = np.maximum(np.frexp(value.astype(np.float64))[1].astype(np.int64) - _DIGITS, 0)
    return np.asarray((shift << (_DIGITS - 1)) + (value >> shift))


def bucket_middle(bucket: Numbers) -> NDArray[np.float64]:
    """The middle of each bucket, in nanoseconds; below 2 µs the time itself."""
    half = 1 << (_DIGITS - 1)
    shift = np.maximum((bucket >> (_DIGITS - 1)) - 1, 0)
    lowest = np.where(bucket < 2 * half, bucket, ((bucket & (half - 1)) + half) << shift)
    return np.asarray(lowest + ((1 << shift) - 1) / 2)


def added(cells: Numbers, counts: Numbers) -> tuple[Numbers, Numbers]:
    """Each cell once, in order, with the sum of its counts."""
    order = np.argsort(cells, kind="stable")  # two sorted parts are merged in one pass
    cells, counts = cells[order], counts[order]
    begin = np.flatnonzero(np.diff(cells, prepend=-1))
    return cells[begin], np.asarray(np.add.reduceat(counts, begin)) if len(begin) else counts
