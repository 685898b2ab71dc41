"""Read atomic and causal consistency, by the axioms of Biswas and Enea ("On the complexity of checking transactional
consistency", OOPSLA 2019), with session order.

If t3 reads x from t1, and t2 also writes x and is visible to t3, then t2 comes before t1. Visible means for read
atomic: before t3 in its session, or read by t3; for causal: before t3 by any chain of session order and reads. The
history is valid if all such orders, session order and reads together have no cycle. What a list read "reads from" is
the writer of its last element.
"""

from collections.abc import Iterator

import numpy as np

from loadgen.checks.dependencies import final_writes
from loadgen.checks.graph import Deadline, Graph, TimeLimitError
from loadgen.checks.observed import MISSING, NOTHING, UNJUDGED, Observed, find, pack
from loadgen.checks.transactions import READ, WRITE, Edge, Flags, Ints
from loadgen.op import Outcome

_PAIRS = 2_000_000
"""How many pairs of reads are looked at in one go."""

_MOST = 40_000
"""So many transactions need 200 MB of bit sets; more are not tried."""

Hidden = tuple[Ints, Ints]
"""Pairs (read, write): the read's transaction can see the write's, yet the read saw another write of the key."""


def outside_reads(seen: Observed) -> Ints:
    """Reads of transactions that count, by what they saw: another transaction's write, or nothing."""
    reads = seen.live(READ)
    source = seen.source[reads]
    keep = (source != UNJUDGED) & (source != MISSING)
    keep[source >= 0] &= seen.txn[source[source >= 0]] != seen.txn[reads[source >= 0]]
    return reads[keep]


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


def hidden_causal(seen: Observed, visible: Graph, part: Graph, rank: Ints, deadline: Deadline) -> Hidden:
    """Hidden writes of transactions in ``part``, the components outside which there are none, later by ``rank``.

    ``visible`` holds session order and reads, without cycles. One bit set a transaction says what it can see; what
    cannot be done in the time raises TimeLimitError.
    """
    inside = np.zeros(seen.txns.count, np.bool_)
    ends = np.concatenate((part.src, part.dst))
    inside[ends[ends < seen.txns.count]] = True
    nodes = np.flatnonzero(inside)
    if len(nodes) > _MOST:
        raise TimeLimitError
    bit = np.full(seen.txns.count, -1, np.int64)
    bit[nodes] = np.arange(len(nodes))
    past = _past(visible, inside, bit, len(nodes), deadline)
    later = _later_writers(seen, inside, rank, bit)
    reads = outside_reads(seen)
    reads = reads[inside[seen.txn[reads]]]
    found: list[tuple[int, int]] = []
    for mop in reads.tolist():
        deadline.check()
        mine = past[int(bit[seen.txn[mop]])]
        if not mine:
            continue
        for write_rank, writer, write in later.get(int(seen.txns.key[mop]), ()):
            if write_rank <= rank[mop]:
                break
            if mine >> writer & 1:
                found.append((mop, write))
    table = np.array(found, np.int64).reshape(-1, 2)
    return _others(seen, table[:, 0], table[:, 1])


def _past(visible: Graph, inside: Flags, bit: Ints, count: int, deadline: Deadline) -> list[int]:
    """For each transaction inside, the bit set of those that it can see by paths inside."""
    keep = inside[visible.src] & inside[visible.dst]
    src, dst = bit[visible.src[keep]].tolist(), bit[visible.dst[keep]].tolist()
    follow: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for a, b in zip(src, dst, strict=True):
        follow[a].append(b)
        waiting[b] += 1
    past = [0] * count
    ready = [node for node in range(count) if not waiting[node]]
    while ready:
        deadline.check()
        node = ready.pop()
        mine = past[node] | 1 << node
        for other in follow[node]:
            past[other] |= mine
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    return past


def _later_writers(seen: Observed, inside: Flags, rank: Ints, bit: Ints) -> dict[int, list[tuple[int, int, int]]]:
    """The writes of each key by transactions inside, the latest first: (rank, bit, write)."""
    writes = final_writes(seen)
    writes = writes[inside[seen.txn[writes]]]
    later: dict[int, list[tuple[int, int, int]]] = {}
    for mop in writes[np.argsort(-rank[writes].astype(np.float64), kind="stable")].tolist():
        later.setdefault(int(seen.txns.key[mop]), []).append((int(rank[mop]), int(bit[seen.txn[mop]]), mop))
    return later


__all__ = ["Flags", "forced_graph", "hidden_atomic", "hidden_causal", "later_hidden", "outside_reads"]
