"""The probe workloads as values: transactions whose reads and writes prove which isolation a database really keeps.

As in the sale, what an op number means is a pure function of the plan and the number. A probe's transactions are
micro-operations on keys; what they read and wrote travels in the history's ``touched`` triples:

- ``(2 * key + act, value, version)``, act 0 for a read and 1 for a write; version -1 where there is none;
- the read of a list is ``(2 * key, length, -1)``, and then its elements, two to a triple ``(-1, element, element)``,
  with -1 to fill the last one.

A value of 0 is the initial state: nothing written yet.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadgen.draws import Draws
from loadgen.plan import Option, Plan

READ, WRITE, NOTHING = 0, 1, 2
"""What a micro-operation does; NOTHING fills up a transaction that has fewer than MICRO_OPS."""
MICRO_OPS = 4
"""The most micro-operations of one transaction."""
APPENDS_OF_A_KEY = 100
"""After about so many appends a key retires, so that lists, and the reads of them, stay short."""
GROUP = 3
"""Keys of one group of the long-fork probe: as many writers, each of one key, and readers of all of them."""
GROUP_NUMBERS = 16
"""Consecutive op numbers that belong to one group: GROUP writers among them."""
ACCOUNTS = 8
OPENING_BALANCE = 100
MOST_TRANSFERRED = 5
"""The bank of Jepsen's own workload: 8 accounts, and at most 5 moved at a time."""
TOTAL = ACCOUNTS * OPENING_BALANCE


class ProbeAnswer(IntEnum):
    """What a probe's transaction was answered."""

    NONE = 0
    COMMITTED = 1
    INSUFFICIENT = 2
    """The account to transfer from held too little: rolled back."""


REFUSALS = (ProbeAnswer.INSUFFICIENT,)
REFUSED = ("insufficient",)
STRATEGIES = ("naive", "pessimistic", "optimistic", "atomic", "bucketed")
"""Those of the sale, so that both can be compared; each probe says what it makes of them."""
MAX_KEYS = 1_000_000
OPTIONS = (
    Option("strategy", "atomic", "how the probe reads and writes, if it has a choice", choices=STRATEGIES),
    Option("skus", 100, "number of keys in use at a time", least=1, most=MAX_KEYS),
)
ANSWER_NAMES = tuple(answer.name.lower() for answer in ProbeAnswer)
NAMES = ("append", "bank", "longfork", "register")
NO_OBJECTIVES = "takes no objectives, because it judges isolation only"
"""Why no probe can have objectives, after its name."""
_SLOTS = tuple(f"{column}_{slot}" for slot in range(MICRO_OPS) for column in ("act", "key"))
TRANSACTION_COLUMNS: Mapping[str, str] = {
    "number": "int64",
    "kind": "uint8",
    **{slot: "uint8" if slot.startswith("act") else "int64" for slot in _SLOTS},
}
"""What the history says of a transaction of the append, register and long-fork probes before it runs."""
BANK_COLUMNS: Mapping[str, str] = {
    "number": "int64",
    "kind": "uint8",
    "source": "int64",
    "target": "int64",
    "amount": "int64",
}
"""The same of the bank: a transfer, or a read of all accounts (kind 1)."""
TRANSFER, TOTAL_READ = 0, 1


class Transaction(NamedTuple):
    """One transaction to run: ``(act, key, value)`` for each micro-operation; the value of a write is its own."""

    number: int
    kind: int
    micro_ops: tuple[tuple[int, int, int], ...]


class Movement(NamedTuple):
    """One transfer, or one read of all accounts, of the bank."""

    number: int
    kind: int
    source: int
    target: int
    amount: int


Columns = Mapping[str, NDArray[Any]]


def value_of(number: int, slot: int) -> int:
    """The value that micro-operation ``slot`` of a transaction writes: unique, and never 0."""
    return number * MICRO_OPS + slot + 1


def append_columns(plan: Plan, first: int, count: int) -> dict[str, NDArray[Any]]:
    """Reads and appends, half and half, over ``plan.skus`` keys at a time; each key retires after its appends."""
    numbers, draw, acts = _micro_ops(plan, first, count)
    appends_each = (1 + MICRO_OPS) / 4  # on average: half of the mean length
    oldest = (numbers * appends_each / APPENDS_OF_A_KEY).astype(np.int64)
    keys = [oldest + (draw.uniform(20 + slot) * plan.skus).astype(np.int64) for slot in range(MICRO_OPS)]
    return _transactions(numbers, *_ascending(acts, keys))


def register_columns(plan: Plan, first: int, count: int) -> dict[str, NDArray[Any]]:
    """Reads and writes, half and half, over ``plan.skus`` keys."""
    numbers, draw, acts = _micro_ops(plan, first, count)
    keys = [(draw.uniform(20 + slot) * plan.skus).astype(np.int64) for slot in range(MICRO_OPS)]
    return _transactions(numbers, *_ascending(acts, keys))


def long_fork_columns(plan: Plan, first: int, count: int) -> dict[str, NDArray[Any]]:
    """Single writes, and reads of a whole group in an order of their own: two readers may see two writes swapped."""
    numbers = np.arange(first, first + count, dtype=np.int64)
    group, place = numbers // GROUP_NUMBERS, numbers % GROUP_NUMBERS
    # The writers stand in the middle of their group, so that readers run beside them on both sides.
    member = place - (GROUP_NUMBERS - GROUP) // 2
    writes = (member >= 0) & (member < GROUP)
    turn = (Draws(plan.seed, numbers).uniform(20) * GROUP).astype(np.int64)
    acts, keys = [], []
    for slot in range(MICRO_OPS):
        used = (slot < GROUP) & (~writes | (slot == 0))
        acts.append(np.where(used, np.where(writes, WRITE, READ), NOTHING).astype(np.uint8))
        keys.append(group * GROUP + np.where(writes, np.clip(member, 0, GROUP - 1), (turn + slot) % GROUP))
    return _transactions(numbers, acts, keys)


def bank_columns(plan: Plan, first: int, count: int) -> dict[str, NDArray[Any]]:
    """Transfers between two accounts, and reads of all of them, by the weights of the mix."""
    numbers = np.arange(first, first + count, dtype=np.int64)
    draw = Draws(plan.seed, numbers)
    weights = dict(plan.kind_weights)
    transfer, read = weights.get("transfer", 0), weights.get("total", 0)
    share = transfer / (transfer + read) if transfer + read else 1.0
    source = (draw.uniform(1) * ACCOUNTS).astype(np.int64)
    return {
        "number": numbers,
        "kind": np.where(draw.uniform(0) < share, TRANSFER, TOTAL_READ).astype(np.uint8),
        "source": source,
        "target": (source + 1 + (draw.uniform(2) * (ACCOUNTS - 1)).astype(np.int64)) % ACCOUNTS,
        "amount": 1 + (draw.uniform(3) * MOST_TRANSFERRED).astype(np.int64),
    }


def transactions(plan: Plan, columns: Columns) -> list[Transaction]:
    """The same numbers as Python values."""
    del plan  # The columns say it all.
    numbers, kinds = columns["number"].tolist(), columns["kind"].tolist()
    slots = [
        zip(columns[f"act_{slot}"].tolist(), columns[f"key_{slot}"].tolist(), strict=True) for slot in range(MICRO_OPS)
    ]
    made = []
    for number, kind, *micro_ops in zip(numbers, kinds, *slots, strict=True):
        values = ((act, key, value_of(number, slot)) for slot, (act, key) in enumerate(micro_ops) if act != NOTHING)
        made.append(Transaction(number, kind, tuple(values)))
    return made


def movements(plan: Plan, columns: Columns) -> list[Movement]:
    """The same numbers of the bank as Python values."""
    del plan
    lists = [columns[name].tolist() for name in BANK_COLUMNS]
    return [Movement(number, kind, *rest) for number, kind, *rest in zip(*lists, strict=True)]


def _micro_ops(plan: Plan, first: int, count: int) -> tuple[NDArray[np.int64], Draws, list[NDArray[np.uint8]]]:
    numbers = np.arange(first, first + count, dtype=np.int64)
    draw = Draws(plan.seed, numbers)
    length = 1 + (draw.uniform(0) * MICRO_OPS).astype(np.int64)
    acts = []
    for slot in range(MICRO_OPS):
        act = np.where(draw.uniform(1 + slot) < 0.5, READ, WRITE)
        acts.append(np.where(slot < length, act, NOTHING).astype(np.uint8))
    return numbers, draw, acts


def _ascending(
    acts: list[NDArray[np.uint8]], keys: list[NDArray[np.int64]]
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.int64]]]:
    """Each transaction's micro-operations by ascending key: in any other order most would end in a deadlock."""
    act, key = np.stack(acts), np.stack(keys)
    order = np.argsort(np.where(act == NOTHING, np.iinfo(np.int64).max, key), axis=0, kind="stable")
    act, key = np.take_along_axis(act, order, axis=0), np.take_along_axis(key, order, axis=0)
    return list(act), list(key)


def _transactions(
    numbers: NDArray[np.int64], acts: list[NDArray[np.uint8]], keys: list[NDArray[np.int64]]
) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {"number": numbers, "kind": np.zeros(len(numbers), np.uint8)}
    for slot in range(MICRO_OPS):
        columns[f"act_{slot}"], columns[f"key_{slot}"] = acts[slot], keys[slot]
    return columns
