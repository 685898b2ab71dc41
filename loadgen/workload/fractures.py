"""Fractured reads: a reader saw one write of a transaction and, of another row, less than the same transaction wrote.

Versions order the writes of each row. A reader that saw version x of one row must see of another row at least the
largest version that any transaction wrote there which wrote the one row up to x. For a pair of rows that is a prefix
maximum, so n log n in the pairs of rows that one transaction wrote and one reader read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 20
"""How many pairs of rows are compared at a time: bounds the memory, not the result."""
MOST_PAIRS = 1 << 27
"""How many pairs of rows are compared at all, of the writers and of the readers: about a minute."""
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Versions:
    """What transactions did to rows: one version of one row each, flat. All arrays have one length."""

    op: Numbers
    """The transaction's place, in any order."""
    row: Numbers
    version: Numbers


@dataclass(frozen=True, slots=True)
class Fracture:
    """The first fractured read of one reader: what it saw and lacked, and what the writer wrote of both rows."""

    reader: int
    writer: int
    row: int
    saw: int
    wrote: int
    other_row: int
    other_saw: int
    other_wrote: int


def fractures(writes: Versions, reads: Versions, most: int = 20) -> tuple[int, list[Fracture], int]:
    """How many readers saw a fracture, the first of ``most`` of them, and how many ops were too many to compare.

    ``writes`` are acknowledged ones. Each transaction is one ``op``; what it wrote, it wrote all or not at all.
    """
    # Of a row that one op wrote twice, whoever saw the first version must see all; likewise the other way round.
    wrote, read = _shared(_by_row(writes), _by_row(reads))
    (wrote, left_writers), (read, left_readers) = _bounded(wrote), _bounded(read)
    if not len(wrote.op):
        return 0, [], left_writers + left_readers
    wrote_rows, read_rows, height = _numbered(wrote.row, read.row)
    wanted = np.zeros(0, np.int64)
    for first, second in _pairs(read.op):
        wanted = np.union1d(wanted, read_rows[first] * height + read_rows[second])
    one, other = _where(wrote.op, lambda a, b: np.isin(wrote_rows[a] * height + wrote_rows[b], wanted))
    if not len(one):
        return 0, [], left_writers + left_readers
    pair = wrote_rows[one] * height + wrote_rows[other]
    order = np.lexsort((wrote.first[one], pair))
    one, other, pair = one[order], other[order], pair[order]
    levels, level = np.unique(wrote.first[one], return_inverse=True)
    pairs, pair = np.unique(pair, return_inverse=True)
    key = pair * (len(levels) + 1) + level
    starts = np.searchsorted(pair, np.arange(len(pairs)))
    highest = _running_maximum(pair, wrote.last[other])
    torn = np.zeros(int(read.op.max(initial=0)) + 1, bool)
    told: list[Fracture] = []
    for first, second in _pairs(read.op):
        seen = read_rows[first] * height + read_rows[second]
        at = np.minimum(np.searchsorted(pairs, seen), len(pairs) - 1)
        # The last writer of the pair whose version of the one row was seen.
        upto = np.searchsorted(levels, read.last[first], side="right") - 1
        last = np.searchsorted(key, at * (len(levels) + 1) + upto, side="right") - 1
        bad = np.flatnonzero((pairs[at] == seen) & (last >= starts[at]))
        bad = bad[highest[last[bad]] > read.first[second[bad]]]
        new = bad[~torn[read.op[first[bad]]]]
        torn[read.op[first[bad]]] = True
        # One reader's pairs are neighbours: the first of each one tells.
        _, once = np.unique(read.op[first[new]], return_index=True)
        for index in new[np.sort(once)][: most - len(told)].tolist():
            here, there, begin = first[index], second[index], starts[at[index]]
            culprit = begin + np.argmax(wrote.last[other[begin : last[index] + 1]] > read.first[there])
            told.append(_fracture(wrote, read, (one[culprit], other[culprit]), (here, there)))
    return int(torn.sum()), told, left_writers + left_readers


@dataclass(frozen=True, slots=True)
class _Rows:
    """One entry for each op and row, by op: the smallest and the largest version."""

    op: Numbers
    row: Numbers
    first: Numbers
    last: Numbers

    def at(self, chosen: NDArray[np.bool_]) -> "_Rows":
        return _Rows(self.op[chosen], self.row[chosen], self.first[chosen], self.last[chosen])


def _fracture(wrote: _Rows, read: _Rows, written: tuple[int, int], seen: tuple[int, int]) -> Fracture:
    (a, b), (here, there) = written, seen
    values = (read.op[here], wrote.op[a], read.row[here], read.last[here], wrote.first[a])
    return Fracture(*map(int, (*values, read.row[there], read.first[there], wrote.last[b])))


def _by_row(versions: Versions) -> _Rows:
    order = np.lexsort((versions.version, versions.row, versions.op))
    op, row, version = versions.op[order], versions.row[order], versions.version[order]
    new = np.concatenate(([True], (op[1:] != op[:-1]) | (row[1:] != row[:-1])))[: len(op)]
    end = np.concatenate((new[1:], [True]))[: len(op)]
    return _Rows(op[new], row[new], version[new], version[end])


def _shared(wrote: _Rows, read: _Rows) -> tuple[_Rows, _Rows]:
    """What both sides have of the rows that several of one op's are on both sides."""
    before = -1
    while (left := len(wrote.op) + len(read.op)) != before:
        before = left
        wrote = _several(wrote, read.row)
        read = _several(read, wrote.row)
    return wrote, read


def _numbered(wrote: Numbers, read: Numbers) -> tuple[Numbers, Numbers, int]:
    """Rows as numbers from 0, with one number for all rows without a write, and how many numbers there are."""
    rows = np.unique(wrote)
    at = np.searchsorted(rows, read)
    known = rows[np.minimum(at, len(rows) - 1)] == read
    return np.searchsorted(rows, wrote), np.where(known, at, len(rows)), len(rows) + 1


def _several(mine: _Rows, theirs: Numbers) -> _Rows:
    """What concerns rows of the other side, of the ops that have several of them."""
    mine = mine.at(np.isin(mine.row, theirs))
    _, place, counts = np.unique(mine.op, return_inverse=True, return_counts=True)
    return mine.at(counts[place] > 1) if len(mine.op) else mine


def _bounded(mine: _Rows) -> tuple[_Rows, int]:
    """The first ops, up to MOST_PAIRS of their rows, and how many ops are left."""
    _, counts = np.unique(mine.op, return_counts=True)
    fits = np.cumsum(counts * (counts - 1)) <= MOST_PAIRS
    left = int((~fits).sum())
    return (mine.at(np.repeat(fits, counts)) if left else mine), left


def _pairs(op: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """The places of every two rows of one op, both ways round, in parts of about CHUNK."""
    if not len(op):
        return
    begins = np.flatnonzero(np.concatenate(([True], op[1:] != op[:-1])))
    sizes = np.diff(np.append(begins, len(op)))
    base = np.repeat(begins, sizes)
    for first, place in expanded(np.repeat(sizes - 1, sizes), CHUNK):
        second = base[first] + place
        yield first, second + (second >= first)


def expanded(counts: Numbers, chunk: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Each index as often as ``counts`` says, with 0, 1, … beside it, in parts of about ``chunk``."""
    ends = np.cumsum(counts)
    begin = 0
    while begin < len(counts):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + chunk)))
        part = counts[begin:end]
        place = np.arange(int(part.sum())) - np.repeat(np.cumsum(part) - part, part)
        yield np.repeat(np.arange(begin, end), part), place
        begin = end


def _where(op: Numbers, chosen: Callable[[Numbers, Numbers], NDArray[np.bool_]]) -> tuple[Numbers, Numbers]:
    """The chosen ones of ``_pairs``."""
    found = [np.zeros((2, 0), np.int64)]
    for first, second in _pairs(op):
        keep = chosen(first, second)
        found.append(np.stack((first[keep], second[keep])))
    one, other = np.concatenate(found, axis=1)
    return one, other


def _running_maximum(group: Numbers, version: Numbers) -> Numbers:
    """The largest version up to each one within its group; groups ascend."""
    values, place = np.unique(version, return_inverse=True)
    # Each group's values are lifted above those of the groups before it, so that one accumulation serves them all.
    lift = group * np.int64(len(values))
    return np.asarray(values[np.maximum.accumulate(lift + place) - lift])
