"""What a history shows: which transactions count as committed, which write each read saw, the order of versions.

A list read shows the order in which its elements were appended, a version number is its own order, and the values of
a plain register show none. An ``info`` transaction counts only if a transaction that counts read what it wrote, or,
where versions are numbers, if the numbers themselves prove that its write exists.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from loadgen.isolation.transactions import INITIAL, READ, UNKNOWN, WRITE, Flags, HistoryKind, Ints, Transactions
from loadgen.op import Outcome

UNSEEN = int(np.iinfo(np.int64).max)
"""The rank of an append that no list shows: it came after every element that one shows."""

NOTHING, MISSING, UNJUDGED = -1, -2, -3
"""The sources of a read other than a write: the initial state, a value that was never written, and unknown."""


@dataclass(slots=True)
class Observed:
    """A history with its reads resolved. All arrays but ``committed`` have one entry for each micro-operation.

    ``rank`` orders the versions of one key: 0 the initial one, from 1 on for lists, the version itself where versions
    are numbers, and no meaning for plain registers. ``source`` of a read is the micro-operation that wrote what it
    saw (of a list: its last element), or NOTHING, MISSING or UNJUDGED.
    """

    txns: Transactions
    txn: Ints
    committed: Flags
    rank: Ints
    source: Ints
    element_write: Ints
    """For lists: which micro-operation appended each of ``txns.elements``, or -1."""
    limit: Ints
    """For lists: how many of each key's elements a transaction that counts has seen."""

    grouped: tuple[Ints, Flags]
    """All micro-operations by transaction and key, in their order, and which of them have the next one's key too."""

    def live(self, act: int) -> Ints:
        """The micro-operations of that sort in transactions that count."""
        return np.flatnonzero((self.txns.act == act) & self.committed[self.txn])


_WIDEST = 1 << 62
_MOST = 1 << 63
"""One more than the largest int64."""
_TWO_CORES = 1_000_000
"""From so many values on a second thread is worth its start."""


def pack(*columns: Ints) -> Ints:
    """One int64 that sorts as the columns do, left to right. Columns too wide for that are ranked first."""
    packed = np.zeros(len(columns[0]), np.int64)
    width = 1
    for column in columns:
        if not len(column):
            return packed
        low, high = int(column.min()), int(column.max())
        if low >= 0 and high < 2 * (high - low + 1):
            low = 0
        span = high - low + 1
        if width * span >= _WIDEST:
            column = np.unique(column, return_inverse=True)[1]
            low, span = 0, int(column.max()) + 1
            if width * span >= _WIDEST:
                packed = np.unique(packed, return_inverse=True)[1].astype(np.int64)
                width = int(packed.max()) + 1
        if width > 1:
            packed *= span
        packed += column
        if low:
            packed -= low
        width *= span
    return packed


def sorting(packed: Ints) -> Ints:
    """The order that sorts ``packed``, equal ones as they stand. Sorting values is far quicker than sorting places."""
    size = len(packed)
    if not size:
        return np.zeros(0, np.int64)
    if int(packed.min()) >= 0 and (int(packed.max()) + 1) * size <= _MOST:
        both = packed * size
        both += np.arange(size)
        _sort(both)
        both %= size
        return both
    return np.argsort(packed, kind="stable")


def _sort(values: Ints) -> None:
    """Sort in place, many values on two cores: numpy lets go of the interpreter while it sorts."""
    middle = len(values) // 2
    if len(values) < _TWO_CORES:
        values.sort()
        return
    values.partition(middle)
    lower = threading.Thread(target=values[:middle].sort)
    lower.start()
    values[middle:].sort()
    lower.join()


def find(keys: Ints, values: Ints, in_keys: Ints, in_values: Ints) -> Ints:
    """For each (key, value) the place of the first equal pair in (``in_keys``, ``in_values``), or -1."""
    if not len(in_keys) or not len(keys):
        return np.full(len(keys), -1, np.int64)
    both = pack(np.concatenate((in_keys, keys)), np.concatenate((in_values, values)))
    known, wanted = both[: len(in_keys)], both[len(in_keys) :]
    order = sorting(known)
    ranked = known[order]
    # Sorted questions run through memory once; unsorted ones cost ten times as much.
    asking = sorting(wanted)
    sought = wanted[asking]
    place = np.minimum(np.searchsorted(ranked, sought), len(ranked) - 1)
    found = np.empty(len(keys), np.int64)
    found[asking] = np.where(ranked[place] == sought, order[place], -1)
    return found


def repeated(keys: Ints, values: Ints) -> tuple[int, int] | None:
    """Two places that hold the same (key, value) pair, or None."""
    packed = pack(keys, values)
    ranked = np.sort(packed)
    if not (ranked[1:] == ranked[:-1]).any():
        return None
    order = np.argsort(packed, kind="stable")
    ranked = packed[order]
    same = np.flatnonzero(ranked[1:] == ranked[:-1])
    return (int(order[same[0]]), int(order[same[0] + 1])) if len(same) else None


def unfit(txns: Transactions) -> str:
    """Why ``txns`` cannot be judged, with an example, or an empty text: writes of a key must differ."""
    if txns.unfit:
        return txns.unfit
    if txns.kind == HistoryKind.VERSIONED:
        return ""
    writes = np.flatnonzero(txns.act == WRITE)
    pair = repeated(txns.key[writes], txns.value[writes])
    if pair is None:
        return ""
    txn = txns.txn_of()
    first, second = (int(writes[place]) for place in pair)
    verb = "appended to" if txns.kind == HistoryKind.LIST_APPEND else "written to"
    return (
        f"writes are not unique: {txns.value_name(int(txns.value[first]))} was {verb} key "
        f"{txns.key_name(int(txns.key[first]))} by T{txns.label[txn[first]]} and by T{txns.label[txn[second]]}"
    )


def observe(txns: Transactions) -> Observed:
    """Resolve the reads of ``txns``, whose writes must be unique (see ``unfit``)."""
    txn = txns.txn_of()
    if txns.kind == HistoryKind.LIST_APPEND:
        return _observe_lists(txns, txn)
    if txns.kind == HistoryKind.VERSIONED:
        return _observe_versions(txns, txn)
    return _observe_registers(txns, txn)


def _grouped(txns: Transactions, txn: Ints) -> tuple[Ints, Flags]:
    place = np.arange(len(txn)) - txns.start[txn]
    packed = np.sort(pack(txn, txns.key, place))
    width = int(place.max(initial=0)) + 1 if len(place) else 1
    # The place inside its transaction is the last digit of the packed number, unless that had to be ranked.
    fits = len(txn) and int(txn.max() + 1) * txns.keys * width < _WIDEST
    order = txns.start[txn] + packed % width if fits else sorting(pack(txn, txns.key))
    key = txns.key[order]
    again = np.zeros(len(order), np.bool_)
    again[:-1] = (key[1:] == key[:-1]) & (txn[order][1:] == txn[order][:-1])
    return order, again


def _observe_registers(txns: Transactions, txn: Ints) -> Observed:
    reads, writes = np.flatnonzero(txns.act == READ), np.flatnonzero(txns.act == WRITE)
    place = find(txns.key[reads], txns.value[reads], txns.key[writes], txns.value[writes])
    source = np.full(len(txns.act), UNJUDGED, np.int64)
    source[reads] = np.where(place >= 0, writes[place] if len(writes) else MISSING, MISSING)
    source[reads[txns.value[reads] == INITIAL]] = NOTHING
    source[reads[txns.value[reads] == UNKNOWN]] = UNJUDGED
    committed = txns.outcome == Outcome.OK
    maybe = txns.outcome == Outcome.INFO
    while maybe.any():
        seen = source[reads[committed[txn[reads]]]]
        grown = committed.copy()
        writers = txn[seen[seen >= 0]]
        grown[writers[maybe[writers]]] = True
        if (grown == committed).all():
            break
        committed = grown
    nothing = np.zeros(0, np.int64)
    rank = np.zeros(len(txns.act), np.int64)
    return Observed(txns, txn, committed, rank, source, nothing, nothing, _grouped(txns, txn))


def _observe_versions(txns: Transactions, txn: Ints) -> Observed:
    """Versions are numbers that the database raises by one: a version below one that exists exists too."""
    known = txns.value != UNKNOWN
    ok = txns.outcome == Outcome.OK
    newest = np.full(txns.keys, INITIAL, np.int64)
    sure = known & ok[txn]
    np.maximum.at(newest, txns.key[sure], txns.value[sure])
    writes = np.flatnonzero((txns.act == WRITE) & known)
    taken = writes[ok[txn[writes]]]
    unsure = writes[(txns.outcome == Outcome.INFO)[txn[writes]]]
    # A version that was rolled back is given out again: one that another surely wrote is not the unsure one.
    free = find(txns.key[unsure], txns.value[unsure], txns.key[taken], txns.value[taken]) < 0
    free &= txns.value[unsure] <= newest[txns.key[unsure]]
    committed = ok.copy()
    committed[_proven(txns, txn, unsure, free)] = True
    order = writes[np.argsort(~committed[txn[writes]], kind="stable")]
    reads = np.flatnonzero(txns.act == READ)
    place = find(txns.key[reads], txns.value[reads], txns.key[order], txns.value[order])
    source = np.full(len(txns.act), UNJUDGED, np.int64)
    source[reads] = np.where(place >= 0, order[place] if len(order) else MISSING, MISSING)
    source[reads[(txns.value[reads] == INITIAL) | (txns.value[reads] == 0) & (place < 0)]] = NOTHING
    source[reads[~known[reads]]] = UNJUDGED
    nothing = np.zeros(0, np.int64)
    return Observed(txns, txn, committed, txns.value, source, nothing, nothing, _grouped(txns, txn))


def _proven(txns: Transactions, txn: Ints, unsure: Ints, free: Flags) -> Ints:
    """The unsure transactions all of whose writes must have been: no other unsure one can have made their versions."""
    maybe = (txns.act == WRITE) & (txns.outcome == Outcome.INFO)[txn]
    lost = np.zeros(txns.keys, np.bool_)
    lost[txns.key[maybe & (txns.value == UNKNOWN)]] = True
    packed = pack(txns.key[unsure], txns.value[unsure])
    _, back, times = np.unique(packed, return_inverse=True, return_counts=True)
    good = free & ~lost[txns.key[unsure]] & (times[back] == 1)
    if txns.gaps:
        good[:] = False
    doubtful = np.concatenate((txn[unsure[~good]], txn[maybe & (txns.value == UNKNOWN)]))
    return np.setdiff1d(txn[unsure[good]], doubtful)


def _observe_lists(txns: Transactions, txn: Ints) -> Observed:
    committed = txns.outcome == Outcome.OK
    maybe = txns.outcome == Outcome.INFO
    reads = np.flatnonzero((txns.act == READ) & (txns.value != UNKNOWN))
    writes = np.flatnonzero(txns.act == WRITE)
    while True:
        _settle(txns, txn, committed)
        keys = np.repeat(np.arange(txns.keys), np.diff(txns.element_start))
        place = find(keys, txns.elements, txns.key[writes], txns.value[writes])
        element_write = np.where(place >= 0, writes[place] if len(writes) else -1, -1)
        whole = np.ones(len(txns.act), np.bool_)
        whole[list(txns.odd)] = False
        counted = reads[committed[txn[reads]] & whole[reads]]
        limit = np.zeros(txns.keys, np.int64)
        np.maximum.at(limit, txns.key[counted], txns.length[counted])
        seen = (np.arange(len(keys)) - txns.element_start[keys]) < limit[keys]
        grown = committed.copy()
        writers = txn[element_write[seen & (element_write >= 0)]]
        writers = np.concatenate((writers, _odd_writers(txns, txn, committed, writes)))
        grown[writers[maybe[writers]]] = True
        if (grown == committed).all():
            break
        committed = grown
    rank = np.where(txns.act == READ, txns.length, UNSEEN)
    shown = np.flatnonzero(seen & (element_write >= 0))
    rank[element_write[shown]] = shown - txns.element_start[keys[shown]] + 1
    source = np.full(len(txns.act), UNJUDGED, np.int64)
    filled = counted[txns.length[counted] > 0]
    source[counted] = NOTHING
    last = element_write[txns.element_start[txns.key[filled]] + txns.length[filled] - 1]
    source[filled] = np.where(last >= 0, last, MISSING)
    return Observed(txns, txn, committed, rank, source, element_write, limit, _grouped(txns, txn))


def from_outside(seen: Observed) -> Observed:
    """``seen`` with each list read behind appends of its own transaction as a read of what stood before them.

    A transaction that appends 2 and then reads [1, 2] has read [1]; one that reads [2] has read that there was nothing.
    """
    txns = seen.txns
    if txns.kind != HistoryKind.LIST_APPEND:
        return seen
    order, again = seen.grouped
    writing = (txns.act[order] == WRITE).astype(np.int64)
    before = np.cumsum(writing) - writing
    head = np.ones(len(order), np.bool_)
    head[1:] = ~again[:-1]
    own = np.zeros(len(order), np.int64)
    own[order] = before - np.maximum.accumulate(np.where(head, before, 0)) if len(order) else before
    reads = np.flatnonzero((txns.act == READ) & (own > 0) & (seen.source != UNJUDGED))
    left = txns.length[reads] - own[reads]
    reads, left = reads[left >= 0], left[left >= 0]
    source, rank = seen.source.copy(), seen.rank.copy()
    rank[reads] = left
    element = np.maximum(txns.element_start[txns.key[reads]] + left - 1, 0)
    last = seen.element_write[element] if len(seen.element_write) else np.zeros(0, np.int64)
    source[reads] = NOTHING
    source[reads[left > 0]] = np.where(last[left > 0] >= 0, last[left > 0], MISSING)
    return replace(seen, source=source, rank=rank)


def _odd_writers(txns: Transactions, txn: Ints, committed: Flags, writes: Ints) -> Ints:
    """Who appended what the odd reads of transactions that count saw."""
    pairs = [
        (int(txns.key[mop]), element)
        for mop, elements in txns.odd.items()
        if committed[txn[mop]]
        for element in elements
    ]
    if not pairs:
        return np.zeros(0, np.int64)
    table = np.array(pairs, np.int64)
    place = find(table[:, 0], table[:, 1], txns.key[writes], txns.value[writes])
    return txn[writes[place[place >= 0]]]


def _settle(txns: Transactions, txn: Ints, committed: Flags) -> None:
    """Give every key with odd reads the order that its longest counted read shows, and say anew which reads are odd.

    The reader of a file compares each list with what it has seen before, so one wrong list that came first would
    make all the right ones look odd; here the longest list without a repeated element decides, as in Elle.
    """
    suspects = {int(txns.key[mop]) for mop in txns.odd} | _keys_with_repeats(txns)
    if not suspects:
        return
    orders: dict[int, list[int]] = {}
    odd = dict(txns.odd)
    by_key: dict[int, list[int]] = {key: [] for key in suspects}
    chosen = np.isin(txns.key, np.fromiter(suspects, np.int64))
    for mop in np.flatnonzero(chosen & (txns.act == READ) & (txns.value != UNKNOWN)):
        by_key[int(txns.key[mop])].append(int(mop))
    for key, mops in by_key.items():
        lists = {mop: txns.list_read(mop) for mop in mops}
        counted = [seen for mop, seen in lists.items() if committed[txn[mop]] and len(set(seen)) == len(seen)]
        order = orders[key] = max(counted, key=len, default=[])
        for read, seen in lists.items():
            if order[: len(seen)] == seen:
                txns.length[read] = len(seen)
                odd.pop(read, None)
            else:
                odd[read] = seen
    _replace_orders(txns, orders)
    txns.odd = odd


def _keys_with_repeats(txns: Transactions) -> set[int]:
    keys = np.repeat(np.arange(txns.keys), np.diff(txns.element_start))
    packed = np.sort(pack(keys, txns.elements))
    if not (packed[1:] == packed[:-1]).any():
        return set()
    packed = pack(keys, txns.elements)
    order = np.argsort(packed, kind="stable")
    same = packed[order][1:] == packed[order][:-1]
    return {int(key) for key in keys[order[1:][same]]}


def _replace_orders(txns: Transactions, orders: dict[int, list[int]]) -> None:
    sizes = np.diff(txns.element_start)
    parts: list[Iterable[int]] = []
    kept = 0
    for key in sorted(orders):
        parts.append(txns.elements[kept : txns.element_start[key]])
        parts.append(orders[key])
        kept = int(txns.element_start[key + 1])
        sizes[key] = len(orders[key])
    parts.append(txns.elements[kept:])
    txns.elements = np.concatenate([np.asarray(part, np.int64) for part in parts])
    txns.element_start = np.concatenate(([0], np.cumsum(sizes)))
