"""What sort of history operations are, decided by all of them, and their transactions where they are such.

A history of transactions holds lists of micro-operations and nothing else, a bank transfers and reads of balances, a
set elements added and reads of them. An operation that fits none of these may have done anything, so a history with
one is not judged.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from loadgen.formats.build import Builder, Mop
from loadgen.formats.maps import Op, Ops, brief
from loadgen.formats.reading import Watch
from loadgen.isolation.transactions import READ, WRITE, HistoryKind, Transactions
from loadgen.op import Outcome

TXN_KINDS = ("list-append", "rw-register", "long-fork")
KINDS = (*TXN_KINDS, "bank", "set")
"""What ``--kind`` may say."""
_VERBS = {"r": READ, "read": READ, "w": WRITE, "write": WRITE, "append": WRITE}
_VERBS |= {f":{verb}": act for verb, act in _VERBS.items()}
_ENDS = ("from", "to", "amount")
_NAMED = 5
"""How many names of unknown operations are shown."""


def kind_of(ops: Ops) -> tuple[str, str]:
    """Which of KINDS the operations are, by what all of them do; or none of them, and why."""
    if not ops.ops:
        return "list-append", ""
    misfits = {
        "transactions": _misfits_of_transactions(ops),
        "bank": misfits_of("bank", ops),
        "set": misfits_of("set", ops),
    }
    if not misfits["transactions"]:
        return _kind_of_transactions(ops), ""
    for kind in ("bank", "set"):
        if not misfits[kind]:
            return kind, ""
    fewest = min(misfits, key=lambda kind: len(misfits[kind]))
    return "", unknown_operations(misfits[fewest], len(ops.ops), fewest)


def misfits_of(kind: str, ops: Ops) -> list[Op]:
    """The operations that are none of a history of ``kind``, which may be unsure about what it was told."""
    if kind not in ("bank", "set"):
        return _misfits_of_transactions(ops)
    fits = _fits_bank if kind == "bank" else _fits_set
    return [op for op in ops.ops if not fits(op)]


def unknown_operations(misfits: Sequence[Op], count: int, kind: str) -> str:
    """Why a history with these operations is not judged: their names, and the first of them."""
    names = list(dict.fromkeys(op.f or "nil" for op in misfits))
    told = ", ".join(brief(name).strip("'\"") for name in names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    example = f"such as operation {misfits[0].label} with the value {brief(misfits[0].value)}"
    if len(misfits) < count:
        return f"what the operations named {told} did is not known: they are none of a history of {kind} ({example})"
    return f"the operations named {told} are of no kind that is known ({', '.join(KINDS)}), {example}"


def _misfits_of_transactions(ops: Ops) -> list[Op]:
    """Operations whose value is no list of micro-operations, or was never told and whose name no other has."""
    odd: list[Op] = []
    names: set[str] = set()
    untold: list[Op] = []
    for op in ops.ops:
        value = op.value
        if type(value) is list and _all_mops(value):
            names.add(op.f)
        elif op.outcome == Outcome.OK:
            odd.append(op)
        elif op.answer is not None and op.asked is not None and type(op.asked) is list and _all_mops(op.asked):
            # Some clients put an error's text where the value was.
            names.add(op.f)
        elif value is None or (op.answer is not None and op.asked is None):
            untold.append(op)
        else:
            odd.append(op)
    return odd + [op for op in untold if names and op.f not in names and op.f not in ("", "txn")]


def _all_mops(value: list[Any]) -> bool:
    for mop in value:
        if type(mop) is not list or len(mop) not in (2, 3) or not isinstance(mop[0], str) or mop[0] not in _VERBS:
            return False
    return True


def _fits_bank(op: Op) -> bool:
    if op.f == "transfer":
        return op.value is None or op.outcome != Outcome.OK or isinstance(op.value, Mapping)
    if op.f != "read":
        return False
    return op.outcome != Outcome.OK or isinstance(op.answer, Mapping)


def _fits_set(op: Op) -> bool:
    if op.f == "add":
        return not isinstance(op.value, list | Mapping)
    return op.f == "read" and (op.outcome != Outcome.OK or isinstance(op.answer, list | frozenset))


def _kind_of_transactions(ops: Ops) -> str:
    verbs: set[str] = set()
    lists = scalars = False
    for op in ops.ops:
        value = op.value if type(op.value) is list else op.asked if type(op.asked) is list else ()
        for mop in value:
            if type(mop) is not list or not mop or not isinstance(mop[0], str):
                continue
            verbs.add(mop[0].removeprefix(":"))
            if len(mop) == 3 and mop[2] is not None:
                lists |= type(mop[2]) is list
                scalars |= type(mop[2]) is not list
    if "append" in verbs:
        return "list-append"
    if {op.f for op in ops.ops} <= {"write", "read"} and verbs:
        return "long-fork"
    if {"w", "write"} & verbs:
        return "rw-register"
    return "rw-register" if scalars and not lists else "list-append"


def transactions(ops: Ops, kind: str, watch: Watch | None = None) -> Transactions:
    """The transactions of ``ops``, read as list-append, rw-register or long-fork."""
    builder = Builder(HistoryKind.LIST_APPEND if kind == "list-append" else HistoryKind.REGISTER, unfit=ops.unfit)
    builder.session_name = ops.processes.text
    builder.unclocked = ops.unclocked
    alone = sum(op.process < 0 and op.outcome != Outcome.FAIL for op in ops.ops)
    builder.unsessioned = f"{alone} operations have no :process" if alone else ""
    builder.timed = not ops.ops or ops.lonely < len(ops.ops)
    for number, op in enumerate(sorted(ops.ops, key=lambda op: op.place)):
        if watch and not number & 0x3FFF:
            watch.deadline.check()
            watch.say(f"{number} of {len(ops.ops)} operations sorted in")
        if op.value is None and op.outcome != Outcome.OK:
            continue
        mops, wrong = _mops(op.value)
        if wrong and op.outcome != Outcome.OK and op.answer is not None:
            mops, wrong = _mops(op.asked) if op.asked is not None else ((), "")
        if wrong:
            builder.unfit = builder.unfit or f"operation {op.label}: {wrong}"
            continue
        builder.add(op.process, op.invoked, op.completed, op.outcome, op.label, mops)
    if not ops.ops:
        builder.unfit = builder.unfit or "the history holds no transactions"
    return builder.build()


def _mops(value: Any) -> tuple[Sequence[Mop], str]:
    """The micro-operations of a transaction's value, or what is wrong with them."""
    if not isinstance(value, list):
        return (), f"its value is {brief(value)}, not a list of micro-operations"
    mops = []
    for mop in value:
        if not isinstance(mop, list) or len(mop) not in (2, 3) or not isinstance(mop[0], str):
            return (), f"{brief(mop)} is not a micro-operation [f key value]"
        act = _VERBS.get(mop[0])
        if act is None or (len(mop) == 2 and act == WRITE):
            return (), f"unexpected micro-operation {brief(mop[0])}"
        mops.append(Mop(act, mop[1], mop[2] if len(mop) == 3 else None, mop[0] in ("append", ":append")))
    return mops, ""
