"""A history of transactions as flat columns: one row a transaction, one row a micro-operation.

Every reader (loadgen's streams, Elle's operation maps, plain text, versioned rows) produces it, and every isolation
check reads it. Rows of transactions are in session order: of two transactions of one session the earlier row was
started first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

READ, WRITE = 0, 1
"""What a micro-operation does; WRITE is an append where the kind is LIST_APPEND."""

INITIAL = -1
"""The value of a read that found nothing: the state before every write. A list read of this value has length 0."""
UNKNOWN = -2
"""A read with an unknown answer, or a write with an unknown version."""

NEVER = int(np.iinfo(np.int64).max)
"""``completed`` of a transaction without a completion."""
ALWAYS = int(np.iinfo(np.int64).min)
"""``invoked`` of a transaction whose start was not recorded."""


class HistoryKind(StrEnum):
    """What the values of a history say about the order of versions."""

    LIST_APPEND = "list-append"
    """A read returns the whole list: its elements in the order in which they were appended."""
    REGISTER = "rw-register"
    """Values are unique and say nothing about order."""
    VERSIONED = "versioned-register"
    """The value *is* the version, a number that the database raises with every write of the key."""


Kind = HistoryKind
"""Its name in earlier versions."""


@dataclass(slots=True)
class Transactions:
    """All transactions of one history.

    Micro-operations of transaction t are rows ``start[t]`` to ``start[t + 1]``, in the order in which it ran them.
    ``value`` of a write is what it wrote; of a read what it saw (INITIAL: nothing; UNKNOWN: not recorded). A list
    read keeps no list: it saw the first ``length`` elements of its key's list, ``elements[element_start[k]:...]``,
    unless it is in ``odd``, which then holds all that it saw.
    """

    kind: HistoryKind
    session: Ints
    """The session (Elle: process) of each transaction, or -1: no order is known to its session."""
    invoked: Ints
    completed: Ints
    outcome: NDArray[np.uint8]
    label: Ints
    """The number by which a witness calls each transaction."""
    start: Ints
    act: NDArray[np.uint8]
    key: Ints
    """Keys are 0 to ``keys - 1``; ``key_name`` gives the history's own names back."""
    value: Ints
    length: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    keys: int = 0
    element_start: Ints = field(default_factory=lambda: np.zeros(1, np.int64))
    elements: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    odd: Mapping[int, Sequence[int]] = field(default_factory=dict)
    key_name: Callable[[int], str] = str
    value_name: Callable[[int], str] = str
    session_name: Callable[[int], str] = str
    export_key: Callable[[int], Any] = int
    export_value: Callable[[int], Any] = int
    timed: bool = True
    """Whether ``invoked`` and ``completed`` are of one clock, so that real-time order may be judged."""
    unclocked: str = ""
    """Why not the whole of real-time order is known, so that no model which has it can be proved, or empty."""
    unsessioned: str = ""
    """Why not all sessions are known, so that no model which has their order can be proved, or empty."""
    gaps: bool = False
    """Whether transactions with an unknown outcome may be missing. A version without a writer then proves nothing."""
    unfit: str = ""
    """Why this history cannot be judged (a broken precondition, with its example), or empty."""
    warnings: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many transactions there are, with any outcome."""
        return len(self.outcome)

    def txn_of(self) -> Ints:
        """The transaction of each micro-operation."""
        return np.repeat(np.arange(self.count), np.diff(self.start))

    def list_read(self, mop: int) -> list[int]:
        """The elements that a list read saw."""
        if mop in self.odd:
            return list(self.odd[mop])
        first = int(self.element_start[self.key[mop]])
        return [int(element) for element in self.elements[first : first + int(self.length[mop])]]


class Edge(IntEnum):
    """Why one transaction comes before another."""

    WW = 0
    """The second wrote the version after the first's."""
    WR = 1
    """The second read what the first wrote."""
    RW = 2
    """The second overwrote what the first read: an anti-dependency."""
    PROCESS = 3
    """The first came before the second in one session."""
    REALTIME = 4
    """The first was acknowledged before the second was sent."""
    CARRY = 5
    """From a hub: an edge that another began (see graph.Graph)."""
