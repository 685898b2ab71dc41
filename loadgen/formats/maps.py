"""Elle's and Jepsen's operation maps: an invocation and its completion become one operation.

An operation is ``{:type invoke|ok|fail|info, :process, :f, :value, :index, :time}``. An invocation that never completed
is ``info``; a completion without an invocation is an operation with an unknown start. Real-time order is the order of
``:index`` (of the file, where there is none), as in Elle. Processes are names, of any type.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from loadgen.errors import StoreError
from loadgen.formats.build import Names
from loadgen.formats.edn import freeze
from loadgen.isolation.transactions import ALWAYS, NEVER
from loadgen.op import Outcome

_OUTCOMES = {"ok": Outcome.OK, "fail": Outcome.FAIL, "info": Outcome.INFO}
_NOT_CLIENTS = ("nemesis", "checker")
_READS = ("r", "read")
_BIG = 1 << 62


@dataclass(slots=True)
class Op:
    """One operation: what was asked, how it ended, and the places of both in the history."""

    process: int
    """The number of its process among ``Ops.processes``, or -1: the file names none."""
    f: str
    asked: Any
    outcome: Outcome
    answer: Any
    place: int
    """Where it first appears in the file: operations of one process ran in this order."""
    invoked: int
    completed: int
    label: int

    @property
    def value(self) -> Any:
        """What it did, as far as anyone knows: the completion's word, else the invocation's."""
        return self.asked if self.answer is None and self.outcome != Outcome.OK else self.answer


@dataclass(slots=True)
class Ops:
    """The client operations of a history, in the order of their first appearance in the file."""

    ops: list[Op]
    unfit: str = ""
    nemesis: int = 0
    lonely: int = 0
    """How many completions have no invocation."""
    unclocked: str = ""
    """Why the history does not show the whole of its real-time order."""
    processes: Names = field(default_factory=Names)


class _Event(NamedTuple):
    kind: str
    process: int
    f: str
    value: Any
    label: int


def read_ops(values: Iterable[Any]) -> Ops:
    """Pair invocations and completions. Raises StoreError where something is no operation, saying which."""
    told = Ops([])
    events, gap = _events(_flat(values), told)
    pending: dict[int, Op] = {}
    loose = _Loose()
    ops = told.ops
    for place, event in enumerate(events):
        kind, process, f, value, label = event
        if kind == "invoke":
            op = Op(process, f, value, Outcome.INFO, None, place, place, NEVER, label)
            ops.append(op)
            if process < 0:
                loose.add(op)
            elif process in pending:
                raise StoreError(
                    f"process {told.processes.text(process)} invokes operation {label} while its operation "
                    f"{pending[process].label} is still open: one process does one thing at a time"
                )
            else:
                pending[process] = op
            continue
        found = pending.pop(process, None) if process >= 0 else loose.take(event)
        if found is None:
            found = Op(process, f, None, Outcome.INFO, None, place, ALWAYS, NEVER, label)
            ops.append(found)
            told.lonely += 1
        else:
            told.unfit = told.unfit or _mismatch(found, event)
        found.outcome = _OUTCOMES[kind]
        found.answer = value
        found.label = label
        if kind != "info":
            found.completed = place
        if kind == "ok" and value is not None:
            found.asked = None
    _doubts(told, gap, bool(pending or loose.open), loose.ambiguous)
    return told


def _doubts(told: Ops, gap: str, unfinished: bool, ambiguous: str) -> None:
    """What the file does not show, and what that forbids to conclude."""
    if gap and told.nemesis:
        told.unfit = told.unfit or f"{gap}, though the nemesis was left in: a part of the history was lost"
    if gap and (0 < told.lonely < len(told.ops) or unfinished):
        told.unfit = told.unfit or f"{gap}, and operations lack their other half: a part of the history was lost"
    if ambiguous:
        told.unclocked = ambiguous
    elif told.lonely == len(told.ops):
        told.unclocked = "the file holds completions only, which do not say when anything began"
    elif told.lonely:
        told.unclocked = f"{told.lonely} completions have no invocation: when they began is not known"


class _Loose:
    """Open invocations without a process, by what a completion must share with them."""

    def __init__(self) -> None:
        self.open: dict[Any, deque[Op]] = {}
        self.ambiguous = ""

    def add(self, op: Op) -> None:
        self.open.setdefault(_shape(op.f, op.asked), deque()).append(op)

    def take(self, event: _Event) -> Op | None:
        """The invocation that the completion belongs to; None if there is none, or if it could be of several kinds.

        Where several fit, it is taken to have begun with the first of them: so no real-time order is made up. That
        first one stays the earliest for all that come later.
        """
        shape = _shape(event.f, event.value)
        if shape not in self.open and event.kind != "ok":
            # A failure may tell an error, or nothing, where the value was.
            shapes = [each for each in self.open if each[0] == event.f]
            if len(shapes) != 1:
                if shapes:
                    self.ambiguous = self.ambiguous or self._words(event)
                return None
            shape = shapes[0]
        waiting = self.open.get(shape)
        if waiting is None:
            return None
        first = waiting[0]
        if len(waiting) == 1:
            del self.open[shape]
            return first
        self.ambiguous = self.ambiguous or self._words(event)
        taken = waiting.pop()
        taken.invoked, taken.place = first.invoked, first.place
        return taken

    def _words(self, event: _Event) -> str:
        return (
            f"operations have no :process, and several open invocations fit completion {event.label}: "
            "which began when is not known"
        )


def _shape(f: str, value: Any) -> Any:
    """What an invocation and its completion have in common: all but what was read."""
    if not isinstance(value, list):
        return f, None if value is None or isinstance(value, Mapping) else freeze(value)
    return f, tuple(
        (_name(mop[0]), *map(freeze, mop[1:2] if _name(mop[0]) in _READS else mop[1:]))
        if isinstance(mop, list) and mop and isinstance(mop[0], str)
        else ()
        for mop in value
    )


def _mismatch(op: Op, event: _Event) -> str:
    """Why a completion cannot be that of its process's open invocation, or an empty text."""
    if event.f and op.f and event.f != op.f:
        what = f"operation {op.label} invokes {op.f[:40]}, but its process completes {event.f[:40]}"
    elif event.kind == "ok" and _other_mops(op.asked, event.value):
        what = f"operation {op.label} invokes other micro-operations than its process completes in {event.label}"
    else:
        return ""
    return f"{what}: a part of the history was lost, or mixed up"


def _other_mops(asked: Any, answer: Any) -> bool:
    """Whether two lists of micro-operations are not of one transaction; one may be shorter, as a retry's may."""
    if type(asked) is not list or type(answer) is not list or not asked or not answer:
        return False
    one, two = asked[0], answer[0]
    if type(one) is not list or type(two) is not list or len(one) != 3 or len(two) != 3:
        return False
    if one[0] != two[0] or one[1] != two[1]:
        return True
    return _name(one[0]) not in _READS and None not in (one[2], two[2]) and bool(one[2] != two[2])


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """Operations are single or in vectors."""
    for value in values:
        if type(value) is list:
            yield from value
        else:
            yield value


def _events(values: Iterator[Any], told: Ops) -> tuple[list[_Event], str]:
    """The client events in the order of their indexes, and which indexes are missing between them, in words."""
    events: list[_Event] = []
    indexes: list[int] = []
    number = told.processes.number
    names: dict[Any, str] = {}
    for place, value in enumerate(values):
        if not isinstance(value, Mapping):
            raise StoreError(f"operation {place} is {brief(value)}, not a map")
        op = value if "type" in value else {_name(key): each for key, each in value.items()}
        kind, process, index = op.get("type"), op.get("process"), op.get("index")
        if kind != "invoke" and (type(kind) is list or type(kind) is dict or kind not in _OUTCOMES):
            kind = _name(kind)
            if kind != "invoke" and kind not in _OUTCOMES:
                raise StoreError(
                    f"operation {place} has the type {brief(op.get('type'))}, not invoke, ok, fail or info"
                )
        if index is not None:
            if type(index) is not int or abs(index) > _BIG:
                raise StoreError(f"operation {place} has the index {brief(index)}, not a number")
            indexes.append(index)
        if isinstance(process, str):
            if process.lstrip(":") in _NOT_CLIENTS:
                told.nemesis += 1
                continue
        elif isinstance(process, bool | float | list | dict):
            raise StoreError(f"operation {place} has the process {brief(process)}, not a number or a name")
        time = op.get("time")
        if time is not None and type(time) is not int and type(time) is not float:
            raise StoreError(f"operation {place} has the time {brief(time)}, not a number")
        f = op.get("f")
        if type(f) is not str:
            f = names.setdefault(f, _name(f)) if isinstance(f, str) else _name(f)
        events.append(
            _Event(
                kind,
                -1 if process is None else number(process),
                f.removeprefix(":"),
                op.get("value"),
                place if index is None else index,
            )
        )
    return _by_index(events, indexes, told)


def _by_index(events: list[_Event], indexes: list[int], told: Ops) -> tuple[list[_Event], str]:
    """``events`` sorted by index where all have one; ``indexes`` are those of all operations, the nemesis's too."""
    ordered = sorted(indexes)
    twice = next((one for one, two in pairwise(ordered) if one == two), None)
    if twice is not None:
        told.unfit = f"two operations of the file have one index, {twice}: their order is not known"
        return events, ""
    if not ordered or len(indexes) != len(events) + told.nemesis:
        return events, ""
    if indexes != ordered:
        events.sort(key=lambda event: event.label)
    missing = ordered[-1] - ordered[0] + 1 - len(ordered)
    return events, f"{missing} indexes between {ordered[0]} and {ordered[-1]} are missing" if missing else ""


def _name(value: Any) -> str:
    return value.removeprefix(":") if isinstance(value, str) else "" if value is None else repr(value)[:200]


def brief(value: Any) -> str:
    """A value of a file in a few signs, none of them raw."""
    names: dict[Any, str] = {dict: "a map", list: "a list", frozenset: "a set"}
    told = repr(value) if isinstance(value, str | int | float | None) else names.get(type(value), "something else")
    return told if len(told) <= 40 else told[:39] + "…"
