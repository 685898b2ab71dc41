"""What one thing that a shopper asked for is called, how it can end, and what it did to versioned rows."""

from enum import IntEnum
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Process = TypeVar("Process", int, NDArray[np.int64])
"""The number of a process, or many."""


class Outcome(IntEnum):
    """How an op ended. ``due = started + skipped`` and ``started = ok + fail + info``."""

    OK = 0
    """It happened, and the answer is known."""
    FAIL = 1
    """It did not happen and never will."""
    INFO = 2
    """It is unknown whether it happened."""
    SKIPPED = 3
    """It was due, but no session could take it within the late limit: it was never sent."""


def replica_of(process: Process, replicas: int) -> Process:
    """Which of ``replicas`` a process reads from: they are spread evenly, and the history need not say more."""
    return process % replicas


class Stage(IntEnum):
    """How far a transaction had come when it failed: the same code means different things before and at COMMIT."""

    NONE = 0
    CONNECT = 1
    BEGIN = 2
    STATEMENT = 3
    COMMIT = 4


class Touch(NamedTuple):
    """What one transaction did with one versioned row. ``-1`` means "did not"."""

    row: int
    """The row's number: for the sale, ``sku * buckets + bucket``."""
    read: int
    """The version that the transaction read before it wrote, or -1."""
    wrote: int
    """The version that the database says it wrote, or -1."""


class Completion(NamedTuple):
    """One op's end, or one failed try of it: a row of the history.

    Times are nanoseconds on the monotonic clock. ``answer`` is the workload's own code (0: none). ``touched`` is a
    flat tuple of ``row, read, wrote`` triples (see Touch), kept flat because one is made for every op of a run.
    """

    number: int
    kind: int
    process: int
    due: int
    sent: int
    done: int
    outcome: int
    answer: int
    tries: int
    stage: int
    code: str
    touched: tuple[int, ...]
