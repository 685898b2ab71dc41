"""What one play of a case says: a verdict, and a transcript of what was sent, what waited and what was answered."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from loadgen.engines.engine import Failure
from loadgen.hermitage.case import Case, Rows


class Verdict(Enum):
    """What a play of a case says."""

    PREVENTED = "prevented"
    HAPPENED = "happened"
    UNKNOWN = "unknown"


class What(Enum):
    """The state of a step at one moment."""

    ANSWERED = "answered"
    WAITS = "waits"
    KEPT = "kept"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a transcript. ``waits_for`` is empty where the server does not say for whom."""

    session: int
    sql: str
    what: What
    rows: Rows | None = None
    row_count: int = 0
    waited: bool = False
    waits_for: tuple[int, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Play:
    """One play of a case: what it says, what was seen, how each session ended, and its transcript."""

    case: Case
    verdict: Verdict
    ended: Mapping[int, str]
    """Each session's end: ``committed``, ``rolled back``, or the code of the error that ended it."""
    final: Rows
    events: tuple[Event, ...]
