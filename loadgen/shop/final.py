"""What the shop's tables held when all was quiet, joined with what was asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.history.history import Columns, History
from loadgen.plan import Plan
from loadgen.shop.asked import Asked
from loadgen.shop.sale import Kind, State, tokens

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "stock": ("sku", "bucket", "available", "version", "price"),
    "orders": ("id", "token", "user_id", "sku_a", "qty_a", "sku_b", "qty_b", "amount", "state"),
    "purchases": ("user_id", "sku", "units"),
    "payments": ("id", "order_id", "amount"),
    "releases": ("id", "order_id"),
}
_SMALL = frozenset({"sku", "bucket", "available", "user_id", "sku_a", "qty_a", "sku_b", "qty_b", "state", "units"})
"""Columns of 32 bits in the database: sums of them cannot overflow."""
_MOST_SMALL, _MOST_AMOUNT = 2**31 - 1, 2**48
"""Sums of amounts stay below 2^63 for any table that fits into memory."""
_AMOUNTS = frozenset({"amount", "price", "version"})


@dataclass(frozen=True, slots=True)
class Strangers:
    """Rows of ``stock`` that are none of the shop's: of a SKU or bucket outside the plan, or there a second time."""

    sku: NDArray[np.int64]
    bucket: NDArray[np.int64]
    available: NDArray[np.int64]
    twice: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Stock:
    """The stock by row number (``sku * buckets + bucket``). ``gone`` marks rows that the table lacks."""

    available: NDArray[np.int64]
    version: NDArray[np.int64]
    price: NDArray[np.int64]
    gone: NDArray[np.bool_]
    strangers: Strangers


@dataclass(frozen=True, slots=True)
class Orders:
    """The rows of ``orders``. ``at`` is the position among the numbers asked of a row's id, or -1."""

    id: NDArray[np.int64]
    token: NDArray[np.int64]
    user_id: NDArray[np.int64]
    sku_a: NDArray[np.int64]
    qty_a: NDArray[np.int64]
    sku_b: NDArray[np.int64]
    qty_b: NDArray[np.int64]
    amount: NDArray[np.int64]
    state: NDArray[np.int64]
    at: NDArray[np.int64]
    genuine: NDArray[np.bool_]
    """The row of its number: a load process received the id, the token is that number's, and no earlier row has this
    id."""
    unheard: NDArray[np.bool_]
    """The id is not in the history, and yet the token is the one of that number. A part of the history is therefore
    missing, and the row proves nothing."""
    row_of: NDArray[np.int64]
    """By number asked: the position of its genuine row, or -1."""
    other_lines: NDArray[np.int64]
    """The positions of genuine rows that hold other SKUs or units than were asked for."""

    @property
    def live(self) -> NDArray[np.bool_]:
        """Whether a row holds its units: reserved or paid."""
        return np.asarray((self.state == State.RESERVED) | (self.state == State.PAID))


@dataclass(frozen=True, slots=True)
class Purchases:
    """The rows of ``purchases``: how many units each shopper has claimed of each SKU."""

    user_id: NDArray[np.int64]
    sku: NDArray[np.int64]
    units: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Payments:
    """The rows of ``payments``. ``at`` is the position among the numbers asked of a row's order, or -1."""

    id: NDArray[np.int64]
    order_id: NDArray[np.int64]
    amount: NDArray[np.int64]
    at: NDArray[np.int64]
    by_number: NDArray[np.bool_]
    """By number asked: whether there is a payment for it."""


@dataclass(frozen=True, slots=True)
class Releases:
    """The rows of ``releases``: one for each order that was cancelled or whose hold was released.

    ``kind`` is the op's, by the row's id; -1 where the id is not one that an op of this order writes.
    """

    id: NDArray[np.int64]
    order_id: NDArray[np.int64]
    kind: NDArray[np.int64]
    at: NDArray[np.int64]
    by_kind: Mapping[Kind, NDArray[np.bool_]]
    """By kind and number asked: whether the row that its op writes is there."""


@dataclass(frozen=True, slots=True)
class Final:
    """The final reads. A table that was not read whole is None, and ``missing`` says why.

    One that the server said was ``gone`` held nothing any more: it is there, and empty.
    """

    stock: Stock | None
    orders: Orders | None
    purchases: Purchases | None
    payments: Payments | None
    releases: Releases | None
    missing: Mapping[str, str]
    gone: Mapping[str, str]
    """Dropped tables, and the server's message about each."""

    def lack(self, *tables: str) -> str:
        """Why one of ``tables`` cannot be judged; empty if all can."""
        return next((self.missing[table] for table in tables if table in self.missing), "")


def read_final(history: History, asked: Asked, plan: Plan, *, whole: bool = False) -> Final:
    """The final reads of a run. Never raises on what they hold. ``whole``: no order is unheard (see Orders)."""
    tables: dict[str, Columns] = {}
    missing: dict[str, str] = {}
    for name, columns in _COLUMNS.items():
        table = history.final.get(name)
        problem = "there is no final read of it" if table is None else _problem(table, columns)
        if f"final.{name}" in history.damaged:
            problem = "its final read was not stored whole"
        if table is None or problem:
            missing[name] = f"the table {name} cannot be judged: {problem}"
        else:
            tables[name] = {column: _bounded(column, table[column]) for column in columns}
    said = {name: history.final_facts.get(name, {}).get("gone", "") for name in tables}
    return Final(
        stock=_stock(tables["stock"], plan) if "stock" in tables else None,
        orders=_orders(tables["orders"], asked, plan, whole=whole) if "orders" in tables else None,
        purchases=Purchases(**tables["purchases"]) if "purchases" in tables else None,
        payments=_payments(tables["payments"], asked) if "payments" in tables else None,
        releases=_releases(tables["releases"], asked) if "releases" in tables else None,
        missing=missing,
        gone={name: reason for name, reason in said.items() if reason},
    )


def _problem(table: Columns, columns: tuple[str, ...]) -> str:
    wrong = [name for name in columns if name not in table or table[name].dtype.kind not in "iu"]
    if wrong:
        return f"its final read lacks {', '.join(wrong)}"
    if len({len(table[name]) for name in columns}) != 1:
        return "its columns differ in length"
    return ""


def _bounded(name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """The column, with values outside its type moved to the bounds. No value of a run is there."""
    values = values.astype(np.int64, copy=False)
    most = _MOST_SMALL if name in _SMALL else _MOST_AMOUNT if name in _AMOUNTS else 2**63 - 1
    if most == 2**63 - 1 or not len(values) or -most <= int(values.min()) <= int(values.max()) <= most:
        return values
    return values.clip(-most, most)


def _stock(table: Columns, plan: Plan) -> Stock:
    sku, bucket = table["sku"], table["bucket"]
    ours = (sku >= 0) & (sku < plan.skus) & (bucket >= 0) & (bucket < plan.buckets)
    rows = sku * plan.buckets + bucket
    size = plan.skus * plan.buckets
    first = np.zeros(len(rows), dtype=bool)
    first[np.unique(np.where(ours, rows, -1), return_index=True)[1]] = True
    kept = ours & first
    values = {}
    for name in ("available", "version", "price"):
        values[name] = np.zeros(size, dtype=np.int64)
        values[name][rows[kept]] = table[name][kept]
    gone = np.ones(size, dtype=bool)
    gone[rows[kept]] = False
    strangers = Strangers(sku[~kept], bucket[~kept], table["available"][~kept], twice=ours[~kept])
    return Stock(**values, gone=gone, strangers=strangers)


def _orders(table: Columns, asked: Asked, plan: Plan, *, whole: bool) -> Orders:
    at = asked.index.find(table["id"])
    own_token = tokens(plan.seed, table["id"]) == table["token"]
    genuine = (at >= 0) & own_token
    if len(at):
        genuine[genuine] = asked.kind[at[genuine]] == Kind.ORDER
    row_of = np.full(len(asked.number), -1, dtype=np.int64)
    rows = np.flatnonzero(genuine)
    # Written backwards, so that the first of several rows with one id stays.
    row_of[at[rows[::-1]]] = rows[::-1]
    genuine[rows] = row_of[at[rows]] == rows
    rows = rows if len(rows) == np.count_nonzero(genuine) else np.flatnonzero(genuine)
    numbers, differs = at[rows], np.zeros(len(rows), dtype=bool)
    for name in ("sku_a", "qty_a", "sku_b", "qty_b"):
        differs |= table[name][rows] != getattr(asked, name)[numbers]
    return Orders(
        **table,
        at=at,
        genuine=genuine,
        unheard=(at < 0) & own_token & (table["id"] >= 0) & (not whole),
        row_of=row_of,
        other_lines=rows[differs],
    )


def _payments(table: Columns, asked: Asked) -> Payments:
    at = asked.index.find(table["order_id"])
    by_number = np.zeros(len(asked.number), dtype=bool)
    by_number[at[at >= 0]] = True
    return Payments(**table, at=at, by_number=by_number)


def _releases(table: Columns, asked: Asked) -> Releases:
    kind = np.where(table["id"] // len(Kind) == table["order_id"], table["id"] % len(Kind), -1)
    kind = np.where((kind == Kind.CANCEL) | (kind == Kind.RELEASE), kind, -1)
    at = asked.index.find(table["order_id"])
    by_kind = {}
    for which in (Kind.CANCEL, Kind.RELEASE):
        by_kind[which] = np.zeros(len(asked.number), dtype=bool)
        by_kind[which][at[(at >= 0) & (kind == which)]] = True
    return Releases(**table, kind=kind, at=at, by_kind=by_kind)


def lines_of(orders: Orders, chosen: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The lines of the rows ``chosen`` (a mask): the position of the row, its SKU, and its units."""
    first = np.flatnonzero(chosen)
    second = np.flatnonzero(chosen & (orders.sku_b >= 0))
    return (
        np.concatenate((first, second)),
        np.concatenate((orders.sku_a[first], orders.sku_b[second])),
        np.concatenate((orders.qty_a[first], orders.qty_b[second])),
    )
