"""Units by SKU: what the final rows and the acknowledgements say is live, available, or kept."""

import numpy as np
from numpy.typing import NDArray

from loadgen.shop.asked import Fate
from loadgen.shop.books import Books
from loadgen.shop.counting import total
from loadgen.shop.final import lines_of
from loadgen.shop.sale import MOST_UNITS, Kind, bucket_stock


def live_units(books: Books) -> NDArray[np.int64]:
    """By SKU: the units in live rows of ``orders``, which must be there."""
    orders = books.final.orders
    assert orders is not None
    _, sku, units = lines_of(orders, orders.live)
    inside = (sku >= 0) & (sku < books.plan.skus)
    return total(sku[inside], units[inside], books.plan.skus)


def available_units(books: Books) -> NDArray[np.int64]:
    """By SKU: what ``stock``, which must be there, says is available."""
    assert books.final.stock is not None
    return np.asarray(books.final.stock.available.reshape(books.plan.skus, books.plan.buckets).sum(axis=1))


def gone_skus(books: Books) -> NDArray[np.bool_]:
    """By SKU: whether ``stock``, which must be there, lacks one of its rows."""
    assert books.final.stock is not None
    return np.asarray(books.final.stock.gone.reshape(books.plan.skus, books.plan.buckets).any(axis=1))


def moved_units(books: Books, skus: NDArray[np.bool_]) -> NDArray[np.int64]:
    """By row of a SKU of ``skus`` that has several: the units that it has more (or less) than can be.

    An acknowledged order says which bucket it took its units from, and what is given back goes to the bucket of the
    order's number. The bucket of an ``info`` order is unknown, but the versions say how many ``info`` orders used a
    bucket, and each took one or two units there. If the history lacks orders, nothing can be said.
    """
    plan, asked, versions, stock, releases = (
        books.plan, books.asked, books.versions, books.final.stock, books.final.releases
    )  # fmt: skip
    whole = books.final.orders is not None and not books.final.orders.unheard.any()
    if plan.buckets == 1 or not whole or versions is None or stock is None or releases is None:
        return np.zeros(books.rows, dtype=np.int64)
    writes = books.writes
    ordered = np.flatnonzero((writes.kind == Kind.ORDER) & versions.stands)
    expected = np.tile([bucket_stock(plan, bucket) for bucket in range(plan.buckets)], plan.skus)
    expected -= total(writes.row[ordered], _units_of(books, writes.who[ordered], writes.row[ordered]), books.rows)
    for there in releases.by_kind.values():
        for sku in (asked.sku_a, asked.sku_b):
            back = np.flatnonzero(there & (sku >= 0))
            row = sku[back].astype(np.int64) * plan.buckets + asked.number[back] % plan.buckets
            expected += total(row, _units_of(books, back, row), books.rows)
    taken = expected - stock.available
    unknown = np.maximum(versions.unheard - versions.open_writes, 0)
    most = max(1, min(MOST_UNITS, plan.user_limit))
    less, more = np.minimum(taken - unknown, 0), np.maximum(taken - most * unknown, 0)
    return np.where(np.repeat(skus, plan.buckets), -less - more, 0)


def _units_of(books: Books, who: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.int32]:
    """The units that each of ``who`` asked for of the SKU of its ``row``."""
    asked = books.asked
    return np.where(asked.sku_a[who] == row // books.plan.buckets, asked.qty_a[who], asked.qty_b[who])


def kept_units(books: Books) -> NDArray[np.int64]:
    """By SKU: the units in orders that were acknowledged and cannot have been given back."""
    asked = books.asked
    kept = asked.fates[Kind.ORDER] == Fate.DONE
    kept &= ~asked.may_have_happened(Kind.CANCEL) & ~asked.may_have_happened(Kind.RELEASE)
    basket = kept & (asked.sku_b >= 0)
    return total(
        np.concatenate((asked.sku_a[kept], asked.sku_b[basket])),
        np.concatenate((asked.qty_a[kept], asked.qty_b[basket])),
        books.plan.skus,
    )
