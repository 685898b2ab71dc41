"""A simulated database with several sessions, whose isolation is known by construction.

Transactions run on snapshots side by side. At commit a serializable store refuses one whose reads or writes were
overtaken, a snapshot-isolated one only if its writes were; a read-committed one reads the newest state at each step
and refuses none. Connections are lost at commit, so that some outcomes are ``info``: half of those took effect.
"""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from loadgen.formats.build import Builder, Mop
from loadgen.isolation.transactions import NEVER, READ, UNKNOWN, WRITE, HistoryKind, Transactions
from loadgen.op import Outcome

State = dict[int, Any]


class Level(StrEnum):
    """What a store keeps: the strongest model that each of its histories must be found to keep."""

    SERIALIZABLE = "strict-serializable"
    SNAPSHOT = "strong-snapshot-isolation"
    READ_COMMITTED = "read-committed"


@dataclass(slots=True)
class OpenTxn:
    """A transaction that has begun."""

    session: int
    invoked: int
    label: int
    snapshot: State
    mops: list[Mop] = field(default_factory=list)
    own: dict[int, list[int]] = field(default_factory=dict)
    reads: set[int] = field(default_factory=set)


class Store:
    """One simulated run. The history is what clients saw; ``history`` gives it to the judge."""

    def __init__(self, level: Level, kind: HistoryKind, seed: int, *, keys: int = 6, sessions: int = 5) -> None:
        self.level, self.kind, self.keys = level, kind, keys
        self.rng = random.Random(seed)
        self.state: State = {}
        self.changed: dict[int, int] = {}
        self.clock = 0
        self._free = list(range(sessions))
        self._next_session = sessions
        self._label = 0
        self._value = 0
        self._locks: dict[int, int] = {}
        self._rows: list[tuple[OpenTxn, int, Outcome]] = []

    # One transaction, step by step.

    def begin(self, session: int | None = None) -> OpenTxn:
        """Begin a transaction, in ``session`` or in a free one."""
        self.clock += 1
        if session is None:
            if not self._free:
                self._free.append(self._next_session)
                self._next_session += 1
            session = self._free.pop(self.rng.randrange(len(self._free)))
        elif session in self._free:
            self._free.remove(session)
        self._label += 1
        return OpenTxn(session, self.clock, self._label, dict(self.state))

    def read(self, txn: OpenTxn, key: int, view: State | None = None) -> Any:
        """Read ``key``, from ``view`` instead of the store if given."""
        self.clock += 1
        if view is None:
            view = self.state if self.level == Level.READ_COMMITTED else txn.snapshot
        value = self.after(txn, key, view.get(key))
        self.answer(txn, key, value)
        return value

    def answer(self, txn: OpenTxn, key: int, value: Any) -> None:
        """Note that ``txn`` read ``key`` and was answered ``value``."""
        txn.reads.add(key)
        txn.mops.append(
            Mop(READ, key, list(value) if self.kind == HistoryKind.LIST_APPEND and value is not None else value)
        )

    def after(self, txn: OpenTxn, key: int, value: Any) -> Any:
        """What ``value`` of ``key`` is once the transaction's own writes are added."""
        own = txn.own.get(key)
        if self.kind == HistoryKind.LIST_APPEND:
            return (*(value or ()), *(own or ()))
        return own[-1] if own else value

    def write(self, txn: OpenTxn, key: int) -> int:
        """Write a new value to ``key``. The version of a versioned register is known only after commit."""
        self.clock += 1
        self._value += 1
        txn.own.setdefault(key, []).append(self._value)
        txn.mops.append(Mop(WRITE, key, self._value, self.kind == HistoryKind.LIST_APPEND))
        return self._value

    def overtaken(self, txn: OpenTxn) -> bool:
        """Whether the store must refuse to commit ``txn``."""
        if self.level == Level.READ_COMMITTED:
            return False
        judged = set(txn.own) | (txn.reads if self.level == Level.SERIALIZABLE else set())
        return any(self.changed.get(key, 0) >= txn.invoked for key in judged)

    def commit(self, txn: OpenTxn, *, check: bool = True, apply: bool = True, report: Outcome | None = None) -> Outcome:
        """End ``txn``; a bug may skip the ``check``, not ``apply`` it, or ``report`` something else than is true."""
        self.clock += 1
        if check and self.overtaken(txn):
            return self.end(txn, Outcome.FAIL)
        if apply:
            self.apply(txn)
        return self.end(txn, report if report is not None else Outcome.OK)

    def apply(self, txn: OpenTxn, only: set[int] | None = None) -> None:
        """Let the writes of ``txn`` take effect, all or those of some keys ``only``."""
        for key in txn.own:
            if only is None or key in only:
                self.changed[key] = self.clock
                if self.kind == HistoryKind.VERSIONED:
                    self._number(txn, key)
                else:
                    self.state[key] = self.after(txn, key, self.state.get(key))

    def _number(self, txn: OpenTxn, key: int) -> None:
        for place, mop in enumerate(txn.mops):
            if mop.act == WRITE and mop.key == key:
                self.state[key] = (self.state.get(key) or 0) + 1
                txn.mops[place] = mop._replace(value=self.state[key])

    def end(self, txn: OpenTxn, outcome: Outcome) -> Outcome:
        """Note how ``txn`` ended for its client. A session whose connection was lost is never used again."""
        self.clock += 1
        self._locks = {key: owner for key, owner in self._locks.items() if owner != txn.label}
        self._rows.append((txn, NEVER if outcome == Outcome.INFO else self.clock, outcome))
        if outcome != Outcome.INFO:
            self._free.append(txn.session)
        return outcome

    # Whole runs.

    def run(self, count: int, *, lost: float = 0.05) -> None:
        """Run ``count`` random transactions side by side, of which ``lost`` lose their connection at commit."""
        started = 0
        active: list[tuple[OpenTxn, int]] = []
        while started < count or active:
            if started < count and (not active or (len(active) < 4 and self.rng.random() < 0.4)):
                active.append((self.begin(), self.rng.randint(1, 4)))
                started += 1
                continue
            place = self.rng.randrange(len(active))
            txn, left = active[place]
            if left:
                self._step(txn)
                active[place] = (txn, left - 1)
                continue
            active.pop(place)
            self._finish(txn, lost)

    def _step(self, txn: OpenTxn) -> None:
        key = self.rng.randrange(self.keys)
        # Under read committed a write locks its row until the end; who would have to wait reads instead.
        locked = self.level == Level.READ_COMMITTED and self._locks.get(key, txn.label) != txn.label
        if self.rng.random() < 0.5 and not locked:
            self._locks[key] = txn.label
            self.write(txn, key)
        elif not (self.kind == HistoryKind.VERSIONED and key in txn.own):
            self.read(txn, key)

    def _finish(self, txn: OpenTxn, lost: float) -> None:
        if self.rng.random() < 0.03:
            self.end(txn, Outcome.FAIL)
        elif self.rng.random() < lost:
            self.commit(txn, apply=self.rng.random() < 0.5, report=Outcome.INFO)
        else:
            self.commit(txn)

    def final_reads(self) -> None:
        """Two transactions, one after the other, read every key."""
        for _ in range(2):
            txn = self.begin()
            for key in sorted(set(range(self.keys)) | set(self.state)):
                self.read(txn, key)
            self.commit(txn)

    def history(self) -> Transactions:
        """The run as the judge takes it."""
        builder = Builder(self.kind)
        for txn, completed, outcome in sorted(self._rows, key=lambda row: row[0].invoked):
            mops = [mop if self._told(mop, outcome) else mop._replace(value=None) for mop in txn.mops]
            builder.add(txn.session, txn.invoked, completed, outcome, txn.label, mops)
        txns = builder.build()
        if self.kind == HistoryKind.VERSIONED:
            # The builder numbers values by first sight; here the value itself is the version.
            unsure = (txns.outcome != Outcome.OK)[txns.txn_of()]
            for mop in range(len(txns.value)):
                if unsure[mop]:
                    txns.value[mop] = UNKNOWN
                elif txns.value[mop] >= 0:
                    txns.value[mop] = builder.values.name(int(txns.value[mop]))
            txns.value_name = str
        return txns

    def _told(self, mop: Mop, outcome: Outcome) -> bool:
        return mop.act == WRITE or outcome == Outcome.OK
