"""Elle's and Jepsen's operation maps: an invocation and its completion become one transaction.

An operation is ``{:type invoke|ok|fail|info, :process, :f, :value, :index, :time}``. An invocation that never
completed is ``info``; a completion without an invocation stands alone, with no known start. Real-time order is the
order of ``:index`` (of the file, where there is none), as in Elle.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadgen.checks.transactions import ALWAYS, NEVER, READ, WRITE, Kind, Transactions
from loadgen.errors import StoreError
from loadgen.interchange.build import Builder, Mop, Names
from loadgen.interchange.edn import Keyword
from loadgen.op import Outcome

_OUTCOMES = {"ok": Outcome.OK, "fail": Outcome.FAIL, "info": Outcome.INFO}
_VERBS = {"r": READ, "read": READ, "w": WRITE, "write": WRITE, "append": WRITE}
_BIG = 1 << 62

TXN_KINDS = ("list-append", "rw-register", "long-fork")
KINDS = (*TXN_KINDS, "bank", "set")
"""What ``--kind`` may say."""


@dataclass(slots=True)
class Op:
    """One operation: what was asked, how it ended, and the places of both in the history."""

    process: int
    f: str
    asked: Any
    outcome: Outcome
    answer: Any
    invoked: int
    completed: int
    label: int

    @property
    def value(self) -> Any:
        """What it did, as far as anyone knows: the completion's word, else the invocation's."""
        return self.asked if self.answer is None and self.outcome != Outcome.OK else self.answer


@dataclass(slots=True)
class Ops:
    """The client operations of a history, in the order in which they began."""

    ops: list[Op]
    unfit: str = ""
    nemesis: int = 0


@dataclass(slots=True)
class _Event:
    kind: str
    process: int
    f: str
    value: Any
    label: int


def read_ops(values: Iterable[Any]) -> Ops:
    """Pair invocations and completions. Raises StoreError where something is no operation, saying which."""
    events, unfit, nemesis = _events(_flat(values))
    pending: dict[int, Op] = {}
    ops: list[Op] = []
    loose: list[Op] = []
    for place, event in enumerate(events):
        if event.kind == "invoke":
            op = Op(event.process, event.f, event.value, Outcome.INFO, None, place, NEVER, event.label)
            ops.append(op)
            if event.process < 0:
                loose.append(op)
            else:
                pending[event.process] = op
            continue
        found = pending.pop(event.process, None) if event.process >= 0 else _matching(loose, event)
        if found is None:
            found = Op(event.process, event.f, None, Outcome.INFO, None, ALWAYS, NEVER, event.label)
            ops.append(found)
        found.outcome = _OUTCOMES[event.kind]
        found.answer = event.value
        found.label = event.label
        if event.kind != "info":
            found.completed = place
    return Ops(ops, unfit, nemesis)


def _matching(loose: list[Op], event: _Event) -> Op | None:
    """Without processes a completion belongs to the first open invocation that wrote the same."""
    for op in loose:
        if op.f == event.f and _writes(op.asked) == _writes(event.value):
            loose.remove(op)
            return op
    return None


def _writes(value: Any) -> Any:
    if not isinstance(value, list):
        return None if value is None or isinstance(value, dict) else value
    return [mop for mop in value if isinstance(mop, list) and mop and _name(mop[0]) not in ("r", "read")]


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """Operations stand one by one or in vectors."""
    for value in values:
        if isinstance(value, list):
            yield from value
        else:
            yield value


def _events(values: Iterator[Any]) -> tuple[list[_Event], str, int]:
    indexed: list[tuple[int, _Event]] = []
    processes = Names()
    used: dict[int, int] = {}
    unfit = ""
    nemesis = without = 0
    for place, value in enumerate(values):
        if not isinstance(value, Mapping):
            raise StoreError(f"operation {place} is {_brief(value)}, not a map")
        op = {_name(key): each for key, each in value.items()}
        kind = _name(op.get("type"))
        if kind != "invoke" and kind not in _OUTCOMES:
            raise StoreError(f"operation {place} has the type {_brief(op.get('type'))}, not invoke, ok, fail or info")
        process = op.get("process")
        if _is_nemesis(process):
            nemesis += 1
            continue
        if isinstance(process, bool | float | list | dict):
            raise StoreError(f"operation {place} has the process {_brief(process)}, not a number")
        index = op.get("index")
        if index is not None and (type(index) is not int or abs(index) > _BIG):
            raise StoreError(f"operation {place} has the index {_brief(index)}, not a number")
        time = op.get("time")
        if isinstance(time, bool) or not isinstance(time, int | float | None):
            raise StoreError(f"operation {place} has the time {_brief(time)}, not a number")
        if index is None:
            without += 1
        elif index in used:
            unfit = (
                unfit
                or f"operations {used[index]} and {place} of the file have one index, {index}: their order is not known"
            )
        else:
            used[index] = place
        number = -1 if process is None else processes.number(process)
        event = _Event(kind, number, _name(op.get("f")), op.get("value"), place if index is None else index)
        indexed.append((place if index is None else index, event))
    if not without and not unfit:
        indexed.sort(key=lambda pair: pair[0])
    return [event for _, event in indexed], unfit, nemesis


def _is_nemesis(process: Any) -> bool:
    """Clients are numbers; what Jepsen itself did has a name."""
    return isinstance(process, Keyword) or (isinstance(process, str) and process.lstrip(":") in ("nemesis", "checker"))


def _name(value: Any) -> str:
    return value.removeprefix(":") if isinstance(value, str) else "" if value is None else repr(value)


def _brief(value: Any) -> str:
    told = repr(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    return told if len(told) <= 40 else told[:39] + "…"


def kind_of(ops: Ops) -> str:
    """Which of KINDS the operations are, by what they do; list-append if nothing tells."""
    names = {op.f for op in ops.ops}
    if "transfer" in names:
        return "bank"
    if "add" in names:
        return "set"
    values = [op.value for op in ops.ops]
    if any(isinstance(value, Mapping) for value in values):
        return "bank"
    mops = [
        mop for value in values for mop in (value if isinstance(value, list) else ()) if isinstance(mop, list) and mop
    ]
    verbs = {_name(mop[0]) for mop in mops}
    if "append" in verbs:
        return "list-append"
    if names <= {"write", "read"} and names and mops:
        return "long-fork"
    if {"w", "write"} & verbs:
        return "rw-register"
    lists = any(len(mop) == 3 and isinstance(mop[2], list) for mop in mops)
    scalars = any(len(mop) == 3 and mop[2] is not None and not isinstance(mop[2], list) for mop in mops)
    return "rw-register" if scalars and not lists else "list-append"


def transactions(ops: Ops, kind: str) -> Transactions:
    """The transactions of ``ops``, read as list-append, rw-register or long-fork."""
    builder = Builder(Kind.LIST_APPEND if kind == "list-append" else Kind.REGISTER, unfit=ops.unfit)
    rows = sorted(ops.ops, key=lambda op: op.completed if op.invoked == ALWAYS else op.invoked)
    for op in rows:
        if op.value is None and op.outcome != Outcome.OK:
            continue
        mops, wrong = _mops(op.value)
        if wrong and op.outcome != Outcome.OK and op.answer is not None:
            # Some clients put an error's text where the value was.
            mops, wrong = _mops(op.asked) if op.asked is not None else ((), "")
        if wrong:
            builder.unfit = builder.unfit or f"operation {op.label}: {wrong}"
            continue
        builder.add(op.process, op.invoked, op.completed, op.outcome, op.label, mops)
    if not ops.ops:
        builder.unfit = builder.unfit or "the history holds no transactions"
    lonely = sum(op.invoked == ALWAYS for op in ops.ops)
    if lonely:
        builder.warnings.append(f"{lonely} completions have no invocation: when they began is not known")
    return builder.build()


def _mops(value: Any) -> tuple[Sequence[Mop], str]:
    """The micro-operations of a transaction's value, or what is wrong with them."""
    if not isinstance(value, list):
        return (), f"its value is {_brief(value)}, not a list of micro-operations"
    mops = []
    for mop in value:
        if not isinstance(mop, list) or len(mop) not in (2, 3) or not isinstance(mop[0], str):
            return (), f"{_brief(mop)} is not a micro-operation [f key value]"
        verb = _name(mop[0])
        if verb not in _VERBS or (len(mop) == 2 and _VERBS[verb] == WRITE):
            return (), f"unexpected micro-operation {_brief(verb)}"
        mops.append(Mop(_VERBS[verb], mop[1], mop[2] if len(mop) == 3 else None, verb == "append"))
    return mops, ""
