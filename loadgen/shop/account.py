"""The account of versions: how many writes each stock row must have seen, from acknowledgements and final rows.

Every ``info`` op is resolved by the final rows, because a transaction leaves all of its rows or none: an ``info``
order that is in ``orders`` did commit, one that is not never will, and the row in ``releases`` says the same of a
cancellation or a release. So the final version of a stock row must equal the number of writes that committed on it:
the acknowledged ones, which know their versions, and one for each ``info`` op that the final rows show. (Which bucket
an ``info`` order took its units from nobody knows: those are accounted by SKU.)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.plan import Plan
from loadgen.shop.asked import Asked, Fate
from loadgen.shop.final import Final
from loadgen.shop.sale import Kind
from loadgen.shop.writes import Writes


@dataclass(frozen=True, slots=True)
class Versions:
    """The account of the stock rows' versions. Arrays are by row unless said otherwise."""

    final: NDArray[np.int64]
    """The version at the end."""
    unheard: NDArray[np.int64]
    """How many versions up to it no acknowledged write has."""
    standing: NDArray[np.int64]
    """How many acknowledged writes have their effect in the tables."""
    open_writes: NDArray[np.int64]
    """How many ``info`` ops wrote it: cancellations and releases; orders too, where a SKU has one row only."""
    open_orders: NDArray[np.int64]
    """By SKU: how many ``info`` orders wrote one of its rows. All 0 where a SKU has one row only."""
    stands: NDArray[np.bool_]
    """By write: whether its effect is in the tables: its order, or its row in ``releases``."""
    first: NDArray[np.bool_]
    """By write: whether it is the first one with its version of its row."""


def version_account(plan: Plan, asked: Asked, writes: Writes, final: Final) -> Versions | None:
    """The account; None without ``stock``, ``orders`` or ``releases``."""
    stock, orders, releases = final.stock, final.orders, final.releases
    if stock is None or orders is None or releases is None:
        return None
    rows = plan.skus * plan.buckets
    first = np.concatenate(([True], writes.key[1:] != writes.key[:-1]))[: len(writes.key)]
    within = first & (writes.wrote <= stock.version[writes.row])
    stands = orders.row_of[writes.who] >= 0
    open_writes = np.zeros(rows, dtype=np.int64)
    for kind, there in releases.by_kind.items():
        mine = writes.kind == kind
        stands[mine] = there[writes.who[mine]]
        open_writes += _given_back(plan, asked, (asked.fates[kind] == Fate.INFO) & there)
    open_orders = _ordered(plan, asked, (asked.fates[Kind.ORDER] == Fate.INFO) & (orders.row_of >= 0))
    if plan.buckets == 1:
        open_writes, open_orders = open_writes + open_orders, np.zeros_like(open_orders)
    return Versions(
        final=stock.version,
        unheard=np.maximum(stock.version, 0) - np.bincount(writes.row[within], minlength=rows),
        standing=np.bincount(writes.row[stands], minlength=rows),
        open_writes=open_writes,
        open_orders=open_orders,
        stands=stands,
        first=first,
    )


def _ordered(plan: Plan, asked: Asked, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """By SKU: how many of the orders ``chosen`` name it."""
    skus = np.concatenate((asked.sku_a[chosen], asked.sku_b[chosen & (asked.sku_b >= 0)]))
    return np.bincount(skus, minlength=plan.skus)


def _given_back(plan: Plan, asked: Asked, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """By row: how many of the orders ``chosen`` gave units back to it: to the bucket of their number."""
    counts = np.zeros(plan.skus * plan.buckets, dtype=np.int64)
    for skus in (asked.sku_a, asked.sku_b):
        named = np.flatnonzero(chosen & (skus >= 0))
        rows = skus[named].astype(np.int64) * plan.buckets + asked.number[named] % plan.buckets
        counts += np.bincount(rows, minlength=len(counts))
    return counts
