"""Transactions from single ones: names become numbers, lists become prefixes, and what does not fit is said."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from loadgen.formats.edn import freeze
from loadgen.isolation.transactions import INITIAL, READ, UNKNOWN, WRITE, HistoryKind, Transactions
from loadgen.op import Outcome


class Mop(NamedTuple):
    """One micro-operation as in a file: ``act`` is READ or WRITE, ``value`` may be a list, a scalar or None."""

    act: int
    key: Any
    value: Any
    append: bool = False


@dataclass(slots=True)
class Names:
    """Numbers for names of any type, given in the order in which they are first seen."""

    of: dict[Any, int] = field(default_factory=dict)
    names: list[Any] = field(default_factory=list)

    def number(self, name: Any) -> int:
        """The number of ``name``; 1, 1.0, true and "1" are four names."""
        frozen = name if type(name) is int else freeze(name)
        found = self.of.get(frozen)
        if found is None:
            found = self.of[frozen] = len(self.names)
            self.names.append(name)
        return found

    def text(self, number: int) -> str:
        """The name of a number, short enough for a sentence."""
        name = self.names[number]
        told = name if isinstance(name, str) and type(name) is str else repr(name)
        return told if len(told) <= 40 else told[:39] + "…"

    def name(self, number: int) -> Any:
        """The name itself."""
        return self.names[number]


@dataclass(slots=True)
class Builder:
    """Collects transactions in session order."""

    kind: HistoryKind
    unfit: str = ""
    timed: bool = True
    unclocked: str = ""
    unsessioned: str = ""
    session_name: Callable[[int], str] = str
    keys: Names = field(default_factory=Names)
    values: Names = field(default_factory=Names)
    warnings: list[str] = field(default_factory=list)
    _rows: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    _start: list[int] = field(default_factory=lambda: [0])
    _act: list[int] = field(default_factory=list)
    _key: list[int] = field(default_factory=list)
    _value: list[int] = field(default_factory=list)
    _length: list[int] = field(default_factory=list)
    _odd: dict[int, list[int]] = field(default_factory=dict)
    _known: dict[int, list[int]] = field(default_factory=dict)
    _members: dict[int, set[int]] = field(default_factory=dict)

    def add(
        self, session: int, invoked: int, completed: int, outcome: Outcome, label: int, mops: Sequence[Mop]
    ) -> None:
        """Add one transaction; a micro-operation of the wrong type makes the history unfit, with this example."""
        self._rows.append((session, invoked, completed, int(outcome), label))
        for mop in mops:
            self._act.append(mop.act)
            self._key.append(self.keys.number(mop.key))
            value, length = self._answer(mop, outcome, label)
            self._value.append(value)
            self._length.append(length)
        self._start.append(len(self._act))

    def _answer(self, mop: Mop, outcome: Outcome, label: int) -> tuple[int, int]:
        lists = self.kind == HistoryKind.LIST_APPEND
        if mop.act == WRITE:
            if mop.append != lists:
                self._wrong(label, f"{'append' if mop.append else 'w'} in a history of kind {self.kind}")
            if mop.value is None:
                self._wrong(label, "a write of nil, which looks like the initial state")
            return self.values.number(mop.value), 0
        if outcome == Outcome.FAIL or (outcome == Outcome.INFO and mop.value is None):
            return UNKNOWN, 0
        if not lists:
            return (INITIAL if mop.value is None else self.values.number(mop.value)), 0
        if mop.value is None:
            return INITIAL, 0
        if not isinstance(mop.value, list | tuple):
            self._wrong(label, f"a list read of {str(mop.value)[:40]}, which is no list")
            return UNKNOWN, 0
        return self._list(mop)

    def _list(self, mop: Mop) -> tuple[int, int]:
        """A list that is a prefix of the key's longest so far, or extends it, needs only its length."""
        number = self.values.number
        seen = [number(element) for element in mop.value]
        if not seen:
            return INITIAL, 0
        key = self._key[-1]
        known = self._known.setdefault(key, [])
        if known[: len(seen)] != seen:
            tail = seen[len(known) :]
            members = self._members.setdefault(key, set())
            if seen[: len(known)] == known and len({*members, *tail}) == len(members) + len(tail):
                known += tail
                members.update(tail)
            else:
                self._odd[len(self._act) - 1] = seen
        return seen[-1], len(seen)

    def _wrong(self, label: int, what: str) -> None:
        self.unfit = self.unfit or f"unexpected micro-operation in operation {label}: {what}"

    def build(self) -> Transactions:
        """All that was added."""
        table = np.array(self._rows, np.int64).reshape(-1, 5)
        keys = len(self.keys.names)
        orders = [self._known.get(key, []) for key in range(keys)]
        return Transactions(
            kind=self.kind,
            session=np.ascontiguousarray(table[:, 0]),
            invoked=np.ascontiguousarray(table[:, 1]),
            completed=np.ascontiguousarray(table[:, 2]),
            outcome=table[:, 3].astype(np.uint8),
            label=np.ascontiguousarray(table[:, 4]),
            start=np.array(self._start, np.int64),
            act=np.array(self._act, np.uint8),
            key=np.array(self._key, np.int64),
            value=np.array(self._value, np.int64),
            length=np.array(self._length, np.int64),
            keys=keys,
            element_start=np.concatenate(([0], np.cumsum([len(order) for order in orders], dtype=np.int64))),
            elements=np.array([element for order in orders for element in order], np.int64),
            odd=dict(self._odd),
            key_name=self.keys.text,
            value_name=self.values.text,
            export_key=self.keys.name,
            export_value=self.values.name,
            session_name=self.session_name,
            timed=self.timed,
            unclocked=self.unclocked,
            unsessioned=self.unsessioned,
            unfit=self.unfit,
            warnings=self.warnings,
        )


__all__ = ["READ", "WRITE", "Builder", "Mop", "Names"]
