"""Plain registers do not show the order of versions. This finds the likeliest order.

It is the order in which transactions ended, adapted to what is known. If it has no cycle that a model forbids, the
history is proved valid; otherwise solving.py continues.
"""

import numpy as np

from loadgen.isolation.dependencies import data_graph, final_writes
from loadgen.isolation.graph import Graph, cyclic
from loadgen.isolation.observed import UNSEEN, Observed, pack, sorting
from loadgen.isolation.transactions import NEVER, READ, WRITE, Edge, HistoryKind, Ints

_GAP = 1 << 20
"""Room between two guessed places, into which others can be pushed."""
_ROUNDS = 40
"""How often places are pushed all at once before it is sooner done one edge after another."""
_PULLS = 4
"""How often writers are put before those who read from them, and so on along chains of these."""
_SCANS = 20
"""For so many rounds all edges are scanned, which is sooner done than sorting them; few histories need more."""


def guessed_order(seen: Observed, known: Graph, start: Ints | None = None) -> Ints:
    """A place for each transaction, such that ``known``, which has no cycle, goes from lower to higher places.

    As near as may be to the order in which transactions ended, or without times to that of their turn in a session.
    ``start``, the answer for a part of ``known``, saves the way up to there.
    """
    place = _natural_order(seen) * _GAP if start is None else start
    place = np.concatenate((place, np.full(known.nodes - known.txns, place.min(initial=0), np.int64)))
    src, dst = known.src, known.dst
    late = np.flatnonzero(place[src] >= place[dst])
    for number in range(_ROUNDS):
        if not len(late):
            return place[: known.txns]
        if number == _SCANS:
            order = sorting(src.astype(np.int64))
            src, dst, late = src[order], dst[order], np.flatnonzero(place[src[order]] >= place[dst[order]])
            first = np.concatenate(([0], np.cumsum(np.bincount(src, minlength=known.nodes))))
        np.maximum.at(place, dst[late], place[src[late]] + 1)
        # Only what was pushed can push on.
        if number < _SCANS:
            is_pushed = np.zeros(known.nodes, np.bool_)
            is_pushed[dst[late]] = True
            edges = np.flatnonzero(is_pushed[src])
        else:
            pushed = np.unique(dst[late])
            many = first[pushed + 1] - first[pushed]
            edges = np.repeat(first[pushed] - (np.cumsum(many) - many), many) + np.arange(int(many.sum()))
        late = edges[place[src[edges]] >= place[dst[edges]]]
    return _pushed(known, place)[: known.txns]


def _pushed(known: Graph, place: Ints) -> Ints:
    """Places pushed up one edge after another, in an order in which each is looked at once."""
    labels, _ = cyclic(known.nodes, known.src, known.dst)
    order = sorting(int(labels.max(initial=0)) - labels[known.src])
    places = place.tolist()
    for first, second in zip(known.src[order].tolist(), known.dst[order].tolist(), strict=True):
        if places[second] <= places[first]:
            places[second] = places[first] + 1
    return np.array(places, np.int64)


def hinted_order(seen: Observed, known: Graph) -> Ints:
    """A place for each transaction as ``guessed_order`` gives it, bent to what reads hint at besides.

    In a correct store the last read of a version comes before the next version, so versions of one key are put in the
    order of their last reads, not of the ends of their writers, wherever that closes no cycle with what is known.
    """
    place = guessed_order(seen, known)
    key, txn = seen.txns.key, seen.txn
    writes = final_writes(seen)
    last = np.full(len(txn), np.iinfo(np.int64).min, np.int64)
    last[writes] = place[txn[writes]]
    reads = seen.live(READ)
    reads = reads[seen.source[reads] >= 0]
    np.maximum.at(last, seen.source[reads], place[txn[reads]])
    writes = writes[sorting(pack(key[writes], last[writes], place[txn[writes]]))]
    pairs = np.flatnonzero(key[writes][1:] == key[writes][:-1])
    first, second = txn[writes[pairs]], txn[writes[pairs + 1]]
    hints = Graph.of(known.txns, [(first, second, Edge.WW)])
    both = known.plus(hints)
    labels, _ = cyclic(both.nodes, both.src, both.dst)
    keep = np.ones(len(both.src), np.bool_)
    keep[len(known.src) :] = labels[both.src[len(known.src) :]] != labels[both.dst[len(known.src) :]]
    return guessed_order(seen, both.only(keep))


def _natural_order(seen: Observed) -> Ints:
    txns = seen.txns
    count = txns.count
    rank = np.empty(count, np.int64)
    if txns.timed:
        rank[np.lexsort((np.arange(count), _moments(seen)))] = np.arange(count)
        return rank
    order = np.argsort(txns.session, kind="stable")
    session = txns.session[order]
    first = np.searchsorted(session, session)
    size = np.searchsorted(session, session, side="right") - first
    turn = np.empty(count, np.float64)
    turn[order] = (np.arange(count) - first) / size
    rank[np.argsort(turn, kind="stable")] = np.arange(count)
    return rank


def _moments(seen: Observed) -> Ints:
    """When each transaction may have taken effect: when it ended, but before whoever saw it ended.

    A write with an unknown outcome may have happened long after it was sent. The likeliest time is just before it was
    first seen.
    """
    txns = seen.txns
    if seen.txns.kind != HistoryKind.REGISTER:
        return np.where(txns.completed == NEVER, txns.invoked, txns.completed)
    moment = txns.completed.copy()
    reads = seen.live(READ)
    reads = reads[seen.source[reads] >= 0]
    reader, writer = seen.txn[reads], seen.txn[seen.source[reads]]
    other = reader != writer
    reader, writer = reader[other], writer[other]
    for _ in range(_PULLS):
        late = moment[writer] >= moment[reader]
        late &= moment[reader] < NEVER
        if not late.any():
            break
        np.minimum.at(moment, writer[late], moment[reader[late]] - 1)
    return np.where(moment == NEVER, txns.invoked, moment)


def distinct(place: Ints) -> Ints:
    """``place`` as numbers from 0 on, of which no two are equal: two versions of one rank would be taken for one."""
    made = np.empty(len(place), np.int64)
    made[sorting(place - place.min(initial=0))] = np.arange(len(place))
    return made


def ranks_by(seen: Observed, place: Ints) -> Ints:
    """Ranks of all versions, those of each key in the order of their writers' places.

    For lists only the appends that no list shows are so ordered, behind all others.
    """
    place = distinct(place)
    if seen.txns.kind == HistoryKind.LIST_APPEND:
        return np.where(seen.rank == UNSEEN, (UNSEEN >> 1) + place[seen.txn], seen.rank)
    rank = np.zeros(len(seen.txn), np.int64)
    writes = seen.txns.act == WRITE
    rank[writes] = place[seen.txn[writes]]
    reads = np.flatnonzero(seen.txns.act == READ)
    source = seen.source[reads]
    lowest = int(place.min()) - 1 if len(place) else 0
    rank[reads] = np.where(source >= 0, place[seen.txn[np.maximum(source, 0)]], lowest)
    return rank


def ordered_by(seen: Observed, place: Ints) -> Graph:
    """The data's graph with the versions of each key ranked by their writers' places."""
    return data_graph(seen, ranks_by(seen, place))
