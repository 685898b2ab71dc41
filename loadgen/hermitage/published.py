"""What is published about the levels, what the engines document, and why the levels are as they are.

The table is Hermitage's (github.com/ept/hermitage, README.md, and tidb.md for TiDB), with the versions that it was
made with: each database's file holds its own part (loadgen/databases).
"""

from collections.abc import Mapping

from loadgen.databases import DATABASES
from loadgen.hermitage.case import ANOMALIES

PREVENTED, POSSIBLE, READ_ONLY, UNKNOWN = "✓", "—", "R/O", "?"
"""The marks of a cell. READ_ONLY: prevented where one only reads, not where the predicate is a write's."""
NOT_TESTED = "·"

_TESTED = {name: database.published for name, database in DATABASES.items() if database.published is not None}
PUBLISHED_VERSIONS: Mapping[str, str] = {name: published.version for name, published in _TESTED.items()}
"""The version of each engine that the published table was made with."""
PUBLISHED: Mapping[tuple[str, str], Mapping[str, str]] = {
    (name, level): dict(zip(ANOMALIES, marks.split(), strict=True))
    for name, published in _TESTED.items()
    for level, marks in published.marks.items()
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

NOTES: Mapping[str, tuple[str, ...]] = {name: database.notes for name, database in DATABASES.items()}
"""Why the cells are as they are, by each engine's documentation unless it says otherwise."""
