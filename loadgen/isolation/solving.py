"""Is there an order of versions without the cycles that a model forbids, and which? Decided by deduction and search.

A matrix of bits holds which transaction reaches which in the graph of the certain edges. Of two writers of one key, if
the first reaches the second it came first; if the second reaches a reader of the first it came first, for it would be
seen otherwise. (Under SI, where no two anti-dependencies may be neighbours, not if it reaches it by one at first.) What
follows is added to the graph, until nothing more does: then a cycle proves that no order exists.
Whatever order of the rest is guessed has no cycle, or names a pair to decide: both ways are tried, one after another.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loadgen.isolation.cycles import forbidden_part
from loadgen.isolation.dependencies import final_writes
from loadgen.isolation.graph import Deadline, Graph, cyclic, split
from loadgen.isolation.models import Rule
from loadgen.isolation.observed import UNSEEN, Observed, pack, sorting
from loadgen.isolation.orderings import distinct, guessed_order, hinted_order, ordered_by
from loadgen.isolation.transactions import READ, Edge, Flags, HistoryKind, Ints
from loadgen.isolation.writers import Key, Pairs

_Bits = NDArray[np.uint64]
_MOST_BYTES = 1 << 30
"""How large the matrix of who reaches whom may be."""
_SMALL = 24
"""Keys of up to so many writers are looked at pair by pair, all of them at once."""
_BLOCK = 1 << 22
"""How many pairs of a writer and a reader are looked at in one go."""


@dataclass(slots=True)
class Solver:
    """The search among the transactions that ``seen`` counts; ``known`` is what is sure, ``extra`` its order part."""

    seen: Observed
    known: Graph
    extra: Graph
    rule: Rule
    deadline: Deadline
    sure: Graph = field(init=False)
    """What every order without a forbidden cycle has."""
    part: Graph = field(init=False)
    """The forbidden cycles of the order that was likeliest."""
    place: Ints = field(init=False)
    """A place for each transaction in an order without forbidden cycles, if one was found."""
    _graph: Graph = field(init=False)
    _number: Ints = field(init=False)
    _txns: int = field(init=False)
    _keys: list[Key] = field(init=False)
    _large: list[Key] = field(init=False)
    _pairs: Pairs = field(init=False)
    _rows: _Bits = field(init=False)
    _after_rw: int = field(init=False)
    """How much further the row stands of the same transaction, reached by an anti-dependency."""

    def __post_init__(self) -> None:
        live = np.flatnonzero(self.seen.committed)
        hubs = np.arange(self.known.txns, self.known.nodes)
        self._txns = len(live)
        self._number = np.full(self.known.nodes, -1, np.int64)
        self._number[np.concatenate((live, hubs))] = np.arange(len(live) + len(hubs))
        self.sure = self._graph = self.part = self.known
        self._keys = self._asked()
        self._large = [key for key in self._keys if len(key.writers) > _SMALL]
        self._pairs = Pairs.of([key for key in self._keys if len(key.writers) <= _SMALL])

    def __len__(self) -> int:
        return self._txns

    @property
    def fits(self) -> bool:
        """Whether there is room for the matrix."""
        nodes = self._txns + self.known.nodes - self.known.txns
        return nodes * self._txns * (4 if self.rule == Rule.SI else 1) // 8 <= _MOST_BYTES

    def solve(self) -> bool:
        """Whether an order exists. Raises TimeLimitError."""
        tried: list[tuple[Graph, tuple[int, int]]] = []
        alive = self.deduce()
        while alive:
            self.place, self.part = self._guess()
            if not len(self.part.src):
                return True
            first, second = self._doubt()
            saved = self._graph
            self._decide(second, first)
            if self._deduce():
                tried.append((saved, (first, second)))
                continue
            alive = self._turn_back(tried, saved, first, second)
        return False

    def deduce(self) -> bool:
        """Find out what every order has; false if there is none. Raises TimeLimitError."""
        possible = self._deduce()
        self.sure = self._graph
        return possible

    def gained(self) -> Graph:
        """What was deduced beyond what was known."""
        graph = self.sure
        more = slice(len(self.known.src), None)
        return Graph(graph.txns, graph.txns, graph.src[more], graph.dst[more], graph.kind[more])

    def among(self, inside: Flags) -> Graph:
        """Who of the transactions ``inside`` reaches whom by what was deduced, as edges."""
        live = np.flatnonzero(self.seen.committed & inside)
        here = self._number[live]
        plainly = self._reach(here, here, plainly=True)
        np.fill_diagonal(plainly, val=False)
        if self.rule == Rule.SI:
            first, second = np.nonzero(self._reach(here, here) & ~plainly)
            keep = first != second
            anti = (live[first[keep]], live[second[keep]], Edge.RW)
            first, second = np.nonzero(plainly)
            return Graph.of(self.known.txns, [(live[first], live[second], Edge.WW), anti])
        as_number = plainly.astype(np.float32)
        first, second = np.nonzero(plainly & ~(as_number @ as_number > 0))
        return Graph.of(self.known.txns, [(live[first], live[second], Edge.WW)])

    def _turn_back(self, tried: list[tuple[Graph, tuple[int, int]]], saved: Graph, first: int, second: int) -> bool:
        """Where the one answer led to a cycle the other must be right; false if that cannot be either."""
        while True:
            self._graph = saved
            self._decide(first, second)
            possible = self._deduce()
            if not tried:
                self.sure = self._graph
            if possible or not tried:
                return possible
            saved, (first, second) = tried.pop()

    def _asked(self) -> list[Key]:
        seen, key, txn = self.seen, self.seen.txns.key, self.seen.txn
        writes = final_writes(seen)
        if seen.txns.kind == HistoryKind.LIST_APPEND:
            writes = writes[seen.rank[writes] == UNSEEN]
        writes = writes[sorting(pack(key[writes], txn[writes]))]
        reads = seen.live(READ)
        reads = reads[seen.source[reads] >= 0]
        source = txn[seen.source[reads]]
        good = seen.committed[source] & (source != txn[reads])
        reads, source = reads[good], source[good]
        if seen.txns.kind == HistoryKind.LIST_APPEND:
            reads, source = reads[:0], source[:0]
        order = sorting(pack(key[reads], source))
        reads, source = reads[order], source[order]
        begins = (
            np.flatnonzero(np.concatenate(([True], key[writes][1:] != key[writes][:-1]))) if len(writes) else writes
        )
        made = []
        for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(writes)], strict=True):
            if end - begin < 2:
                continue
            group = txn[writes[begin:end]]
            low, high = np.searchsorted(key[reads], (key[writes[begin]], key[writes[begin]] + 1))
            place = np.minimum(np.searchsorted(group, source[low:high]), len(group) - 1)
            mine = group[place] == source[low:high]
            made.append(Key(self._number[group], self._number[txn[reads[low:high][mine]]], place[mine]))
        return made

    # Deduction.

    def _deduce(self) -> bool:
        """Add all that follows to the graph; false if it has a forbidden cycle."""
        while True:
            self.deadline.check()
            if not self._close():
                return False
            parts = [self._follows(key) for key in self._large]
            parts.append(self._pairs.follows(self._reaches))
            src = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
            dst = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)])
            kind = np.concatenate([np.zeros(0, np.uint8), *(part[2] for part in parts)])
            if not len(src):
                return True
            self._add(src, dst, kind)

    def _add(self, src: Ints, dst: Ints, kind: NDArray[np.uint8]) -> None:
        """Add edges between transactions by their numbers here."""
        live = np.flatnonzero(self.seen.committed)
        graph = self._graph
        self._graph = Graph(
            graph.txns,
            graph.nodes,
            np.concatenate((graph.src, live[src].astype(np.int32))),
            np.concatenate((graph.dst, live[dst].astype(np.int32))),
            np.concatenate((graph.kind, kind)),
        )

    def _close(self) -> bool:
        """Compute which transaction reaches which; false if one reaches itself."""
        graph = self._graph
        nodes = self._txns + graph.nodes - graph.txns
        here = Graph(
            self._txns,
            nodes,
            self._number[graph.src].astype(np.int32),
            self._number[graph.dst].astype(np.int32),
            graph.kind,
        )
        size, src, dst = split(here) if self.rule == Rule.SI else (nodes, here.src, here.dst)
        labels, looped = cyclic(size, src, dst)
        if looped.any():
            return False
        self._after_rw = nodes if self.rule == Rule.SI else 0
        columns = self._txns * (2 if self.rule == Rule.SI else 1)
        column = np.full(size, -1, np.int64)
        column[: self._txns] = np.arange(self._txns)
        if self.rule == Rule.SI:
            column[nodes : nodes + self._txns] = np.arange(self._txns, columns)
        self._rows = _closure(size, src, dst, labels, column, (columns + 63) // 64, self.deadline)
        return True

    def _reach(self, first: Ints, second: Ints, *, plainly: bool = False, after_rw: bool = False) -> Flags:
        """Whether each of ``first`` reaches each of ``second``; ``plainly``: not by an anti-dependency at last;
        ``after_rw``: nor by one at first, where the rule does not let two of them be neighbours."""
        first = first + self._after_rw if after_rw else first
        reached: Flags = _bits(self._rows[first], second)
        if self.rule == Rule.SI and not plainly:
            reached |= _bits(self._rows[first], second + self._txns)
        return reached

    def _order(self, key: Key) -> tuple[Flags, Flags]:
        """Which writer of the key reaches which, and which came before which for that or for its readers."""
        size = len(key.writers)
        reached = self._reach(key.writers, key.writers)
        np.fill_diagonal(reached, val=False)
        order = reached.copy()
        if len(key.readers):
            begins = np.flatnonzero(np.concatenate(([True], key.owner[1:] != key.owner[:-1])))
            step = max(1, _BLOCK // len(key.readers))
            for low in range(0, size, step):
                writers = key.writers[low : low + step]
                sees = self._reach(writers, key.readers, plainly=True, after_rw=True)
                sees &= writers[:, None] != key.readers[None, :]
                before = np.logical_or.reduceat(sees, begins, axis=1)
                owners = key.owner[begins]
                before &= (np.arange(low, low + len(writers))[:, None]) != owners[None, :]
                order[low : low + step, owners] |= before
        return reached, order

    def _follows(self, key: Key) -> tuple[Ints, Ints, NDArray[np.uint8]]:
        """The edges that the known order of the key's writers asks for and that no path says already."""
        reached, order = self._order(key)
        if (order & order.T).any():
            near = order
        else:
            as_number = order.astype(np.float32)
            near = order & ~(as_number @ as_number > 0)
        # Whom an anti-dependency leads to at last came later too, and that says more than the anti-dependency.
        said = self._reach(key.writers, key.writers, plainly=True) if self.rule == Rule.SI else reached
        first, second = np.nonzero(near & ~said)
        parts = [(key.writers[first], key.writers[second], np.full(len(first), Edge.WW, np.uint8))]
        if len(key.readers):
            first, second = np.nonzero(near)
            begin = np.searchsorted(key.owner, first)
            many = np.searchsorted(key.owner, first, side="right") - begin
            reader = key.readers[np.repeat(begin - (np.cumsum(many) - many), many) + np.arange(int(many.sum()))]
            writer = np.repeat(key.writers[second], many)
            keep = reader != writer
            reader, writer = reader[keep], writer[keep]
            keep = ~self._reaches(reader, writer)
            parts.append((reader[keep], writer[keep], np.full(int(keep.sum()), Edge.RW, np.uint8)))
        src, dst, kind = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return src, dst, kind

    def _reaches(self, first: Ints, second: Ints, *, plainly: bool = False, after_rw: bool = False) -> Flags:
        """Whether each of ``first`` reaches the one of ``second`` in its place."""
        one = np.uint64(1)
        first = first + self._after_rw if after_rw else first
        reached: Flags = (self._rows[first, second >> 6] >> (second & 63).astype(np.uint64) & one).astype(np.bool_)
        if self.rule == Rule.SI and not plainly:
            second = second + self._txns
            reached |= (self._rows[first, second >> 6] >> (second & 63).astype(np.uint64) & one).astype(np.bool_)
        return reached

    # Search.

    def _guess(self) -> tuple[Ints, Graph]:
        """The likeliest order, and its forbidden cycles."""
        graph = self._graph if self.rule == Rule.G2 else self._graph.without(Edge.RW)
        guess = hinted_order if self.seen.txns.kind == HistoryKind.REGISTER else guessed_order
        place = distinct(guess(self.seen, graph))
        return place, forbidden_part(ordered_by(self.seen, place).plus(self.extra), self.rule)

    def _doubt(self) -> tuple[int, int]:
        """Two writers of one key whose order was guessed and is on a forbidden cycle, in that order."""
        live = np.flatnonzero(self.seen.committed)
        on_cycle = np.zeros(self.known.txns, np.bool_)
        ends = np.concatenate((self.part.src, self.part.dst))
        on_cycle[ends[ends < self.known.txns]] = True
        best: tuple[int, int, int] | None = None
        for key in self._keys:
            rank = np.argsort(self.place[live[key.writers]], kind="stable")
            writers = key.writers[rank]
            near = on_cycle[live[writers[1:]]] & ~self._reaches(writers[:-1], writers[1:])
            found = np.flatnonzero(near)
            if len(found):
                gap = self.place[live[writers[found + 1]]] - self.place[live[writers[found]]]
                least = int(np.argmin(gap))
                if best is None or gap[least] < best[0]:
                    best = (int(gap[least]), int(writers[found[least]]), int(writers[found[least] + 1]))
        assert best is not None, "a cycle of sure edges only"
        return best[1], best[2]

    def _decide(self, first: int, second: int) -> None:
        """Put one writer before another of the same keys."""
        src, dst, kind = [first], [second], [int(Edge.WW)]
        for key in self._keys:
            if second not in key.writers:
                continue
            for reader in key.readers[key.writers[key.owner] == first].tolist():
                if reader != second:
                    src.append(reader)
                    dst.append(second)
                    kind.append(int(Edge.RW))
        self._add(np.array(src), np.array(dst), np.array(kind, np.uint8))


def _closure(
    size: int,
    src: NDArray[np.int32],
    dst: NDArray[np.int32],
    labels: Ints,
    column: Ints,
    words: int,
    deadline: Deadline,
) -> _Bits:
    """One row of bits a node: itself and all that it reaches, of those that have a column. There are no cycles."""
    rows = np.zeros((size, words), np.uint64)
    with_column = np.flatnonzero(column >= 0)
    rows[with_column, column[with_column] >> 6] = np.uint64(1) << (column[with_column] & 63).astype(np.uint64)
    order = sorting(src.astype(np.int64))
    after = dst[order]
    begin = np.concatenate(([0], np.cumsum(np.bincount(src, minlength=size)))).tolist()
    for number, node in enumerate(np.argsort(labels, kind="stable").tolist()):
        low, high = begin[node], begin[node + 1]
        if high - low == 1:
            rows[node] |= rows[after[low]]
        elif high > low:
            rows[node] |= np.bitwise_or.reduce(rows[after[low:high]], axis=0)
        if not number & 0x3FF:
            deadline.check()
    return rows


def _bits(rows: _Bits, columns: Ints) -> Flags:
    return (rows[:, columns >> 6] >> (columns & 63).astype(np.uint64) & np.uint64(1)).astype(np.bool_)
