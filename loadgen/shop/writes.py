"""What ops did to versioned rows, as far as it was acknowledged: their writes, their looks, their refusals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from loadgen.history.history import Columns, LoadProcess
from loadgen.op import Outcome
from loadgen.plan import Plan
from loadgen.shop.asked import Asked, Contradiction
from loadgen.shop.sale import Answer

MOST_VERSION = 2**36
"""Versions count writes: no run makes as many, and a row (at most 2^20 of them) and a version fit one key."""


@dataclass(frozen=True, slots=True)
class Writes:
    """Every acknowledged write of a stock row, ordered by row and version written."""

    key: NDArray[np.int64]
    """Row and version as one number, ascending: one sort serves every check."""
    row: NDArray[np.int64]
    read: NDArray[np.int64]
    """The version that the transaction had read, or -1."""
    wrote: NDArray[np.int64]
    who: NDArray[np.int64]
    """The position among the numbers asked."""
    kind: NDArray[np.uint8]
    process: NDArray[np.int32]
    """Which load process told of it."""
    session: NDArray[np.int64]
    sent: NDArray[np.int64]
    done: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Denials:
    """Every "not reserved" and "over the limit": answers that say what the shop's rows held."""

    who: NDArray[np.int64]
    kind: NDArray[np.uint8]
    process: NDArray[np.int32]
    """Which load process told of it."""
    sent: NDArray[np.int64]
    done: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Looks:
    """Every row that a browse saw, and its version. The rows of one browse are adjacent."""

    who: NDArray[np.int64]
    row: NDArray[np.int64]
    version: NDArray[np.int64]
    process: NDArray[np.int32]
    """Which load process told of it."""
    session: NDArray[np.int64]
    sent: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Refusals:
    """Every "sold out", with the SKU that it was said of."""

    who: NDArray[np.int64]
    sku: NDArray[np.int64]
    process: NDArray[np.int32]
    sent: NDArray[np.int64]


Table = TypeVar("Table", Writes, Looks, Refusals, Denials)


def read_writes(processes: Sequence[LoadProcess], asked: Asked, plan: Plan) -> tuple[Writes, Writes]:
    """All acknowledged writes, and separately those with a version that no count of writes can reach.

    Of the latter, version -1 is a write that found no row. Raises Contradiction where one names other rows than its
    op's.
    """
    writes = _gather(Writes, processes, lambda index, process: _writes(index, process, asked, plan))
    astray = (writes.wrote < 1) | (writes.read < -1) | (np.maximum(writes.read, writes.wrote) > MOST_VERSION)
    order = np.argsort(writes.key)
    apart = np.flatnonzero(astray)
    if len(apart):
        order = order[~astray[order]]
    names = [column.name for column in fields(Writes)]
    return Writes(*(getattr(writes, name)[order] for name in names)), Writes(
        *(getattr(writes, name)[apart] for name in names)
    )


def read_looks(processes: Sequence[LoadProcess], asked: Asked, plan: Plan) -> tuple[Looks, Looks]:
    """All rows seen by browses, and apart from them those that the browse did not ask for."""
    looks = _gather(Looks, processes, lambda index, process: _looks(index, process, asked))
    sku = looks.row // plan.buckets
    right = (sku == asked.sku_a[looks.who]) | (sku == asked.sku_b[looks.who])
    whole = right & (looks.version >= 0) & (looks.version <= MOST_VERSION)
    if whole.all():
        return looks, Looks(*(getattr(looks, column.name)[:0] for column in fields(Looks)))
    kept, apart = ([getattr(looks, column.name)[mask] for column in fields(Looks)] for mask in (whole, ~right))
    return Looks(*kept), Looks(*apart)


def read_refusals(processes: Sequence[LoadProcess], asked: Asked, plan: Plan) -> Refusals:
    """All answers "sold out". Raises Contradiction for one of a SKU that was not asked for."""
    return _gather(Refusals, processes, lambda index, process: _refusals(index, process, asked, plan))


def read_denials(processes: Sequence[LoadProcess], asked: Asked) -> Denials:
    """All answers "not reserved" and "over the limit"."""
    return _gather(Denials, processes, lambda index, process: _denials(index, process, asked))


def write_key(row: NDArray[np.int64], version: NDArray[np.int64]) -> NDArray[np.int64]:
    """A row and one of its versions as one number."""
    return row * (2 * MOST_VERSION) + version


def acknowledged_first(starts: NDArray[np.bool_], done: NDArray[np.int64]) -> NDArray[np.int64]:
    """By position: which one from there to the end of its group was done first. ``starts`` marks groups' beginnings."""
    by_done = np.argsort(done, kind="stable")
    rank = np.empty(len(done), dtype=np.int64)
    rank[by_done] = np.arange(len(done))
    # Each group gets ranks of its own, above those of the groups before it: then a minimum over all that follows is
    # one within the group.
    height = (np.cumsum(starts) - 1) * np.int64(len(done))
    least = np.minimum.accumulate((height + rank)[::-1])[::-1]
    return np.asarray(by_done[least - height])


def _writes(index: int, process: LoadProcess, asked: Asked, plan: Plan) -> tuple[NDArray[Any], ...]:
    ops = process.ops
    answer = ops["answer"]
    wrote = (answer == Answer.PLACED) | (answer == Answer.CANCELLED) | (answer == Answer.RELEASED)
    chosen = np.flatnonzero(wrote & (ops["outcome"] == Outcome.OK))
    who = asked.index.find(ops["number"][chosen])
    at, line, counts = _touches(ops, chosen)
    wrong = counts != asked.lines()[who]
    if wrong.any():
        raise Contradiction(f"op {ops['number'][chosen[wrong][0]]} does not say what it wrote to each of its SKUs")
    whose = np.repeat(who, counts)
    sku = np.where(line == 0, asked.sku_a[whose], asked.sku_b[whose])
    row, read, version = (ops[f"touched_{name}"][at] for name in ("row", "read", "wrote"))
    wrong = row // plan.buckets != sku
    if wrong.any():
        raise Contradiction(f"op {asked.number[whose[wrong][0]]} says that it wrote what is not one of its rows")
    source = np.repeat(chosen, counts)
    by = np.full(len(whose), index, dtype=np.int32)
    ended = (ops[name][source].astype(np.int64) for name in ("process", "sent", "done"))
    return write_key(row, version), row, read, version, whose, ops["kind"][source], by, *ended


def _looks(index: int, process: LoadProcess, asked: Asked) -> tuple[NDArray[Any], ...]:
    ops = process.ops
    chosen = np.flatnonzero((ops["answer"] == Answer.SEEN) & (ops["outcome"] == Outcome.OK))
    at, _, counts = _touches(ops, chosen)
    source = np.repeat(chosen, counts)
    whose = asked.index.find(ops["number"][source])
    row, version = ops["touched_row"][at], ops["touched_read"][at]
    by = np.full(len(whose), index, dtype=np.int32)
    return whose, row, version, by, *(ops[name][source].astype(np.int64) for name in ("process", "sent"))


def _refusals(index: int, process: LoadProcess, asked: Asked, plan: Plan) -> tuple[NDArray[Any], ...]:
    ops = process.ops
    chosen = np.flatnonzero((ops["answer"] == Answer.SOLD_OUT) & (ops["outcome"] == Outcome.OK))
    at, _, counts = _touches(ops, chosen)
    source = np.repeat(chosen, counts)
    whose = asked.index.find(ops["number"][source])
    sku = ops["touched_row"][at] // plan.buckets
    wrong = (sku != asked.sku_a[whose]) & (sku != asked.sku_b[whose])
    if wrong.any():
        raise Contradiction(f"order {asked.number[whose[wrong][0]]} was refused a SKU that it did not ask for")
    return whose, sku, np.full(len(whose), index, dtype=np.int32), ops["sent"][source]


def _denials(index: int, process: LoadProcess, asked: Asked) -> tuple[NDArray[Any], ...]:
    ops = process.ops
    denied = (ops["answer"] == Answer.NOT_RESERVED) | (ops["answer"] == Answer.LIMITED)
    chosen = np.flatnonzero(denied & (ops["outcome"] == Outcome.OK))
    by = np.full(len(chosen), index, dtype=np.int32)
    return asked.index.find(ops["number"][chosen]), ops["kind"][chosen], by, ops["sent"][chosen], ops["done"][chosen]


def _touches(ops: Columns, chosen: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Of the ops ``chosen``: the positions of their touches, each touch's place in its op, and how many each has."""
    start = ops["touched_start"]
    counts = start[chosen + 1] - start[chosen]
    before = np.cumsum(counts) - counts
    line = np.arange(int(counts.sum()), dtype=np.int64) - np.repeat(before, counts)
    return np.repeat(start[chosen], counts) + line, line, counts


def _gather(
    table: type[Table],
    processes: Sequence[LoadProcess],
    read: Callable[[int, LoadProcess], tuple[NDArray[Any], ...]],
) -> Table:
    parts = [read(index, process) for index, process in enumerate(processes)]
    if len(parts) == 1:
        return table(*parts[0])
    empty = [np.empty(0, np.int64)]
    return table(*(np.concatenate([part[column] for part in parts] or empty) for column in range(len(fields(table)))))
