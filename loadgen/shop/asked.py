"""What was asked of the shop, and how it ended: one row for every number that a load process received.

Identities come from the history's invoked streams, fates from its completions and from what is missing among them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.history.history import LoadProcess
from loadgen.op import Outcome
from loadgen.plan import Plan
from loadgen.shop import sale
from loadgen.shop.sale import FOLLOW_UPS, Answer, Kind
from loadgen.workload.evidence import Contradiction as Contradiction

MOST_NUMBER = 2**53
"""Op numbers count up from 0: a larger one was not made by a run."""


class Fate(IntEnum):
    """How one op ended, as far as that is known."""

    NEVER = 0
    """It was never sent."""
    SKIPPED = 1
    FAIL = 2
    INFO = 3
    """It may have happened: its outcome is ``info``, or its completion is missing."""
    REFUSED = 4
    """It was answered, and changed nothing: sold out, over the limit, not reserved any more."""
    DONE = 5
    """It was acknowledged."""


_FATE_OF_ANSWER: Mapping[tuple[Kind, Answer], Fate] = {
    (Kind.ORDER, Answer.PLACED): Fate.DONE,
    (Kind.ORDER, Answer.SOLD_OUT): Fate.REFUSED,
    (Kind.ORDER, Answer.LIMITED): Fate.REFUSED,
    (Kind.PAY, Answer.PAID): Fate.DONE,
    (Kind.PAY, Answer.NOT_RESERVED): Fate.REFUSED,
    (Kind.CANCEL, Answer.CANCELLED): Fate.DONE,
    (Kind.CANCEL, Answer.NOT_RESERVED): Fate.REFUSED,
    (Kind.RELEASE, Answer.RELEASED): Fate.DONE,
    (Kind.RELEASE, Answer.NOT_RESERVED): Fate.REFUSED,
    (Kind.BROWSE, Answer.SEEN): Fate.DONE,
}
_NO_ROW = 255
_CODES = (8, 8, 16)
"""Room for the codes of kinds, outcomes and answers; larger ones are read as the last, which is never used."""


def _fates() -> NDArray[np.uint8]:
    """``[kind, outcome, answer] -> Fate``; _NO_ROW for what no shop answers."""
    table = np.full(_CODES, _NO_ROW, dtype=np.uint8)
    for (kind, answer), fate in _FATE_OF_ANSWER.items():
        table[kind, Outcome.OK, answer] = fate
    for kind in Kind:
        table[kind, Outcome.FAIL, Answer.NONE] = Fate.FAIL
        table[kind, Outcome.INFO, Answer.NONE] = Fate.INFO
        table[kind, Outcome.SKIPPED, Answer.NONE] = Fate.SKIPPED
    return table


class Index:
    """Finds ids among ``ids``. If an id occurs twice, its first position is returned."""

    def __init__(self, ids: NDArray[Any]) -> None:
        self._order: NDArray[Any] | None = None
        if len(ids) and not (ids[1:] > ids[:-1]).all():
            self._order = np.argsort(ids, kind="stable")
            ids = ids[self._order]
        self._ids = ids
        self._contiguous = len(ids) > 0 and int(ids[-1]) - int(ids[0]) == len(ids) - 1 and self._order is None

    def find(self, wanted: NDArray[Any]) -> NDArray[np.int64]:
        """The position of each of ``wanted``, or -1."""
        ids = self._ids
        if not len(ids):
            return np.full(len(wanted), -1, dtype=np.int64)
        if self._contiguous:
            inside = (wanted >= ids[0]) & (wanted <= ids[-1])
            return np.where(inside, wanted - ids[0], -1).astype(np.int64)
        at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        found = ids[at] == wanted
        if self._order is not None:
            at = self._order[at]
        return np.where(found, at, -1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Asked:
    """Every number that a load process received, ascending, with its identity (sale.INVOKED_COLUMNS) and the fate of
    each of its ops.

    ``fates[kind]`` is the fate of ``(number, kind)``; of the kinds ORDER and BROWSE only the number's own is sent.
    """

    number: NDArray[np.int64]
    kind: NDArray[np.uint8]
    token: NDArray[np.int64]
    user: NDArray[np.int32]
    sku_a: NDArray[np.int32]
    qty_a: NDArray[np.int32]
    sku_b: NDArray[np.int32]
    qty_b: NDArray[np.int32]
    amount: NDArray[np.int64]
    process: NDArray[np.int32]
    """The load process that received the number."""
    fates: Mapping[Kind, NDArray[np.uint8]]
    answer: NDArray[np.uint8]
    """What the order, or the browse, was answered."""
    index: Index
    never_completed: int
    """How many orders count as ``info`` because their end is not recorded."""

    def may_have_happened(self, kind: Kind) -> NDArray[np.bool_]:
        """Whether each number's op of this kind is done or ``info``."""
        fate = self.fates[kind]
        return np.asarray((fate == Fate.INFO) | (fate == Fate.DONE))

    def lines(self) -> NDArray[np.int64]:
        """How many SKUs each number names: 2 for a basket."""
        return 1 + (self.sku_b >= 0).astype(np.int64)


def read_asked(processes: Sequence[LoadProcess], plan: Plan) -> Asked:
    """Join the numbers that load processes received with how their ops ended. Raises Contradiction."""
    columns = _identities(processes, plan)
    index = Index(columns["number"])
    fates = {kind: np.full(len(columns["number"]), _NO_ROW, dtype=np.uint8) for kind in Kind}
    answer = np.zeros(len(columns["number"]), dtype=np.uint8)
    table = _fates()
    for process in processes:
        _add_completions(process, columns, index, fates, answer, table)
    whose = columns["process"]
    ends = [process.closed_at for process in processes] or [0]
    closed_at = np.array([MOST_NUMBER if end is None else end for end in ends], dtype=np.int64)[whose]
    died = np.array([end is None for end in ends])[whose]
    never_completed = _fill(columns, fates, columns["number"] >= closed_at, died)
    return Asked(**columns, fates=fates, answer=answer, index=index, never_completed=never_completed)


def _identities(processes: Sequence[LoadProcess], plan: Plan) -> dict[str, NDArray[Any]]:
    names = tuple(sale.INVOKED_COLUMNS)
    for process in processes:
        invoked = process.invoked
        wrong = [name for name in names if name not in invoked or invoked[name].dtype.kind not in "iu"]
        if wrong or len({len(invoked[name]) for name in names}) != 1:
            raise Contradiction(
                f"the numbers that {process.name} received lack whole columns {', '.join(wrong or names)}"
            )
    columns = {
        name: _joined([process.invoked[name] for process in processes], kind)
        for name, kind in sale.INVOKED_COLUMNS.items()
    }
    sizes = [len(process.invoked["number"]) for process in processes]
    columns["process"] = np.repeat(np.arange(len(processes), dtype=np.int32), sizes)
    if not (columns["number"][1:] > columns["number"][:-1]).all():
        order = np.argsort(columns["number"], kind="stable")
        columns = {name: values[order] for name, values in columns.items()}
    _validate(columns, plan)
    return columns


def _validate(columns: Mapping[str, NDArray[Any]], plan: Plan) -> None:
    number, sku_a, sku_b = columns["number"], columns["sku_a"], columns["sku_b"]
    units = (columns["qty_a"] >= 1) & np.where(sku_b >= 0, columns["qty_b"] >= 1, columns["qty_b"] == 0)
    rules = (
        ("was handed out twice", np.concatenate(([False], number[1:] == number[:-1])) if len(number) else number),
        ("is not a number of a run", (number < 0) | (number > MOST_NUMBER)),
        ("is neither an order nor a browse", (columns["kind"] != Kind.ORDER) & (columns["kind"] != Kind.BROWSE)),
        ("names a SKU outside the plan", (sku_a < 0) | (sku_a >= plan.skus) | (sku_b >= plan.skus) | (sku_b < -1)),
        ("names one SKU twice", sku_a == sku_b),
        ("asks for 0 units", ~units),
        ("has a token that this plan does not give it", columns["token"] != sale.tokens(plan.seed, number)),
    )
    for complaint, wrong in rules:
        at = np.flatnonzero(wrong)
        if len(at):
            raise Contradiction(f"op {number[at[0]]} {complaint}")


def _add_completions(
    process: LoadProcess,
    columns: Mapping[str, NDArray[Any]],
    index: Index,
    fates: Mapping[Kind, NDArray[np.uint8]],
    answer: NDArray[np.uint8],
    table: NDArray[np.uint8],
) -> None:
    ops = process.ops
    at = index.find(ops["number"])
    _refuse(ops, at < 0, "ended, and was never handed out")
    codes = (np.minimum(ops[name], most - 1) for name, most in zip(("kind", "outcome", "answer"), _CODES, strict=True))
    fate = table[tuple(codes)]
    _refuse(ops, fate == _NO_ROW, "ended in a way that its kind cannot end")
    own = columns["kind"][at]
    arrival = (ops["kind"] == Kind.ORDER) | (ops["kind"] == Kind.BROWSE)
    _refuse(ops, np.where(arrival, ops["kind"] != own, own != Kind.ORDER), "ended as a kind that it is not")
    if process.closed_at is not None:
        _refuse(ops, ops["number"] >= process.closed_at, f"ended, and {process.name} says that it never started it")
    _refuse(ops, (fate != Fate.SKIPPED) & (ops["done"] < ops["sent"]), "ended before it was sent")
    for kind in Kind:
        mine = ops["kind"] == kind
        rows = at[mine]
        _refuse({name: ops[name][mine] for name in ("number", "kind")}, fates[kind][rows] != _NO_ROW, "ended twice")
        fates[kind][rows] = fate[mine]
        if np.count_nonzero(np.bincount(rows, minlength=1)) != len(rows):
            raise Contradiction(f"{process.name} reports one {kind.name.lower()} twice")
    answer[at[arrival]] = ops["answer"][arrival]


def _refuse(ops: Mapping[str, NDArray[Any]], wrong: NDArray[np.bool_], complaint: str) -> None:
    at = np.flatnonzero(wrong)
    if len(at):
        kind = int(ops["kind"][at[0]])
        name = sale.KIND_NAMES[kind] if kind < len(Kind) else f"kind {kind}"
        raise Contradiction(f"op {ops['number'][at[0]]} ({name}) {complaint}")


def _fill(
    columns: Mapping[str, NDArray[Any]],
    fates: Mapping[Kind, NDArray[np.uint8]],
    never_started: NDArray[np.bool_],
    died: NDArray[np.bool_],
) -> int:
    """Give a fate to every op without a completion. Returns how many orders became ``info``.

    A process that ended in order has a completion for every op that it sent, and records which numbers it never
    started. Its other numbers without a completion, and those of a dead process, have an unknown outcome.
    """
    is_order = columns["kind"] == Kind.ORDER
    order = fates[Kind.ORDER]
    untold = (order == _NO_ROW) & is_order & (died | ~never_started)
    # Only a placed order is followed by anything, and what was told as refused or failed was not placed.
    followed = untold | (died & ((order == Fate.DONE) | (order == Fate.INFO)))
    for kind in Kind:
        fate = fates[kind]
        unknown = followed if kind in FOLLOW_UPS else (columns["kind"] == kind) & (died | ~never_started)
        fate[fate == _NO_ROW] = np.where(unknown[fate == _NO_ROW], Fate.INFO, Fate.NEVER)
    return int(untold.sum())


def _joined(parts: Iterable[NDArray[Any]], kind: str) -> NDArray[Any]:
    arrays = list(parts)
    if len(arrays) == 1:
        return arrays[0].astype(kind, copy=False)
    return np.concatenate([*arrays, np.empty(0, kind)]).astype(kind, copy=False)
