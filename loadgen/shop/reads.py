"""What browses saw: two rows in one statement, so one snapshot, which holds each basket whole or not at all."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.shop.books import MOST_WITNESSES, Books, ending_named, row_named
from loadgen.shop.sale import KIND_NAMES, Kind
from loadgen.shop.writes import write_key
from loadgen.verdict import Finding
from loadgen.workload.fractures import expanded

CHUNK = 1 << 21
"""How many pairs of a browse and a pair of rows are compared at a time: bounds the memory, not the result."""


@dataclass(frozen=True, slots=True)
class _Baskets:
    """Acknowledged writes of two rows in one transaction, by the pair of rows and the version of the first."""

    pair_first: NDArray[np.int64]
    """By pair of rows that some basket wrote: its rows."""
    pair_second: NDArray[np.int64]
    start: NDArray[np.int64]
    """By pair: where its baskets begin; one more, for the end."""
    key: NDArray[np.int64]
    """By basket: pair and version of the first row as one ascending number."""
    second_version: NDArray[np.int64]
    index: NDArray[np.int64]
    """By basket: its write of the first row, among all writes."""


def fractured_read(books: Books) -> Finding:
    """A read saw one write of a two-SKU order, and a version of the other SKU from before that order.

    For a pair of rows, a browse that saw version x of one must see of the other at least the largest version that any
    basket up to x wrote there: a prefix maximum, so n log n in the baskets and browses of each pair. At a level that
    does not promise a snapshot to a statement, this is reported and is not a violation.
    """
    torn: list[tuple[int, int, int, int]] = []
    count = np.zeros(len(books.asked.number), dtype=bool)
    for swapped in (False, True):
        baskets = _baskets(books, swapped=swapped)
        for who, pair, seen, missed in _torn(books, baskets):
            count[who] = True
            for index in range(min(len(who), MOST_WITNESSES)):
                basket = _culprit(baskets, int(pair[index]), int(seen[index]), int(missed[index]))
                torn.append((int(who[index]), basket, int(seen[index]), int(missed[index])))
    total = int(count.sum())
    told: dict[int, str] = {}
    for reader, basket, saw, lacked in torn:
        told.setdefault(reader, _witness(books, reader, basket, saw, lacked))
    witnesses = tuple(list(told.values())[:MOST_WITNESSES])
    if books.statement_snapshot or not total:
        return Finding("fractured-read", total, witnesses)
    promise = f"{total} fractured reads; no violation, for this level does not promise a snapshot to a statement"
    return Finding("fractured-read", 0, (promise, *witnesses)[:MOST_WITNESSES])


def _baskets(books: Books, *, swapped: bool) -> _Baskets:
    """All basket writes with acknowledged versions. ``swapped``: the second SKU's row counts as the first."""
    writes = books.writes
    of_baskets = np.flatnonzero(books.asked.sku_b[writes.who] >= 0)
    order = of_baskets[np.lexsort((writes.row[of_baskets], writes.kind[of_baskets], writes.who[of_baskets]))]
    who, kind = writes.who[order], writes.kind[order]
    low = np.flatnonzero((who[1:] == who[:-1]) & (kind[1:] == kind[:-1]))
    first, second = order[low], order[low + 1]
    if swapped:
        first, second = second, first
    pairs, pair = np.unique(_pair_key(books, writes.row[first], writes.row[second]), return_inverse=True)
    key = write_key(pair.astype(np.int64), writes.wrote[first])
    by_key = np.argsort(key)
    pair_first, pair_second = pairs // books.rows, pairs % books.rows
    start = np.searchsorted(pair[by_key], np.arange(len(pairs) + 1))
    return _Baskets(pair_first, pair_second, start, key[by_key], writes.wrote[second][by_key], first[by_key])


def _pair_key(books: Books, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Two rows as one number: there are at most 2^20 of each."""
    return first * books.rows + second


def _torn(
    books: Books, baskets: _Baskets
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """``(who, pair, version seen of the first row, version seen of the second)`` of the fractured reads, in parts."""
    looks = books.looks
    if not len(looks.who) or not len(baskets.key):
        return
    # The largest version of the second row among the baskets of a pair up to each one.
    most = _running_maximum(baskets)
    seen_key = looks.who * np.int64(books.rows) + looks.row
    order = np.argsort(seen_key)
    sorted_key, version = seen_key[order], looks.version[order]
    for look, pair in _pairings(books, baskets):
        who, x = looks.who[look], looks.version[look]
        wanted = who * np.int64(books.rows) + baskets.pair_second[pair]
        at = np.minimum(np.searchsorted(sorted_key, wanted), len(sorted_key) - 1)
        y = version[at]
        # The last basket of the pair whose first version is at most x.
        last = np.searchsorted(baskets.key, write_key(pair, x), side="right") - 1
        hit = (sorted_key[at] == wanted) & (last >= baskets.start[pair])
        torn = np.flatnonzero(hit)
        torn = torn[most[last[torn]] > y[torn]]
        if len(torn):
            yield who[torn], pair[torn], x[torn], y[torn]


def _pairings(books: Books, baskets: _Baskets) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Every look at a row together with every pair that has it first, in parts of about CHUNK."""
    looks = books.looks
    # Pairs are ascending by their first row.
    from_pair = np.searchsorted(baskets.pair_first, looks.row, side="left")
    counts = np.searchsorted(baskets.pair_first, looks.row, side="right") - from_pair
    for look, place in expanded(counts, CHUNK):
        yield look, from_pair[look] + place


def _running_maximum(baskets: _Baskets) -> NDArray[np.int64]:
    """By basket: the largest second version up to it within its pair."""
    values, place = np.unique(baskets.second_version, return_inverse=True)
    pair = np.repeat(np.arange(len(baskets.pair_first)), np.diff(baskets.start))
    # Each pair's values are lifted above those of the pairs before it, so that one accumulation serves them all.
    lifted = np.maximum.accumulate(pair * np.int64(len(values)) + place)
    return np.asarray(values[lifted - pair * np.int64(len(values))])


def _culprit(baskets: _Baskets, pair: int, seen: int, missed: int) -> int:
    """The first basket of the pair that the browse saw in the first row and not in the second."""
    start = int(baskets.start[pair])
    end = int(np.searchsorted(baskets.key, write_key(np.array([pair]), np.array([seen]))[0], side="right"))
    return int(baskets.index[start + int(np.argmax(baskets.second_version[start:end] > missed))])


def _witness(books: Books, who: int, basket: int, seen: int, missed: int) -> str:
    writes, asked = books.writes, books.asked
    at, kind = int(writes.who[basket]), int(writes.kind[basket])
    both = np.flatnonzero((writes.who == at) & (writes.kind == kind))
    other = next(int(index) for index in both if index != basket)
    row, other_row = row_named(books, int(writes.row[basket])), row_named(books, int(writes.row[other]))
    return (
        f"browse {asked.number[who]} ({ending_named(books, who, Kind.BROWSE)}) saw {row} at version {seen} and "
        f"{other_row} at {missed}, but {KIND_NAMES[kind]} {asked.number[at]} (token {asked.token[at]}) wrote version "
        f"{writes.wrote[basket]} of the one and {writes.wrote[other]} of the other in one transaction"
    )
