"""The count of two-transaction cycles against trying every pair."""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loadgen.isolation.check import judge
from loadgen.isolation.graph import Graph
from loadgen.isolation.pairs import count_pairs
from loadgen.isolation.transactions import Edge
from loadgen.op import Outcome
from tests.checks.oracle import Txn, to_transactions

NODES = 5
EDGES = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1), st.sampled_from(Edge)), max_size=30)
SKEWS = 30


def _tried(edges: list[tuple[int, int, Edge]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for pair in combinations(range(NODES), 2):
        kinds = [
            [kind for src, dst, kind in edges if (src, dst) == way and kind <= Edge.RW] for way in (pair, pair[::-1])
        ]
        if not all(kinds):
            continue
        gravest = sorted(map(min, kinds))
        anti = gravest.count(Edge.RW)
        name = ("G1c" if Edge.WR in gravest else "G0", "G-single", "G2-item")[anti]
        counts[name] = counts.get(name, 0) + 1
    return counts


@given(edges=EDGES)
def test_pairs_are_those_found_by_trying_all(edges: list[tuple[int, int, Edge]]) -> None:
    """Session and real-time edges count for nothing, and a pair once, by its gravest cycle."""
    parts = [(np.array([src]), np.array([dst]), kind) for src, dst, kind in edges]

    assert count_pairs(Graph.of(NODES, parts)) == _tried(edges)


def test_every_write_skew_of_a_history_is_counted() -> None:
    """More of them than the judge keeps witnesses for."""
    history = []
    for skew in range(SKEWS):
        x, y = f"x{skew}", f"y{skew}"
        history += [
            Txn(2 * skew, 0, 9, Outcome.OK, (("r", x, ()), ("append", y, 1))),
            Txn(2 * skew + 1, 0, 9, Outcome.OK, (("r", y, ()), ("append", x, 1))),
            Txn(10_000 + skew, 10, 11, Outcome.OK, (("r", x, (1,)), ("r", y, (1,)))),
        ]

    judgement = judge(to_transactions(history, lists=True), ["serializable"])

    assert judgement.anomalies.count == {"G2-item": SKEWS}
