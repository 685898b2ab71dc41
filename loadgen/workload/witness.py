"""The version witness as arrays: who wrote which version of which row, and how each row ends."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Witness:
    """Every acknowledged write of a versioned row, flat, and what is open."""

    number: Numbers
    kind: Numbers
    clock: Numbers
    sent: Numbers
    done: Numbers
    row: Numbers
    read: Numbers
    wrote: Numbers
    own: Numbers
    """How many writes the same op made of the same row."""
    known_row: Numbers
    """The writes of info ops that told them: the rows,"""
    known_wrote: Numbers
    """and the versions."""
    open_ops: int
    """Ops that may have happened, of kinds that write: each explains ``most`` versions of any row."""
    open_sent: Numbers
    """When those of them were sent that told it, ascending; empty where times cannot be compared."""
    most: int


@dataclass(frozen=True, slots=True)
class FinalVersions:
    """Each versioned row's version at the end; rows ascend."""

    row: Numbers
    version: Numbers

    def of(self, rows: Numbers) -> Numbers:
        """The versions of these rows; 0 for one that is not there."""
        if not len(self.row):
            return np.zeros(len(rows), np.int64)
        at = np.minimum(np.searchsorted(self.row, rows), len(self.row) - 1)
        return np.where(self.row[at] == rows, self.version[at], 0)


@dataclass(frozen=True, slots=True)
class Known:
    """Each version up to the final one whose writer is known, by row."""

    place: Numbers
    """The row's place in the final read."""
    starts: NDArray[np.bool_]
    """Where a row begins."""
    wrote: Numbers
    done: Numbers
    """When it was acknowledged first; the latest time of all if that is not known."""


def known_versions(seen: Witness, final: FinalVersions) -> Known:
    """The versions up to the final ones that acknowledged ops wrote, or open ones that told it."""
    rows, wrote = np.append(seen.row, seen.known_row), np.append(seen.wrote, seen.known_wrote)
    done = np.append(seen.done, np.full(len(seen.known_row), np.iinfo(np.int64).max))
    order = np.lexsort((done, wrote, rows))
    order = order[(wrote[order] >= 1) & (wrote[order] <= final.of(rows[order]))]
    rows, wrote, done = rows[order], wrote[order], done[order]
    starts = np.concatenate(([True], rows[1:] != rows[:-1]))[: len(rows)]
    new = starts | np.concatenate(([True], wrote[1:] != wrote[:-1]))[: len(rows)]
    return Known(np.searchsorted(final.row, rows[new]), starts[new], wrote[new], done[new])


def below_known(seen: Witness, known: Known) -> tuple[Numbers, Numbers]:
    """By known version: how many below it have no known writer, and how many open ops may have written them."""
    group = np.cumsum(known.starts, dtype=np.int64)
    rank = np.arange(len(group)) - np.flatnonzero(known.starts)[group - 1]
    sent_before = np.searchsorted(seen.open_sent, known.done[first_to_end(group, known.done)], side="right")
    return known.wrote - 1 - rank, seen.open_ops - len(seen.open_sent) + sent_before


def first_to_end(group: Numbers, done: Numbers) -> Numbers:
    """By entry: the place of the one that ended first among it and those behind it in its group; groups ascend."""
    # By rank, so that the minimum names its entry; each group is lifted above those before it.
    by_end = np.argsort(done, kind="stable")
    rank = np.empty(len(done), np.int64)
    rank[by_end] = np.arange(len(done))
    lift = group * len(done)
    return np.asarray(by_end[np.minimum.accumulate((lift + rank)[::-1])[::-1] - lift])


def times_written(number: Numbers, row: Numbers) -> Numbers:
    """By entry: how many there are with its number and row."""
    order = np.lexsort((row, number))
    new = (number[order][1:] != number[order][:-1]) | (row[order][1:] != row[order][:-1])
    group = np.cumsum(np.concatenate(([False], new))[: len(order)])
    count = np.empty(len(order), np.int64)
    count[order] = np.bincount(group)[group] if len(order) else group
    return count


def twins(seen: Witness) -> tuple[Numbers, Numbers]:
    """Neighbours among the writes with one version of one row, by different ops."""
    order = np.lexsort((seen.done, seen.wrote, seen.row))
    first, second = order[:-1], order[1:]
    same = (seen.row[first] == seen.row[second]) & (seen.wrote[first] == seen.wrote[second])
    same &= seen.number[first] != seen.number[second]
    return first[same], second[same]
