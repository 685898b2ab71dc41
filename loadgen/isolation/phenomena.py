"""The anomalies that are no cycles: each is seen in one transaction, or in one read and the write it saw.

Names and definitions are Adya's and Elle's; ``garbage-read`` is a value that no transaction wrote. Only ``ok``
transactions are looked at, for only their reads are known to have been answered.
"""

from collections.abc import Iterator

import numpy as np

from loadgen.isolation.anomaly import Anomalies
from loadgen.isolation.observed import MISSING, UNJUDGED, UNSEEN, Observed, find, pack, sorting
from loadgen.isolation.transactions import READ, UNKNOWN, WRITE, HistoryKind, Ints
from loadgen.isolation.words import key_name, list_name, name, read_value, txn_words, value_name
from loadgen.op import Outcome


def phenomena(seen: Observed) -> Anomalies:
    """Every anomaly of ``seen`` that is no cycle."""
    found = Anomalies()
    if seen.txns.kind == HistoryKind.LIST_APPEND:
        _odd_reads(seen, found)
        _elements(seen, found)
    else:
        _sources(seen, found)
    _intermediate(seen, found)
    _internal(seen, found)
    _lost_updates(seen, found)
    return found


def _ok_reads(seen: Observed) -> Ints:
    ok = seen.txns.outcome == Outcome.OK
    return np.flatnonzero((seen.txns.act == READ) & ok[seen.txn] & (seen.txns.value != UNKNOWN))


def _read_words(seen: Observed, mop: int) -> str:
    return f"{name(seen, int(seen.txn[mop]))} read {key_name(seen, mop)} = {read_value(seen, mop)}"


def _odd_reads(seen: Observed, found: Anomalies) -> None:
    """Lists with an element twice, and lists that are no prefix of the longest."""
    txns = seen.txns
    writes = np.flatnonzero(txns.act == WRITE)
    for mop, elements in txns.odd.items():
        if not seen.committed[seen.txn[mop]]:
            continue
        repeats = [element for element in dict.fromkeys(elements) if elements.count(element) > 1]
        if repeats:
            twice = value_name(seen, repeats[0])
            found.add(
                "duplicate-elements", f"{_read_words(seen, mop)}, with {twice} {elements.count(repeats[0])} times"
            )
        key = int(txns.key[mop])
        first = int(txns.element_start[key])
        order = [int(element) for element in txns.elements[first : first + int(seen.limit[key])]]
        plain = list(dict.fromkeys(elements))
        if order[: len(plain)] != plain and plain[: len(order)] != order:
            found.add(
                "incompatible-order",
                f"{_read_words(seen, mop)}, but another transaction read {list_name(seen, order)}: "
                "neither starts the other",
            )
        column = np.array(elements, np.int64)
        place = find(np.full(len(column), key), column, txns.key[writes], txns.value[writes])
        for element, at in zip(elements, place.tolist(), strict=True):
            if at < 0:
                found.add("garbage-read", f"{_read_words(seen, mop)}, but nobody appended {value_name(seen, element)}")
            elif txns.outcome[seen.txn[writes[at]]] == Outcome.FAIL:
                found.add("G1a", _aborted(seen, mop, int(writes[at])))


def _aborted(seen: Observed, read: int, write: int) -> str:
    writer = name(seen, int(seen.txn[write]))
    wrote = value_name(seen, int(seen.txns.value[write]))
    return f"{_read_words(seen, read)}, but {writer}, which wrote {wrote}, had failed"


def _elements(seen: Observed, found: Anomalies) -> None:
    """Elements of lists that were never appended, or that a failed transaction appended."""
    txns = seen.txns
    keys = np.repeat(np.arange(txns.keys), np.diff(txns.element_start))
    position = np.arange(len(keys)) - txns.element_start[keys]
    shown = position < seen.limit[keys]
    garbage = np.flatnonzero(shown & (seen.element_write < 0))
    failed_txn = np.append(txns.outcome == Outcome.FAIL, False)
    failed = np.flatnonzero(shown & failed_txn[np.where(seen.element_write >= 0, seen.txn[seen.element_write], -1)])
    reads = _ok_reads(seen)
    reads = reads[seen.source[reads] != UNJUDGED]

    def reader(place: int) -> int:
        mine = reads[(txns.key[reads] == keys[place]) & (txns.length[reads] > position[place])]
        return int(mine[np.argmin(txns.length[mine])]) if len(mine) else -1

    def garbage_words() -> Iterator[str]:
        for place in garbage:
            mop = reader(int(place))
            if mop >= 0:
                yield f"{_read_words(seen, mop)}, but nobody appended {value_name(seen, int(txns.elements[place]))}"

    def failed_words() -> Iterator[str]:
        for place in failed:
            mop = reader(int(place))
            if mop >= 0:
                yield _aborted(seen, mop, int(seen.element_write[place]))

    found.add_all("garbage-read", garbage_words(), len(garbage))
    found.add_all("G1a", failed_words(), len(failed))
    _dirty_updates(seen, found, failed, keys, shown)
    _own_order(seen, found)


def _own_order(seen: Observed, found: Anomalies) -> None:
    """A list that shows an append without, or before, an earlier append of the same transaction to the same key."""
    txns = seen.txns
    earlier, later = _writes_again(seen)
    counted = seen.committed[seen.txn[later]]
    earlier, later = earlier[counted], later[counted]
    wrong = np.flatnonzero((seen.rank[later] != UNSEEN) & (seen.rank[earlier] > seen.rank[later]))

    def words(place: int) -> str:
        first, second = (value_name(seen, int(txns.value[mop])) for mop in (earlier[place], later[place]))
        told = txn_words(seen, int(seen.txn[later[place]]))
        return f"{told}: a list of {key_name(seen, int(later[place]))} shows {second} without {first} before it"

    found.add_all("incompatible-order", (words(int(place)) for place in wrong), len(wrong))


def _dirty_updates(seen: Observed, found: Anomalies, failed: Ints, keys: Ints, shown: np.ndarray) -> None:
    """An element of a failed transaction with one of an ``ok`` transaction behind it."""
    if not len(failed):
        return
    ok_txn = np.append(seen.txns.outcome == Outcome.OK, False)
    good = np.flatnonzero(shown & ok_txn[np.where(seen.element_write >= 0, seen.txn[seen.element_write], -1)])
    for place in failed:
        after = np.searchsorted(good, place)
        if after < len(good) and keys[good[after]] == keys[place]:
            first, second = int(seen.element_write[place]), int(seen.element_write[good[after]])
            one, two = name(seen, int(seen.txn[first])), name(seen, int(seen.txn[second]))
            values = [value_name(seen, int(seen.txns.value[mop])) for mop in (first, second)]
            found.add(
                "dirty-update",
                f"{two} appended {values[1]} to {key_name(seen, first)} behind {values[0]} of {one}, which had failed",
            )


def _sources(seen: Observed, found: Anomalies) -> None:
    """Reads of registers whose value was never written, or whose writer failed."""
    txns = seen.txns
    reads = _ok_reads(seen)
    missing = reads[seen.source[reads] == MISSING]
    if txns.gaps:
        return
    if txns.kind == HistoryKind.VERSIONED and len(missing):
        # An unsure write that learned no version may have written this one.
        unsure = np.unique(txns.key[(txns.act == WRITE) & (txns.value == UNKNOWN)])
        missing = missing[~np.isin(txns.key[missing], unsure)]
    found.add_all(
        "garbage-read", (f"{_read_words(seen, int(mop))}, which no transaction wrote" for mop in missing), len(missing)
    )
    wrote = reads[seen.source[reads] >= 0]
    failed = wrote[txns.outcome[seen.txn[seen.source[wrote]]] == Outcome.FAIL]
    if txns.kind == HistoryKind.VERSIONED and len(failed):
        unsure = np.unique(txns.key[(txns.act == WRITE) & (txns.outcome == Outcome.INFO)[seen.txn]])
        failed = failed[~np.isin(txns.key[failed], unsure)]
    found.add_all("G1a", (_aborted(seen, int(mop), int(seen.source[mop])) for mop in failed), len(failed))


def _writes_again(seen: Observed) -> tuple[Ints, Ints]:
    """Pairs of writes of one key that follow each other in one transaction, reads between them left out."""
    order, again = seen.grouped
    head = np.concatenate(([True], ~again[:-1])) if len(order) else again
    group = np.cumsum(head)
    writes = np.flatnonzero(seen.txns.act[order] == WRITE)
    pairs = np.flatnonzero(group[writes][1:] == group[writes][:-1])
    return order[writes[pairs]], order[writes[pairs + 1]]


def _intermediate(seen: Observed, found: Anomalies) -> None:
    """G1b: another transaction's write that was not its last of the key."""
    txns = seen.txns
    first, _ = _writes_again(seen)
    inner = np.zeros(len(txns.act), np.bool_)
    inner[first] = True
    reads = _ok_reads(seen)
    reads = reads[seen.source[reads] >= 0]
    source = seen.source[reads]
    bad = reads[inner[source] & (seen.txn[source] != seen.txn[reads])]

    def words(mop: int) -> str:
        write = int(seen.source[mop])
        return (
            f"{_read_words(seen, mop)}, but {value_name(seen, int(txns.value[write]))} was not the last that "
            f"{txn_words(seen, int(seen.txn[write]))} wrote to it"
        )

    found.add_all("G1b", (words(int(mop)) for mop in bad), len(bad))


def _internal(seen: Observed, found: Anomalies) -> None:
    """Reads that disagree with what their own transaction did before, or show what it did only afterwards.

    numpy picks the transactions that touch a key twice with a read among it; of those only the ones whose versions
    do not fit are read through one by one.
    """
    txns = seen.txns
    order, again = seen.grouped
    pairs = np.flatnonzero(again)
    before, after = order[pairs], order[pairs + 1]
    known = (txns.outcome == Outcome.OK)[seen.txn[before]]
    before, after = before[known], after[known]
    state = seen.rank if txns.kind == HistoryKind.LIST_APPEND else txns.value
    reading = txns.act[after] == READ
    same = state[before] == state[after]
    # An append fits behind a read of all before it, and behind another append if the lists show them as neighbours.
    fits = np.where(reading, same, txns.kind != HistoryKind.LIST_APPEND)
    if txns.kind == HistoryKind.LIST_APPEND:
        fits |= ~reading & ((state[after] == state[before] + 1) | (state[after] == UNSEEN))
    else:
        fits &= reading | (txns.act[before] == WRITE) | ~_reads_own(seen, before)
    odd = np.fromiter(txns.odd, np.int64, len(txns.odd))
    for txn in np.unique(np.concatenate((seen.txn[before[~fits]], seen.txn[odd]))):
        if txns.outcome[txn] == Outcome.OK:
            _internal_cases(seen, int(txn), found)


def _reads_own(seen: Observed, reads: Ints) -> np.ndarray:
    """Which of ``reads`` saw a write of their own transaction."""
    source = seen.source[reads]
    own = source >= 0
    own[own] = seen.txn[source[own]] == seen.txn[reads[own]]
    return own


def _internal_cases(seen: Observed, txn: int, found: Anomalies) -> None:
    """Walk through one transaction; at most one anomaly of each sort."""
    walk = _internal_list if seen.txns.kind == HistoryKind.LIST_APPEND else _internal_register
    for anomaly, why in walk(seen, range(int(seen.txns.start[txn]), int(seen.txns.start[txn + 1]))).items():
        found.add(anomaly, f"{txn_words(seen, txn)}: {why}")


def _internal_list(seen: Observed, mops: range) -> dict[str, str]:
    txns, cases = seen.txns, dict[str, str]()
    known: dict[int, tuple[bool, list[int]]] = {}
    ever: dict[int, set[int]] = {}
    for mop in mops:
        key = int(txns.key[mop])
        if txns.act[mop] == WRITE:
            element = int(txns.value[mop])
            if element in ever.get(key, ()):
                cases.setdefault("future-read", f"it read {value_name(seen, element)} before it appended it")
            whole, tail = known.get(key, (False, []))
            known[key] = (whole, [*tail, element])
        elif txns.value[mop] != UNKNOWN:
            got = txns.list_read(mop)
            whole, expected = known.get(key, (False, []))
            if got != expected if whole else got[len(got) - len(expected) :] != expected or len(expected) > len(got):
                shown = list_name(seen, expected) if whole else f"a list that ends in {list_name(seen, expected)}"
                cases.setdefault("internal", f"its read of {key_name(seen, mop)} should have shown {shown}")
            known[key] = (True, got)
            ever.setdefault(key, set()).update(got)
    return cases


def _internal_register(seen: Observed, mops: range) -> dict[str, str]:
    txns, cases = seen.txns, dict[str, str]()
    known: dict[int, int] = {}
    ever: set[tuple[int, int]] = set()
    for mop in mops:
        key, value = int(txns.key[mop]), int(txns.value[mop])
        if value == UNKNOWN:
            known.pop(key, None)
        elif txns.act[mop] == WRITE:
            if (key, value) in ever:
                cases.setdefault("future-read", f"it read {value_name(seen, value)} before it wrote it")
            known[key] = value
        else:
            if known.get(key, value) != value:
                shown = value_name(seen, known[key])
                cases.setdefault("internal", f"its read of {key_name(seen, mop)} should have shown {shown}")
            known[key] = value
            ever.add((key, value))
    return cases


def _lost_updates(seen: Observed, found: Anomalies) -> None:
    """Two ``ok`` transactions that read one version of a key from outside and both wrote the key."""
    txns = seen.txns
    state = txns.length if txns.kind == HistoryKind.LIST_APPEND else txns.value
    order, again = seen.grouped
    first = np.flatnonzero(np.concatenate(([True], ~again[:-1]))) if len(order) else order
    writes = np.add.reduceat(txns.act[order], first, dtype=np.int64) if len(first) else first
    heads = order[first]
    repeated = (writes > 0) & (txns.act[heads] == READ)
    heads, writes = heads[repeated], writes[repeated]
    judged = (txns.outcome == Outcome.OK)[seen.txn[heads]] & (txns.value[heads] != UNKNOWN)
    judged &= (seen.source[heads] != UNJUDGED) & ~_reads_own(seen, heads)
    heads = heads[judged]
    packed = pack(txns.key[heads], state[heads])
    order = sorting(packed)
    same = np.flatnonzero(packed[order][1:] == packed[order][:-1])

    def words(place: int) -> str:
        one, two = int(heads[order[place]]), int(heads[order[place + 1]])
        a, b = name(seen, int(seen.txn[one])), name(seen, int(seen.txn[two]))
        read = f"{key_name(seen, one)} = {read_value(seen, one)}"
        return f"{a} and {b} both read {read} and both wrote it: one update is lost"

    found.add_all("lost-update", (words(int(place)) for place in same), len(same))
    if txns.kind == HistoryKind.VERSIONED:
        _twice_written(seen, found)


def _twice_written(seen: Observed, found: Anomalies) -> None:
    """Two ``ok`` transactions that the database gave one version."""
    txns = seen.txns
    writes = np.flatnonzero((txns.act == WRITE) & (txns.outcome == Outcome.OK)[seen.txn] & (txns.value != UNKNOWN))
    packed = pack(txns.key[writes], txns.value[writes])
    order = sorting(packed)
    same = np.flatnonzero(packed[order][1:] == packed[order][:-1])

    def words(place: int) -> str:
        one, two = int(writes[order[place]]), int(writes[order[place + 1]])
        a, b = name(seen, int(seen.txn[one])), name(seen, int(seen.txn[two]))
        return f"{a} and {b} both wrote version {txns.value[one]} of {key_name(seen, one)}: one update is lost"

    found.add_all("lost-update", (words(int(place)) for place in same), len(same))
