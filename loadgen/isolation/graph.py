"""A graph of transactions, large and flat, and its strongly connected components.

Nodes 0 to ``txns - 1`` are transactions. The nodes after them are *hubs*. A hub replaces many edges: all nodes that
enter a hub reach all nodes that leave it. An edge that leaves a hub is a CARRY: it continues what the edge into the hub
was.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.isolation.transactions import Edge, Flags, Ints

_SMALL = 20_000
"""Up to so many edges plain Python is sooner done than scipy is imported (0.5 s)."""


class TimeLimitError(Exception):
    """The time given for a check is over: its answer is unknown."""


@dataclass(slots=True)
class Deadline:
    """When to give up, on the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """A deadline ``seconds`` from now."""
        return cls(time.monotonic() + seconds)

    def check(self) -> None:
        """Raise TimeLimitError once the time is over."""
        if time.monotonic() > self.at:
            raise TimeLimitError

    def left_s(self) -> float:
        """The seconds that are left."""
        return max(0.0, self.at - time.monotonic())

    def share(self, part: float, most: float = float("inf")) -> "Deadline":
        """A deadline when ``part`` of the time that is left is over, but after at most ``most`` seconds."""
        now = time.monotonic()
        return Deadline(now + min(most, max(0.0, self.at - now) * part))


@dataclass(slots=True)
class Graph:
    """Edges as columns. ``kind`` holds values of Edge."""

    txns: int
    nodes: int
    src: NDArray[np.int32]
    dst: NDArray[np.int32]
    kind: NDArray[np.uint8]

    @classmethod
    def of(cls, txns: int, parts: Sequence[tuple[Ints, Ints, Edge]], nodes: int = 0) -> "Graph":
        """The graph of all ``parts`` (from, to, why), edges from a node to itself left out."""
        src = np.concatenate([part[0].astype(np.int32) for part in parts]) if parts else np.zeros(0, np.int32)
        dst = np.concatenate([part[1].astype(np.int32) for part in parts]) if parts else np.zeros(0, np.int32)
        kind = np.repeat(
            np.array([part[2] for part in parts], np.uint8), np.array([len(part[0]) for part in parts], np.int64)
        )
        keep = src != dst
        return cls(txns, max(nodes, txns), src[keep], dst[keep], kind[keep])

    def only(self, mask: Flags) -> "Graph":
        """The same nodes with the edges of ``mask``."""
        return Graph(self.txns, self.nodes, self.src[mask], self.dst[mask], self.kind[mask])

    def without(self, *kinds: Edge) -> "Graph":
        """The same nodes without the edges of these kinds."""
        return self.only(~np.isin(self.kind, kinds))

    def plus(self, other: "Graph") -> "Graph":
        """Both graphs' edges; the other's hubs are given numbers after this one's."""
        shift = self.nodes - self.txns
        src = np.where(other.src >= self.txns, other.src + shift, other.src).astype(np.int32)
        dst = np.where(other.dst >= self.txns, other.dst + shift, other.dst).astype(np.int32)
        return Graph(
            self.txns,
            self.nodes + other.nodes - other.txns,
            np.concatenate((self.src, src)),
            np.concatenate((self.dst, dst)),
            np.concatenate((self.kind, other.kind)),
        )


def components(nodes: int, src: NDArray[np.int32], dst: NDArray[np.int32]) -> Ints:
    """The strongly connected component of each node, numbered so that every edge goes from a higher number to a lower.

    Nodes alone in their component have one too.
    """
    if len(src) <= _SMALL:
        used, ends = np.unique(np.concatenate((src, dst)), return_inverse=True)
        few = _tarjan(len(used), ends[: len(src)], ends[len(src) :])
        every = np.arange(nodes) + len(used)
        every[used] = few
        return np.unique(every, return_inverse=True)[1]
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    matrix = csr_matrix((np.ones(len(src), np.int8), (src, dst)), shape=(nodes, nodes))
    labels: Ints = connected_components(matrix, directed=True, connection="strong")[1]
    return labels


def cyclic(nodes: int, src: NDArray[np.int32], dst: NDArray[np.int32]) -> tuple[Ints, Flags]:
    """The component of each node, and which nodes are on a cycle."""
    labels = components(nodes, src, dst)
    return labels, np.bincount(labels, minlength=1)[labels] > 1


def cyclic_part(graph: Graph) -> tuple[Graph, Ints]:
    """The edges of ``graph`` that are on cycles, and the component of each node."""
    labels, looped = cyclic(graph.nodes, graph.src, graph.dst)
    return graph.only(looped[graph.src] & (labels[graph.src] == labels[graph.dst])), labels


def split(graph: Graph) -> tuple[int, NDArray[np.int32], NDArray[np.int32]]:
    """The graph whose cycles are those of ``graph`` in which no two anti-dependencies are neighbours.

    Node v + nodes is "v, reached by an anti-dependency", from where no other may follow (Cerone's
    ``(ww | wr | so) ; rw?``).
    """
    n = graph.nodes
    rw, carry = graph.kind == Edge.RW, graph.kind == Edge.CARRY
    plain = ~rw
    src = np.concatenate((graph.src[plain], graph.src[plain & ~carry] + n, graph.src[carry] + n, graph.src[rw]))
    dst = np.concatenate((graph.dst[plain], graph.dst[plain & ~carry], graph.dst[carry] + n, graph.dst[rw] + n))
    return 2 * n, src.astype(np.int32), dst.astype(np.int32)


def _tarjan(nodes: int, src: Ints, dst: Ints) -> Ints:
    """Tarjan's components without recursion."""
    follow: list[list[int]] = [[] for _ in range(nodes)]
    for a, b in zip(src.tolist(), dst.tolist(), strict=True):
        follow[a].append(b)
    label = [-1] * nodes
    order = [0] * nodes
    low = [0] * nodes
    stack: list[int] = []
    clock = 0
    found = 0
    for root in range(nodes):
        if order[root]:
            continue
        work = [(root, iter(follow[root]))]
        clock += 1
        order[root] = low[root] = clock
        stack.append(root)
        while work:
            node, rest = work[-1]
            for other in rest:
                if not order[other]:
                    clock += 1
                    order[other] = low[other] = clock
                    stack.append(other)
                    work.append((other, iter(follow[other])))
                    break
                if label[other] < 0:
                    low[node] = min(low[node], order[other])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[node])
                if low[node] == order[node]:
                    while True:
                        member = stack.pop()
                        label[member] = found
                        if member == node:
                            break
                    found += 1
    return np.array(label, np.int64)
