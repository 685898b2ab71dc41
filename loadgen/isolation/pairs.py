"""How many cycles of two transactions a graph has, by name: all of them, where the search for witnesses stops early."""

import numpy as np

from loadgen.isolation.graph import Graph
from loadgen.isolation.observed import pack
from loadgen.isolation.transactions import Edge

_NAMES = ("G0", "G1c", "G-single", "G2-item")


def count_pairs(part: Graph) -> dict[str, int]:
    """The pairs of transactions in ``part`` that each come before the other, each pair counted once.

    A pair is named by the gravest cycle between the two: an edge ww counts before wr, and wr before rw. Only what
    the data show is counted, neither session nor real-time order.
    """
    direct = (part.src < part.txns) & (part.dst < part.txns) & np.isin(part.kind, (Edge.WW, Edge.WR, Edge.RW))
    src, dst, kind = part.src[direct], part.dst[direct], part.kind[direct]
    if not len(src):
        return {}
    order = np.argsort(kind, kind="stable")
    low, high = np.minimum(src, dst)[order].astype(np.int64), np.maximum(src, dst)[order].astype(np.int64)
    upwards, kind = (src < dst)[order], kind[order]
    pair = pack(low, high)
    # The first of each pair and direction is its gravest edge.
    up, first_up = np.unique(pair[upwards], return_index=True)
    down, first_down = np.unique(pair[~upwards], return_index=True)
    _, there, back = np.intersect1d(up, down, assume_unique=True, return_indices=True)
    one, two = kind[upwards][first_up[there]], kind[~upwards][first_down[back]]
    anti = (one == Edge.RW).astype(np.int64) + (two == Edge.RW)
    grade = np.where(anti > 0, anti + 1, ((one == Edge.WR) | (two == Edge.WR)).astype(np.int64))
    counts = np.bincount(grade, minlength=len(_NAMES)).tolist()
    return {name: count for name, count in zip(_NAMES, counts, strict=True) if count}
