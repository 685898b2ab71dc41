"""What a Hermitage case is: a script of a few transactions, and what must be seen for its anomaly to have happened."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from loadgen.workload import Statement, Table

ANOMALIES = ("G0", "G1a", "G1b", "G1c", "OTV", "PMP", "P4", "G-single", "G2-item", "G2")
"""Hermitage's columns, by Adya's and Bailis's names."""
TABLE = "test"
INITIAL: Mapping[int, int] = {1: 10, 2: 20}
"""The rows of the table before each case, id to value, as in Hermitage."""
TABLES = (
    Table(
        TABLE,
        f"CREATE TABLE {TABLE} (id INT NOT NULL PRIMARY KEY, value INT NOT NULL)",
        {"id": "int32", "value": "int32"},
        tuple(INITIAL.items()),
    ),
)

BEGIN, COMMIT, ROLLBACK = "BEGIN", "COMMIT", "ROLLBACK"
_LINE = re.compile(r"(?P<session>[1-9]) +(?P<sql>.+?)(?: +-> +(?P<label>[a-z_]+))?")

Rows = Mapping[int, int]
"""What a SELECT answered, or what the table holds: id to value."""


class ReadKind(Enum):
    """How a case reads: by plain reads, by the predicate of a write, or by locking reads (FOR UPDATE)."""

    READ = "read"
    WRITE = "write"
    LOCKING = "for update"


Kind = ReadKind
"""Its name in earlier versions."""


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of one session. ``label`` names what a SELECT answers."""

    session: int
    sql: str
    label: str
    statement: Statement

    @property
    def locks(self) -> bool:
        """Whether the statement takes row locks at every level of every engine."""
        return not self.sql.startswith("SELECT") or self.sql.endswith("FOR UPDATE")


@dataclass(frozen=True, slots=True)
class Seen:
    """What one play of a case showed: the labelled reads, and the table after all transactions had ended."""

    reads: Mapping[str, Rows]
    final: Rows


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One script. ``shows`` is asked only if every transaction whose script ends in COMMIT was committed."""

    name: str
    anomaly: str
    kind: ReadKind
    title: str
    steps: tuple[Step, ...]
    shows: Callable[[Seen], bool]

    @property
    def sessions(self) -> tuple[int, ...]:
        """The sessions, in order."""
        return tuple(sorted({step.session for step in self.steps}))

    @property
    def begin_themselves(self) -> frozenset[int]:
        """The sessions whose script has a BEGIN of its own; the others begin before the first step."""
        return frozenset(step.session for step in self.steps if step.sql == BEGIN)

    @property
    def committing(self) -> frozenset[int]:
        """The sessions that are to commit."""
        return frozenset(step.session for step in self.steps if step.sql == COMMIT)


def case(name: str, kind: ReadKind, title: str, script: str, shows: Callable[[Seen], bool]) -> Case:
    """The case in ``script``: each line has a session's number, a statement, and ``-> label`` if it reads.

    ``name`` is the anomaly's, and for a variant what is special about it: ``G2 two edges``.
    """
    return Case(name, name.split()[0], kind, title, tuple(map(_step, script.strip().splitlines())), shows)


def _step(line: str) -> Step:
    match = _LINE.fullmatch(line.strip())
    assert match is not None, f"not a step: {line!r}"
    sql = match["sql"]
    return Step(int(match["session"]), sql, match["label"] or "", Statement(sql))
