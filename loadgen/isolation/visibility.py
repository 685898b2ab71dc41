"""Read atomic and causal consistency, by the axioms of Biswas and Enea ("On the complexity of checking transactional
consistency", OOPSLA 2019), with session order.

If t3 reads x from t1, and t2 also writes x and is visible to t3, then t2 comes before t1. Visible means for read
atomic: before t3 in its session, or read by t3; for causal: before t3 by any chain of session order and reads. The
history is valid if all such orders, session order and reads together have no cycle. What a list read "reads from" is
the writer of its last element.
"""

import functools
from collections.abc import Iterator

import numpy as np

from loadgen.isolation.dependencies import final_writes
from loadgen.isolation.graph import Deadline, Graph, TimeLimitError
from loadgen.isolation.observed import MISSING, NOTHING, UNJUDGED, Observed, find, pack, sorting
from loadgen.isolation.transactions import READ, WRITE, Edge, Flags, Ints
from loadgen.op import Outcome

_PAIRS = 2_000_000
"""How many pairs of reads are looked at in one go."""

_WINDOW = 256
"""How many turns back a transaction keeps a bit for each."""
_MOST_BETWEEN = 20_000_000
"""How many writes between what was read and the reader are looked at; more is unknown."""

Hidden = tuple[Ints, Ints]
"""Pairs (read, write): the read's transaction can see the write's, yet the read saw another write of the key."""


def outside_reads(seen: Observed) -> Ints:
    """Reads of transactions that count, by what they saw: another transaction's write, or nothing."""
    reads = seen.live(READ)
    source = seen.source[reads]
    keep = (source != UNJUDGED) & (source != MISSING)
    keep[source >= 0] &= seen.txn[source[source >= 0]] != seen.txn[reads[source >= 0]]
    kept: Ints = reads[keep]
    return kept


def hidden_atomic(seen: Observed) -> Hidden:
    """Every hidden write that read atomic is about; of one session's only the last."""
    reads = outside_reads(seen)
    writes = final_writes(seen)
    session = _hidden_in_session(seen, reads, writes)
    chained = list(_hidden_by_reads(seen, reads, writes))
    read = np.concatenate([session[0], *(part[0] for part in chained)])
    write = np.concatenate([session[1], *(part[1] for part in chained)])
    return _others(seen, read, write)


def _others(seen: Observed, read: Ints, write: Ints) -> Hidden:
    """Only pairs of a read and a write of another transaction than the one that it read from, or that it is in."""
    source = seen.source[read]
    writer = np.where(source >= 0, seen.txn[np.maximum(source, 0)], -1)
    keep = (writer != seen.txn[write]) & (seen.txn[write] != seen.txn[read])
    return read[keep], write[keep]


def _hidden_in_session(seen: Observed, reads: Ints, writes: Ints) -> Hidden:
    """The last write of the read's key by an ``ok`` transaction before it in its session."""
    txns, txn = seen.txns, seen.txn
    mops = np.concatenate((reads, writes))
    mops = mops[txns.session[txn[mops]] >= 0]
    is_write = txns.act[mops] == WRITE
    # In one transaction its reads stand first: its own writes are not before them.
    order = np.argsort(pack(txns.session[txn[mops]], txns.key[mops], txn[mops], is_write.astype(np.int64)))
    mops, is_write = mops[order], is_write[order]
    group = pack(txns.session[txn[mops]], txns.key[mops])
    sure = is_write & (txns.outcome[txn[mops]] == Outcome.OK)
    last = np.maximum.accumulate(np.where(sure, np.arange(len(mops)), -1)) if len(mops) else np.zeros(0, np.int64)
    hit = ~is_write & (last >= 0)
    hit[hit] &= group[last[hit]] == group[hit]
    return mops[hit], mops[last[hit]]


def _hidden_by_reads(seen: Observed, reads: Ints, writes: Ints) -> Iterator[Hidden]:
    """Writes by the transactions that the same transaction read from, of the other keys that it read."""
    txn, key = seen.txn, seen.txns.key
    reads = np.sort(reads)
    size = np.bincount(txn[reads], minlength=seen.txns.count) if len(reads) else np.zeros(seen.txns.count, np.int64)
    first = np.concatenate(([0], np.cumsum(size)))
    sources = reads[(seen.source[reads] >= 0) & (size[txn[reads]] > 1)]
    pairs = size[txn[sources]]
    cuts = np.searchsorted(np.cumsum(pairs), np.arange(_PAIRS, int(pairs.sum()) + _PAIRS, _PAIRS)) + 1
    for part in np.split(sources, cuts[:-1]) if len(sources) else []:
        many = size[txn[part]]
        via = np.repeat(part, many)
        other = reads[np.arange(len(via)) - np.repeat(np.cumsum(many) - many, many) + first[txn[via]]]
        place = find(txn[seen.source[via]], key[other], txn[writes], key[writes])
        hit = (place >= 0) & (other != via)
        yield other[hit], writes[place[hit]]


def later_hidden(seen: Observed, hidden: Hidden) -> Hidden:
    """Where versions are in order: the hidden writes that are later than what was read, each an anomaly."""
    read, write = hidden
    late = seen.rank[write] > seen.rank[read]
    return read[late], write[late]


def forced_graph(seen: Observed, hidden: Hidden) -> tuple[Graph, Hidden]:
    """The order that hidden writes force: each before the write that was read. And those with nothing to be before."""
    read, write = hidden
    source = seen.source[read]
    stale = source == NOTHING
    graph = Graph.of(seen.txns.count, [(seen.txn[write[~stale]], seen.txn[source[~stale]], Edge.WW)])
    return graph, (read[stale], write[stale])


class Sight:
    """Who can see whom, by any chain of session order and reads.

    ``place`` orders transactions so that all edges of ``visible`` go upwards. Each transaction keeps one bit for each
    of the _WINDOW transactions before it; what is farther away is first looked for by way of its session.
    """

    def __init__(self, seen: Observed, visible: Graph, place: Ints, deadline: Deadline) -> None:
        self.seen = seen
        self.deadline = deadline
        self.turn = np.empty(seen.txns.count, np.int64)
        self.turn[np.argsort(place, kind="stable")] = np.arange(seen.txns.count)
        self.src, self.dst = self.turn[visible.src], self.turn[visible.dst]
        self.reads, self.writes = outside_reads(seen), final_writes(seen)
        self._unseen = np.zeros(0, np.int64)
        self._place = np.zeros(0, np.int64)

    @functools.cached_property
    def masks(self) -> list[int]:
        """For each turn the bit set of the turns before it, nearest first, that reach it."""
        return _masks(self.seen.txns.count, self.src, self.dst, self.deadline)

    @functools.cached_property
    def _sources(self) -> tuple[list[int], list[int]]:
        """From where edges lead to each turn: all sources by turn, and where those of each turn begin."""
        begins = np.concatenate(([0], np.cumsum(np.bincount(self.dst, minlength=self.seen.txns.count))))
        return self.src[sorting(self.dst)].tolist(), begins.tolist()

    def hidden(self, place: Ints, rank: Ints) -> Hidden:
        """Hidden writes, later by ``rank``, of transactions that the reader can see. Raises TimeLimitError.

        What is visible and the ranks of each key must go upwards in ``place``: so only writes between what was read
        and the reader come into question, and of a correct store these are few and near.
        """
        read, write = _between(self.seen, *self._anew(place), place, rank)
        pair = read * len(self.seen.txn) + write
        new = ~np.isin(pair, self._unseen)
        read, write, pair = read[new], write[new], pair[new]
        first, last = self.turn[self.seen.txn[write]], self.turn[self.seen.txn[read]]
        below = first < last
        read, write, first, last, pair = read[below], write[below], first[below], last[below], pair[below]
        if not len(read):
            return read, write
        near = last - first <= _WINDOW
        reached = np.zeros(len(read), np.bool_)
        pairs = zip(last[near].tolist(), (last - first - 1)[near].tolist(), strict=True)
        masks = self.masks
        reached[near] = np.fromiter((masks[node] >> bit & 1 for node, bit in pairs), np.bool_, int(near.sum()))
        far = np.flatnonzero(~near)
        reached[far] = _by_session(self.seen, self.turn, masks, first[far], last[far])
        left = far[~reached[far]]
        if len(left):
            reached[left] = _reached_far(self._sources, first[left], last[left], self.deadline)
        # Another order asks about much the same pairs again.
        self._unseen = np.concatenate((self._unseen, pair[~reached]))
        return _others(self.seen, read[reached], write[reached])

    def _anew(self, place: Ints) -> tuple[Ints, Ints]:
        """The reads and the writes to look at: all at first, then those of the keys of transactions that moved."""
        before, self._place = self._place, place
        if not len(before):
            return self.reads, self.writes
        key = self.seen.txns.key
        moved = np.zeros(self.seen.txns.keys, np.bool_)
        moved[key[(place != before)[self.seen.txn]]] = True
        return self.reads[moved[key[self.reads]]], self.writes[moved[key[self.writes]]]


def _by_session(seen: Observed, turn: Ints, masks: list[int], first: Ints, last: Ints) -> Flags:
    """Which far pairs of turns are joined by a session that leads from near the first to near the last.

    From ``first`` a transaction close behind it is reached, from there its session leads on, and from a later one of
    that session, close before ``last``, that is reached.
    """
    session = np.empty(len(turn), np.int64)
    session[turn] = np.where(seen.committed, seen.txns.session, -1)
    sure = np.empty(len(turn), np.bool_)
    sure[turn] = seen.txns.outcome == Outcome.OK
    sessions, sures = session.tolist(), sure.tolist()
    found = np.zeros(len(first), np.bool_)
    for place, (begin, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        latest: dict[int, int] = {}
        mask, back = masks[end], 0
        while mask:
            skip = (mask & -mask).bit_length()
            back += skip
            mask >>= skip
            latest.setdefault(sessions[end - back], end - back)
        found[place] = any(
            sures[node]
            and node <= latest.get(sessions[node], -1)
            and sessions[node] >= 0
            and (node == begin or masks[node] >> node - begin - 1 & 1)
            for node in range(begin, min(begin + _WINDOW, end))
        )
    return found


def _between(seen: Observed, reads: Ints, writes: Ints, place: Ints, rank: Ints) -> Hidden:
    """Pairs of a read and a later write of its key whose transaction has a lower place than the reader's."""
    key, txn = seen.txns.key, seen.txn
    turn = np.empty(seen.txns.count, np.int64)
    turn[sorting(place - place.min(initial=0))] = np.arange(seen.txns.count)
    writes = writes[sorting(pack(key[writes], turn[txn[writes]]))]
    if not len(writes) or not len(reads):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    mops = np.concatenate((writes, reads))
    both = pack(key[mops], turn[txn[mops]])
    end = _ranked(both[: len(writes)], both[len(writes) :])
    # Behind the write that was read, or where nothing was read at the first of the key.
    begin = np.searchsorted(key[writes], np.arange(seen.txns.keys))[key[reads]]
    behind = np.zeros(len(txn), np.int64)
    behind[writes] = np.arange(1, len(writes) + 1)
    sources = seen.source[reads]
    begin[sources >= 0] = np.maximum(begin[sources >= 0], behind[sources[sources >= 0]])
    many = np.maximum(0, end - begin)
    if int(many.sum()) > _MOST_BETWEEN:
        raise TimeLimitError
    read = np.repeat(reads, many)
    write = writes[np.repeat(begin - (np.cumsum(many) - many), many) + np.arange(len(read))]
    later = rank[write] > rank[read]
    return read[later], write[later]


def _ranked(have: Ints, want: Ints) -> Ints:
    order = sorting(want)
    place = np.empty(len(want), np.int64)
    place[order] = np.searchsorted(have, want[order])
    return place


def _masks(count: int, src: Ints, dst: Ints, deadline: Deadline) -> list[int]:
    """For each turn one bit for each of the turns before it, up to _WINDOW: whether that one reaches it.

    All edges go upwards, so a path stays between its ends, and nothing beyond the window is needed.
    """
    close = dst - src <= _WINDOW
    src, dst = src[close], dst[close]
    order = sorting(dst)
    gaps = (dst - src)[order].tolist()
    start = np.concatenate(([0], np.cumsum(np.bincount(dst, minlength=count)))).tolist()
    whole = (1 << _WINDOW) - 1
    masks = [0] * count
    for node in range(count):
        mask = 0
        for gap in gaps[start[node] : start[node + 1]]:
            mask |= (masks[node - gap] << 1 | 1) << gap - 1
        masks[node] = mask & whole
        if not node & 0xFFFF:
            deadline.check()
    return masks


def _reached_far(edges: tuple[list[int], list[int]], first: Ints, last: Ints, deadline: Deadline) -> Flags:
    """Which of ``last`` can be reached from ``first``: a search backwards, as far down as ``first``."""
    reached = np.zeros(len(first), np.bool_)
    sources, start = edges
    by_last = np.argsort(last, kind="stable")
    for group in np.split(by_last, np.flatnonzero(np.diff(last[by_last])) + 1):
        lowest = int(first[group].min())
        visited = {int(last[group[0]])}
        stack = list(visited)
        while stack:
            node = stack.pop()
            if not len(visited) & 0xFF:
                deadline.check()
            for before in sources[start[node] : start[node + 1]]:
                if before >= lowest and before not in visited:
                    visited.add(before)
                    stack.append(before)
        reached[group] = [int(each) in visited for each in first[group]]
    return reached
