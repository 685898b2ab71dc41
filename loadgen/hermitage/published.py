"""What is published about the levels, what the engines document, and why the levels are as they are.

The table is Hermitage's (github.com/ept/hermitage, README.md, and tidb.md for TiDB), with the versions that it was
made with. Nobody has published one for OceanBase.
"""

from collections.abc import Mapping

from loadgen.hermitage.case import ANOMALIES

PREVENTED, POSSIBLE, READ_ONLY, UNKNOWN = "✓", "—", "R/O", "?"
"""The marks of a cell. READ_ONLY: prevented where one only reads, not where the predicate is a write's."""
NOT_TESTED = "·"

PUBLISHED_VERSIONS: Mapping[str, str] = {"postgres": "9.3.5", "mysql": "5.6.21", "tidb": "7.5.0"}
"""The version of each engine that the published table was made with."""
_TABLE: Mapping[tuple[str, str], str] = {
    ("postgres", "read committed"): "✓ ✓ ✓ ✓ ✓ — — — — —",
    ("postgres", "repeatable read"): "✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ — —",
    ("postgres", "serializable"): "✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓",
    ("mysql", "read uncommitted"): "✓ — — — — — — — — —",
    ("mysql", "read committed"): "✓ ✓ ✓ ✓ ✓ — — — — —",
    ("mysql", "repeatable read"): "✓ ✓ ✓ ✓ ✓ R/O — R/O — —",
    ("mysql", "serializable"): "✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓",
    ("tidb", "read committed"): "· ✓ ✓ ✓ ✓ — · — · ·",
    ("tidb", "repeatable read"): "· · · · · R/O — R/O — —",
}
PUBLISHED: Mapping[tuple[str, str], Mapping[str, str]] = {
    place: dict(zip(ANOMALIES, marks.split(), strict=True)) for place, marks in _TABLE.items()
}
"""``(engine, level)`` -> anomaly -> mark."""

_UP_TO = {name: frozenset(ANOMALIES[: index + 1]) for index, name in enumerate(ANOMALIES)}
FORBIDDEN: Mapping[str, frozenset[str]] = {
    "read-uncommitted": _UP_TO["G0"],
    "read-committed": _UP_TO["G1c"],
    "monotonic-atomic-view": _UP_TO["OTV"],
    "snapshot-isolation": _UP_TO["G-single"],
    "serializable": _UP_TO["G2"],
}
"""What each model forbids. An engine that shows one of these breaks what it documents for its level."""

NOTES: Mapping[str, tuple[str, ...]] = {
    "postgres": (
        "read committed takes a new snapshot for each statement, and an UPDATE or DELETE that had to wait looks again "
        "only at the rows that its old snapshot had found: so the DELETE of PMP leaves a row that now matches.",
        "repeatable read is snapshot isolation: the second writer of a row gets 40001. It knows no read-write "
        "conflicts, so write skew (G2-item, G2) commits, and FOR UPDATE locks only rows that exist.",
        "serializable adds the detection of dangerous read-write dependencies (SSI): one of the writers gets 40001.",
    ),
    "mysql": (
        "read uncommitted reads rows in place, committed or not; writes lock them all the same, so no G0.",
        "repeatable read: plain reads see the snapshot of the first one, while UPDATE, DELETE and FOR UPDATE see and "
        "lock the latest commit. Hence P4, and PMP and G-single are prevented for those who only read (R/O). "
        "Next-key locks keep rows out of what FOR UPDATE has searched, so G2 is prevented there, and not on the "
        "engines without gap locks.",
        "serializable turns plain reads into shared next-key locks: one of two transactions waits or is chosen as a "
        "deadlock's victim (1213).",
    ),
    "tidb": (
        "repeatable read is documented as snapshot isolation under MySQL's name. In a pessimistic transaction, the "
        "default and what was published, writes and FOR UPDATE read the latest commit, as in MySQL: hence P4, and R/O "
        "for PMP and G-single.",
        "In an optimistic transaction they read the snapshot and wait for nobody; COMMIT is refused (9007) if a row "
        "that it wrote, or read with FOR UPDATE, was written since. Write skew (G2-item, G2) commits.",
        "It has no gap locks: FOR UPDATE keeps no new row out of a predicate (PMP and G2 with FOR UPDATE, where MySQL "
        "at repeatable read prevents them).",
        "read uncommitted and serializable are refused (8048).",
    ),
    "oceanbase": (
        "repeatable read and serializable are one implementation, documented as snapshot isolation: the second writer "
        "of a row that it read gets 6235, and write skew (G2-item, G2) commits at SERIALIZABLE too.",
        "The snapshot is that of the first statement. Seen here, and not in the documentation: a first statement that "
        "had to wait for a lock runs again on a newer snapshot, so two blind writers, or two readers with FOR UPDATE, "
        "both commit where PostgreSQL gives 40001.",
        "It has no gap locks: FOR UPDATE keeps no new row out of a predicate.",
        "read uncommitted is taken silently and runs as read committed, so it is not among the levels.",
    ),
}
"""Why the cells are as they are, by each engine's documentation unless it says otherwise."""
