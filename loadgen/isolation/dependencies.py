"""Which transaction must come before which: the dependencies in the data, session order and real-time order.

Per key the versions stand in order; ww goes from each writer to the next, wr from a writer to those who read its
version, rw from those to the next writer. Appends that no list shows came after all appends that a list shows, in an
unknown order. They get edges from the appends that were seen, and none among themselves.
"""

from collections.abc import Sequence

import numpy as np

from loadgen.isolation.graph import Graph
from loadgen.isolation.observed import NOTHING, UNJUDGED, UNSEEN, Observed, pack, sorting
from loadgen.isolation.transactions import ALWAYS, NEVER, READ, UNKNOWN, WRITE, Edge, Flags, HistoryKind, Ints
from loadgen.op import Outcome

_Part = tuple[Ints, Ints, Edge]


def data_graph(seen: Observed, rank: Ints | None = None) -> Graph:
    """The graph of ww, wr and rw edges by ``rank`` (the history's own, if left out) among transactions that count.

    For plain registers without a given rank: wr edges, and rw edges from those who saw the initial state.
    """
    if seen.txns.kind == HistoryKind.REGISTER and rank is None:
        return _register_graph(seen)
    ranks = seen.rank if rank is None else rank
    writes = seen.live(WRITE)
    if seen.txns.kind == HistoryKind.VERSIONED:
        writes = _one_per_version(seen, writes[seen.txns.value[writes] != UNKNOWN])
    elif seen.txns.kind == HistoryKind.REGISTER:
        writes = final_writes(seen)
    reads = seen.live(READ)
    reads = reads[seen.source[reads] != UNJUDGED]
    if seen.txns.kind == HistoryKind.LIST_APPEND and rank is None:
        chain = _shown(seen)
        unseen = writes[seen.rank[writes] == UNSEEN]
        unseen = unseen[sorting(seen.txns.key[unseen])]
    else:
        chain, unseen = writes[sorting(pack(seen.txns.key[writes], ranks[writes]))], np.zeros(0, np.int64)
    return _ordered_graph(seen, ranks, chain, unseen, reads)


def _shown(seen: Observed) -> Ints:
    """The appends that lists show, by key and rank: the lists say it."""
    keys = np.repeat(np.arange(seen.txns.keys), np.diff(seen.txns.element_start))
    shown = np.arange(len(keys)) - seen.txns.element_start[keys] < seen.limit[keys]
    writes = seen.element_write[shown & (seen.element_write >= 0)]
    return writes[seen.committed[seen.txn[writes]]]


def final_writes(seen: Observed) -> Ints:
    """The last write of each key in each transaction that counts."""
    writes = seen.live(WRITE)
    last = np.zeros(len(seen.txn), np.bool_)
    order, again = seen.grouped
    writing = seen.txns.act[order] == WRITE
    head = np.concatenate(([True], ~again[:-1])) if len(order) else again
    group = np.cumsum(head)
    place = np.flatnonzero(writing)
    final = np.ones(len(place), np.bool_)
    final[:-1] = group[place][1:] != group[place][:-1]
    last[order[place[final]]] = True
    return writes[last[writes]]


def _one_per_version(seen: Observed, writes: Ints) -> Ints:
    """One write for each version: two of one version are a lost update, which another check reports."""
    packed = pack(seen.txns.key[writes], seen.txns.value[writes])
    return writes[np.unique(packed, return_index=True)[1]]


def _ordered_graph(seen: Observed, rank: Ints, chain: Ints, unseen: Ints, reads: Ints) -> Graph:
    """``chain`` are the writes in the order of key and rank, ``unseen`` those behind them, by key."""
    key, txn = seen.txns.key, seen.txn
    wkey = key[chain]
    linked = np.flatnonzero(wkey[1:] == wkey[:-1])
    parts: list[_Part] = [(txn[chain[linked]], txn[chain[linked + 1]], Edge.WW)]
    # The place of the first write at or after what each read saw.
    place, exact = _places(seen, rank, chain, reads)
    behind = place - (~exact).astype(np.int64)
    has_writer = behind >= 0
    has_writer[has_writer] &= wkey[behind[has_writer]] == key[reads[has_writer]]
    parts.append((txn[chain[behind[has_writer]]], txn[reads[has_writer]], Edge.WR))
    ahead = place + exact.astype(np.int64)
    has_next = ahead < len(chain)
    has_next[has_next] &= wkey[ahead[has_next]] == key[reads[has_next]]
    parts.append((txn[reads[has_next]], txn[chain[ahead[has_next]]], Edge.RW))
    hubs = 0
    if len(unseen):
        more, hubs = _unseen_edges(seen, chain, unseen, reads[~has_next])
        parts += more
    return Graph.of(seen.txns.count, parts, seen.txns.count + hubs)


def _places(seen: Observed, rank: Ints, chain: Ints, reads: Ints) -> tuple[Ints, Flags]:
    """Where each read's version stands in ``chain``: the place of the write it saw, or of the next, and which it is."""
    if not len(chain) or not len(reads):
        return np.zeros(len(reads), np.int64), np.zeros(len(reads), np.bool_)
    key = seen.txns.key
    if seen.txns.kind != HistoryKind.REGISTER:
        # Where ranks go up by one from 1 the place is known without a search.
        size = np.bincount(key[chain], minlength=seen.txns.keys)
        first = np.cumsum(size) - size
        if (rank[chain] == np.arange(len(chain)) - first[key[chain]] + 1).all():
            have = rank[reads]
            within = np.clip(have, 0, size[key[reads]])
            exact = (have > 0) & (have == within)
            return first[key[reads]] + within - exact, exact
    both = pack(np.concatenate((key[chain], key[reads])), np.concatenate((rank[chain], rank[reads])))
    have, want = both[: len(chain)], both[len(chain) :]
    order = np.argsort(want)
    place = np.empty(len(reads), np.int64)
    place[order] = np.searchsorted(have, want[order])
    exact = place < len(chain)
    exact[exact] = have[place[exact]] == want[exact]
    return place, exact


def _unseen_edges(seen: Observed, chain: Ints, unseen: Ints, last_reads: Ints) -> tuple[list[_Part], int]:
    """Edges into appends that no list shows: from the last append shown, and from all who read up to it."""
    key, txn = seen.txns.key, seen.txn
    last = np.full(seen.txns.keys, -1, np.int64)
    last[key[chain]] = txn[chain]
    after = unseen[last[key[unseen]] >= 0]
    parts: list[_Part] = [(last[key[after]], txn[after], Edge.WW)]
    fan, hubs = _fan(seen, last_reads, unseen)
    return parts + fan, hubs


def _fan(seen: Observed, reads: Ints, writes: Ints) -> tuple[list[_Part], int]:
    """rw edges from every reader to every writer of the same key but itself, in linear space.

    The writers of a key hang on two chains of hubs, one forwards and one backwards. A reader enters the first hub of
    the forward chain; one that is itself the i-th writer enters that chain behind i and the backward chain before i,
    for a hub that led back to it would show a cycle where there is none.
    """
    key, txn, count = seen.txns.key, seen.txn, seen.txns.count
    packed = pack(np.concatenate((key[writes], key[reads])), np.concatenate((txn[writes], txn[reads])))
    _, first = np.unique(packed[: len(writes)], return_index=True)
    writes = writes[first]
    wkey, wtxn, size = key[writes], txn[writes], len(writes)
    if not size or not len(reads):
        return [], 0
    forward, backward = count + np.arange(size), count + size + np.arange(size)
    same = np.flatnonzero(wkey[1:] == wkey[:-1])
    known, asked = packed[first], packed[len(packed) - len(reads) :]
    place = np.minimum(np.searchsorted(known, asked), size - 1)
    itself = known[place] == asked
    head = np.searchsorted(wkey, key[reads])
    outside = ~itself & (head < size)
    outside[outside] &= wkey[head[outside]] == key[reads[outside]]
    ahead = itself & (place + 1 < size)
    ahead[ahead] &= wkey[place[ahead] + 1] == wkey[place[ahead]]
    back = itself & (place > 0)
    back[back] &= wkey[place[back] - 1] == wkey[place[back]]
    return [
        (forward, wtxn, Edge.CARRY),
        (backward, wtxn, Edge.CARRY),
        (forward[same], forward[same + 1], Edge.CARRY),
        (backward[same + 1], backward[same], Edge.CARRY),
        (txn[reads[outside]], forward[head[outside]], Edge.RW),
        (txn[reads[ahead]], forward[place[ahead] + 1], Edge.RW),
        (txn[reads[back]], backward[place[back] - 1], Edge.RW),
    ], 2 * size


def read_graph(seen: Observed) -> Graph:
    """Only the wr edges: who read whose write, both of them transactions that count."""
    reads = seen.live(READ)
    reads = reads[seen.source[reads] >= 0]
    reads = reads[seen.committed[seen.txn[seen.source[reads]]]]
    return Graph.of(seen.txns.count, [(seen.txn[seen.source[reads]], seen.txn[reads], Edge.WR)])


def _register_graph(seen: Observed) -> Graph:
    """What plain registers show by themselves: who read whose write, and that all writes follow the initial state."""
    reads = seen.live(READ)
    fan, hubs = _fan(seen, reads[seen.source[reads] == NOTHING], final_writes(seen))
    return read_graph(seen).plus(Graph.of(seen.txns.count, fan, seen.txns.count + hubs))


def session_graph(seen: Observed) -> Graph:
    """Session order: to each transaction that counts from the last ``ok`` one before it in its session.

    None goes out of an ``info`` transaction: it may have taken effect long after its session went on.
    """
    live = np.flatnonzero(seen.committed & (seen.txns.session >= 0))
    live = live[np.argsort(seen.txns.session[live], kind="stable")]
    session = seen.txns.session[live]
    sure = np.where(seen.txns.outcome[live] == Outcome.OK, np.arange(len(live)), -1)
    before = np.concatenate(([-1], np.maximum.accumulate(sure)[:-1])) if len(live) else sure
    linked = before >= 0
    linked[linked] &= session[before[linked]] == session[linked]
    return Graph.of(seen.txns.count, [(live[before[linked]], live[linked], Edge.PROCESS)])


def realtime_graph(seen: Observed) -> Graph:
    """Real-time order as a chain of hubs, one for each completion: linear, where the order itself is quadratic.

    An ``ok`` transaction enters the hub of its completion, each hub leads to the next, and a transaction is left to
    by the last hub before it was sent. Equal times are concurrent.
    """
    txns = seen.txns
    done = np.flatnonzero(seen.committed & (txns.outcome == Outcome.OK) & (txns.completed != NEVER))
    done = done[np.argsort(txns.completed[done], kind="stable")]
    times = txns.completed[done]
    starts = np.flatnonzero(seen.committed & (txns.invoked != ALWAYS))
    hub = txns.count + np.arange(len(done))
    order = np.argsort(txns.invoked[starts])
    before = np.empty(len(starts), np.int64)
    before[order] = np.searchsorted(times, txns.invoked[starts][order], side="left") - 1
    late = before >= 0
    parts: Sequence[_Part] = [
        (done, hub, Edge.REALTIME),
        (hub[:-1], hub[1:], Edge.CARRY),
        (hub[before[late]], starts[late], Edge.CARRY),
    ]
    return Graph.of(txns.count, parts, txns.count + len(done))
