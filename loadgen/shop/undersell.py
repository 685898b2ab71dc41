"""Undersell: units that were left although buyers were refused. It is a figure of quality, never a violation.

When an order was refused a SKU, each of its stock rows held, at some instant after the order was sent, fewer units than
the order asked for. So what a row holds at the end is at most (asked - 1), a *fragment*, plus the units that
cancellations and releases may have given back after that instant: those acknowledged after the order was sent, and
those with an unknown outcome. Every refusal gives such a bound, and the least one counts. Units beyond it have no known
cause: a correct store and strategy has none.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.shop.asked import Fate
from loadgen.shop.books import Books
from loadgen.shop.counting import total
from loadgen.shop.sale import Kind

RETURNED, FRAGMENT, UNKNOWN = "returned after the last refusal", "smaller than what was asked", "unknown"
"""The causes, as design and report name them."""


def undersell(books: Books) -> dict[str, Any] | None:
    """``{"units", "causes": {cause: units}}`` over the SKUs with a refused order; None without final reads."""
    stock, plan = books.final.stock, books.plan
    if stock is None or books.final.releases is None:
        return None
    refused = np.zeros(plan.skus, dtype=bool)
    refused[books.refusals.sku] = True
    left = np.where(np.repeat(refused, plan.buckets), np.maximum(stock.available, 0), 0)
    fragment, returned = _bounds(books)
    from_returns = np.minimum(left, returned)
    from_fragment = np.minimum(left - from_returns, fragment)
    causes = {RETURNED: from_returns, FRAGMENT: from_fragment, UNKNOWN: left - from_returns - from_fragment}
    return {"units": int(left.sum()), "causes": {cause: int(units.sum()) for cause, units in causes.items()}}


def _bounds(books: Books) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By row: the largest fragment, and the units returned, of the refusal whose sum of the two is least."""
    refusals, asked, plan = books.refusals, books.asked, books.plan
    units = np.where(asked.sku_a[refusals.who] == refusals.sku, asked.qty_a[refusals.who], asked.qty_b[refusals.who])
    boot = np.asarray(books.times.boots)[refusals.process] if len(units) else np.empty(0, np.int64)
    best = np.full(books.rows, np.iinfo(np.int64).max)
    fragment, returned = np.zeros(books.rows, np.int64), np.zeros(books.rows, np.int64)
    # What is returned after a refusal only falls the later it was sent, so of equal ones the last is enough.
    for asked_units, clock in sorted(set(zip(units.tolist(), boot.tolist(), strict=True))):
        chosen = (units == asked_units) & (boot == clock)
        last = np.full(plan.skus, -1, dtype=np.int64)
        np.maximum.at(last, refusals.sku[chosen], refusals.sent[chosen])
        came_back = _returned_since(books, np.repeat(last, plan.buckets), clock)
        bound = np.where(np.repeat(last, plan.buckets) >= 0, came_back + asked_units - 1, best)
        least = bound < best
        best[least], fragment[least], returned[least] = bound[least], asked_units - 1, came_back[least]
    return fragment, returned


def _returned_since(books: Books, since: NDArray[np.int64], clock: int) -> NDArray[np.int64]:
    """By row: the units given back that may have come after ``since`` (by row, on the clock of boot ``clock``)."""
    writes, asked, plan = books.writes, books.asked, books.plan
    back = np.flatnonzero((writes.kind == Kind.CANCEL) | (writes.kind == Kind.RELEASE))
    other_clock = np.asarray(books.times.boots)[writes.process[back]] != clock if len(back) else np.empty(0, bool)
    back = back[other_clock | (writes.done[back] >= since[writes.row[back]])]
    who, row = writes.who[back], writes.row[back]
    units = np.where(asked.sku_a[who] == row // plan.buckets, asked.qty_a[who], asked.qty_b[who])
    counts = total(row, units, books.rows)
    assert books.final.releases is not None
    for kind, there in books.final.releases.by_kind.items():
        open_ended = np.flatnonzero((asked.fates[kind] == Fate.INFO) & there)
        for sku, qty in ((asked.sku_a, asked.qty_a), (asked.sku_b, asked.qty_b)):
            named = open_ended[sku[open_ended] >= 0]
            row = sku[named].astype(np.int64) * plan.buckets + asked.number[named] % plan.buckets
            counts += total(row, qty[named], books.rows)
    return counts
