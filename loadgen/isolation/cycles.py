"""Cycles: whether there are any, by components of the whole graph, and the smallest of each sort, by search inside.

A cycle is named by its edges, as Adya and Elle do: G0 (ww only), G1c (ww and wr), G-single (one rw), G-nonadjacent
(two rw or more, no two of them neighbours), G2-item (two rw or more, two of them neighbours); with ``-process`` if it
needs session order, with ``-realtime`` if it needs real time.
"""

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from loadgen.isolation.anomaly import Anomalies
from loadgen.isolation.graph import Deadline, Graph, TimeLimitError, cyclic, cyclic_part, split
from loadgen.isolation.models import Order, Rule
from loadgen.isolation.observed import Observed
from loadgen.isolation.pairs import count_pairs
from loadgen.isolation.transactions import Edge, Ints
from loadgen.isolation.words import edge_words, txn_words

_COMPONENTS = 20
"""How many components are searched for witnesses, the smallest first; all of them count for the verdict."""

_LARGE = 100_000
"""A component of more edges is searched in a part of it."""

_TRIED = 3
"""Of a huge component, from how many of the shortest and of the longest edges that go back a way is looked for."""

Step = tuple[int, int, int]
"""One edge of a cycle: from, to, why."""


@dataclass(frozen=True, slots=True)
class _Sort:
    """One sort of cycle: what its edges may be, and how many anti-dependencies it has."""

    name: str
    rule: Rule
    allowed: frozenset[int]
    begins: frozenset[int]
    """Every cycle of this sort has an edge of one of these kinds: the search starts from it."""
    fewest: int
    most: int
    """How many rw edges; 2 means two or more."""
    adjacent: bool
    """Whether two neighbouring rw edges are allowed, and then needed."""


def _sorts(order: Order) -> Iterator[_Sort]:
    extra = {Order.NONE: (), Order.SESSION: (Edge.PROCESS,), Order.REALTIME: (Edge.PROCESS, Edge.REALTIME)}[order]
    needs = {Order.NONE: None, Order.SESSION: Edge.PROCESS, Order.REALTIME: Edge.REALTIME}[order]
    suffix = f"-{order}" if order else ""
    shapes = (
        ("G0", Rule.G0, False, Edge.WW, 0, 0, False),
        ("G1c", Rule.G1, True, Edge.WR, 0, 0, False),
        ("G-single", Rule.SI, True, Edge.RW, 1, 1, False),
        ("G-nonadjacent", Rule.SI, True, Edge.RW, 2, 2, False),
        ("G2-item", Rule.G2, True, Edge.RW, 2, 2, True),
    )
    for name, rule, reads, begin, fewest, most, adjacent in shapes:
        allowed = {Edge.WW, *extra} | ({Edge.WR} if reads else set()) | ({Edge.RW} if most else set())
        begins = {begin} if needs is None else {needs}
        yield _Sort(name + suffix, rule, frozenset(allowed), frozenset(begins), fewest, most, adjacent)


_COVERS = {
    Rule.G0: (Rule.G0,),
    Rule.G1: (Rule.G0, Rule.G1),
    Rule.SI: (Rule.G0, Rule.G1, Rule.SI),
    Rule.G2: (Rule.G0, Rule.G1, Rule.SI, Rule.G2),
}
_ORDERS = (Order.NONE, Order.SESSION, Order.REALTIME)


def cycle_names(rule: Rule, order: Order) -> set[str]:
    """The names of the cycles that a model of this rule and order forbids."""
    orders = _ORDERS[: _ORDERS.index(order) + 1]
    return {sort.name for each in orders for sort in _sorts(each) if sort.rule in _COVERS.get(rule, ())}


def forbidden_part(graph: Graph, rule: Rule) -> Graph:
    """The edges of ``graph`` on the cycles that ``rule`` forbids; none if it forbids none of its cycles."""
    if rule == Rule.G0:
        # A CARRY behind a rw edge leads from a hub that nothing but rw enters, so it closes no cycle by itself.
        return cyclic_part(graph.without(Edge.WR, Edge.RW))[0]
    if rule == Rule.G1:
        return cyclic_part(graph.without(Edge.RW))[0]
    part, _ = cyclic_part(graph)
    if rule == Rule.G2 or not len(part.src):
        return part
    nodes, src, dst = split(part)
    labels, looped = cyclic(nodes, src, dst)
    on_cycle = looped[src] & (labels[src] == labels[dst])
    touched = np.zeros(part.nodes, np.bool_)
    touched[np.concatenate((src[on_cycle], dst[on_cycle])) % part.nodes] = True
    return part.only(touched[part.src] & touched[part.dst])


def name_cycles(seen: Observed, part: Graph, rule: Rule, order: Order, deadline: Deadline) -> Anomalies:
    """The smallest cycles of each sort that ``rule`` and ``order`` forbid in ``part``, the cyclic edges of a graph.

    Counted are all cycles of two transactions, or if they are more, the components in which one was found. Once the
    time is over, what was not found is not named; the caller knows from ``part`` that a cycle exists.
    """
    found = Anomalies()
    orders = _ORDERS[: _ORDERS.index(order) + 1]
    wanted = [sort for each in orders for sort in _sorts(each) if sort.rule in _COVERS[rule]]
    for place, sort in enumerate(wanted):
        mine = deadline.share(1 / (len(wanted) - place))
        allowed = [*sort.allowed, Edge.CARRY]
        narrow, labels = cyclic_part(part.only(np.isin(part.kind, allowed)))
        narrow = _proper(narrow, sort)
        with contextlib.suppress(TimeLimitError):
            for local in _locals(narrow, labels):
                cycle = _smallest(local, sort, mine)
                if cycle:
                    found.add(sort.name, cycle_words(seen, cycle))
    for name, pairs in count_pairs(part).items():
        if name in found.count:
            found.count[name] = max(found.count[name], pairs)
    return found


def _proper(part: Graph, sort: _Sort) -> Graph:
    """``part`` without the components that hold no edge from which a cycle of this sort begins."""
    if not len(part.src):
        return part
    labels, _ = cyclic(part.nodes, part.src, part.dst)
    good = np.zeros(int(labels.max()) + 1, np.bool_)
    good[labels[part.src[np.isin(part.kind, list(sort.begins))]]] = True
    return part.only(good[labels[part.src]])


def _locals(part: Graph, labels: Ints) -> Iterator["_Local"]:
    """The components of ``part``, the smallest first, and of the large ones not all."""
    if not len(part.src):
        return
    label = labels[part.src]
    order = np.argsort(label, kind="stable")
    cuts = np.flatnonzero(np.diff(label[order])) + 1
    groups = sorted(np.split(order, cuts), key=len)
    for group in groups[:_COMPONENTS]:
        inside = np.zeros(len(part.src), np.bool_)
        inside[group] = True
        yield _Local(_window(part.only(inside)))


def _window(part: Graph) -> Graph:
    """A part of a huge component that still has cycles, small enough to be searched.

    Of the edges that go back in time the shortest and the longest are taken, and of each the shortest ways back to
    where it began: by any edges, without anti-dependencies, and without two of them in a row.
    """
    if len(part.src) <= _LARGE:
        return part
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import breadth_first_order

    plain = np.flatnonzero((part.src < part.txns) & (part.dst < part.src))
    span = part.src[plain] - part.dst[plain]
    plain = plain[np.argsort(span, kind="stable")]
    nodes: set[int] = set()
    ways = [(part.nodes, part.src, part.dst), split(part)]
    direct = part.without(Edge.RW)
    ways.append((part.nodes, direct.src, direct.dst))
    for size, src, dst in ways:
        matrix = csr_matrix((np.ones(len(src), np.int8), (src, dst)), shape=(size, size))
        for edge in np.unique(np.concatenate((plain[:_TRIED], plain[-_TRIED:]))).tolist():
            first, last = int(part.dst[edge]), int(part.src[edge])
            before = breadth_first_order(matrix, first, directed=True, return_predecessors=True)[1]
            while last != first and last >= 0:
                nodes.add(last % part.nodes)
                last = int(before[last])
            nodes.add(first)
    inside = np.zeros(part.nodes, np.bool_)
    inside[list(nodes)] = True
    smaller = cyclic_part(part.only(inside[part.src] & inside[part.dst]))[0]
    return smaller if len(smaller.src) else part


class _Local:
    """One component as adjacency lists."""

    def __init__(self, part: Graph) -> None:
        self.txns = part.txns
        self.follow: dict[int, list[tuple[int, int]]] = {}
        for a, b, why in zip(part.src.tolist(), part.dst.tolist(), part.kind.tolist(), strict=True):
            self.follow.setdefault(a, []).append((b, why))

    def turns(self) -> dict[int, float]:
        """An order of the nodes in which few edges go back, and none that leaves a hub.

        Transactions are ordered by number; a hub comes just before the first of those that it leads to.
        """
        turn: dict[int, float] = {node: float(node) for node in self.follow}
        hubs = sorted(node for node in self.follow if node >= self.txns)
        changed = bool(hubs)
        while changed:
            # Chains of hubs run upwards or downwards in their numbers: one pass each way settles both.
            changed = False
            for hub in (*reversed(hubs), *hubs):
                low = min(turn[other] - (0.5 if other < self.txns else 1e-6) for other, _ in self.follow[hub])
                if low < turn[hub]:
                    turn[hub] = low
                    changed = True
        return turn


def _smallest(local: _Local, sort: _Sort, deadline: Deadline) -> list[Step]:
    """The shortest cycle of this sort in ``local``, or what was found of it when the time was over.

    In any order of the nodes, every cycle has an edge that goes back. So it is enough to search from each edge that
    goes back. In the order in which transactions began these are few.
    """
    best: list[Step] = []
    follow = {node: list(edges) for node, edges in local.follow.items()}
    turn = local.turns()
    back = [(node, edge) for node, edges in follow.items() for edge in edges if turn[node] >= turn[edge[0]]]
    entering: dict[int, int] = {}
    for edges in follow.values():
        for other, _ in edges:
            entering[other] = entering.get(other, 0) + 1
    # Those that go back least first: they close the smallest cycles.
    back.sort(key=lambda each: turn[each[0]] - turn[each[1][0]])
    try:
        for node, edge in back:
            if edge not in follow.get(node, ()):
                continue
            deadline.check()
            if edge[1] in sort.allowed:
                cycle = _shortest_from(follow, local.txns, node, edge, sort, len(best) or 1 << 30, deadline)
                best = cycle or best
                if len(best) == 2:
                    return best
            _forget(follow, entering, node, edge)
    except TimeLimitError:
        if not best:
            raise
    return best


def _forget(
    follow: dict[int, list[tuple[int, int]]], entering: dict[int, int], start: int, edge: tuple[int, int]
) -> None:
    """Take out an edge, for every cycle through it was looked at, and the nodes that nothing enters any more."""
    follow[start].remove(edge)
    doomed = [edge[0]]
    while doomed:
        node = doomed.pop()
        entering[node] -= 1
        if not entering[node]:
            doomed += [other for other, _ in follow.pop(node, ())]


_State = tuple[int, int, bool, bool, bool]
"""A place in a search: node, rw edges so far (2: two or more), whether the last was one, whether two met, and whether
an edge that the sort needs was passed."""


def _shortest_from(
    follow: dict[int, list[tuple[int, int]]],
    txns: int,
    start: int,
    edge: tuple[int, int],
    sort: _Sort,
    limit: int,
    deadline: Deadline,
) -> list[Step]:
    """The shortest cycle of ``sort`` shorter than ``limit`` through the edge from ``start``, or none.

    Breadth first over nodes and what the name depends on; a hub is passed at no cost.
    """
    other, why = edge
    rw = why == Edge.RW
    first: _State = (other, int(rw), rw, False, why in sort.begins)
    parent: dict[_State, tuple[_State | None, int]] = {first: (None, why)}
    queue: deque[tuple[_State, int]] = deque([(first, 1)])
    while queue:
        state, cost = queue.popleft()
        node = state[0]
        if cost >= limit:
            continue
        if not len(parent) & 0x3FF:
            deadline.check()
        for after, kind in follow.get(node, ()):
            new = _stepped(state, after, kind, sort)
            if new is None or new in parent:
                continue
            parent[new] = (state, kind)
            if after == start:
                cycle = _closed(parent, new, start, txns, rw, sort)
                if cycle and len(cycle) < limit:
                    return cycle
                continue
            if node >= txns:
                queue.appendleft((new, cost))
            else:
                queue.append((new, cost + 1))
    return []


def _stepped(state: _State, after: int, kind: int, sort: _Sort) -> _State | None:
    """The state behind an edge to ``after``, or None where the sort forbids to pass it."""
    _, count, last, met, has = state
    if kind == Edge.CARRY:
        return after, count, last, met, has
    if kind != Edge.RW:
        return after, count, False, met, has or kind in sort.begins
    if (count + 1 > sort.most and sort.most < 2) or (last and not sort.adjacent):
        return None
    return after, min(2, count + 1), True, met or last, has or kind in sort.begins


def _closed(
    parent: dict[_State, tuple[_State | None, int]], end: _State, start: int, txns: int, rw: bool, sort: _Sort
) -> list[Step]:
    """The cycle that ended at ``end``, if it is of the sort: hubs left out, no transaction twice."""
    _, count, last, met, has = end
    met = met or (last and rw)
    if not has or count < sort.fewest or met != sort.adjacent:
        return []
    chain: list[tuple[int, int]] = []
    state: _State | None = end
    while state is not None:
        before, kind = parent[state]
        chain.append((state[0], kind))
        state = before
    chain.reverse()
    steps: list[Step] = []
    here, why = start, Edge.CARRY.value
    for node, kind in chain:
        why = kind if kind != Edge.CARRY else why
        if node < txns:
            steps.append((here, node, why))
            here = node
    visited = [step[0] for step in steps]
    return _joined(steps) if len(set(visited)) == len(visited) else []


def _joined(steps: list[Step]) -> list[Step]:
    """Session order and real-time order are transitive: two such steps in a row are one."""
    joined: list[Step] = []
    for step in steps:
        if joined and step[2] == joined[-1][2] and step[2] in (Edge.PROCESS, Edge.REALTIME):
            joined[-1] = (joined[-1][0], step[1], step[2])
        else:
            joined.append(step)
    return joined


def cycle_words(seen: Observed, cycle: list[Step]) -> str:
    """A cycle as a witness: what each transaction did, and why each comes before the next."""
    who = "; ".join(txn_words(seen, step[0]) for step in cycle[:8])
    more = f"; and {len(cycle) - 8} more" if len(cycle) > 8 else ""
    why = [f"{Edge(kind).name.lower()}: {edge_words(seen, first, second, kind)}" for first, second, kind in cycle[:8]]
    rest = f"; {len(cycle) - 8} more edges lead back to T{seen.txns.label[cycle[0][0]]}" if len(cycle) > 8 else ""
    path = " -> ".join(f"T{seen.txns.label[step[0]]}" for step in cycle[:8])
    dots = " -> …" if len(cycle) > 8 else ""
    back = f"T{seen.txns.label[cycle[0][0]]}, {len(cycle)} transactions"
    return f"{path}{dots} -> {back}. {'; '.join(why)}{rest}. {who}{more}"


def smallest_cycle(part: Graph, deadline: Deadline) -> list[Step]:
    """A short cycle through a ww edge of ``part``, with any other edges; empty if none was found in the time."""
    kinds = frozenset(int(kind) for kind in Edge if kind not in (Edge.RW, Edge.CARRY))
    sort = _Sort("", Rule.G2, kinds, frozenset({int(Edge.WW)}), 0, 0, False)
    labels, _ = cyclic(part.nodes, part.src, part.dst)
    for local in _locals(part, labels):
        with contextlib.suppress(TimeLimitError):
            cycle = _smallest(local, sort, deadline)
            if cycle:
                return cycle
    return []


def shortest_path(graph: Graph, first: int, last: int) -> list[Step]:
    """A shortest path from ``first`` to ``last`` in a graph without hubs; empty if there is none."""
    order = np.argsort(graph.dst, kind="stable")
    dst = graph.dst[order]
    onward: dict[int, tuple[int, int]] = {last: (last, -1)}
    edge_of = [last]
    while edge_of and first not in onward:
        frontier: list[int] = []
        for node in edge_of:
            low, high = np.searchsorted(dst, (node, node + 1))
            for place in order[low:high]:
                before = int(graph.src[place])
                if before not in onward:
                    onward[before] = (node, int(graph.kind[place]))
                    frontier.append(before)
        edge_of = frontier
    steps: list[Step] = []
    while first in onward and first != last:
        after, kind = onward[first]
        steps.append((first, after, kind))
        first = after
    return steps
