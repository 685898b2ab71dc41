"""Units by SKU: what the final rows and the acknowledgements say is live, available, or kept."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.checks.asked import Fate
from loadgen.checks.books import Books
from loadgen.checks.final import lines_of
from loadgen.sale import Kind


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


def total(place: NDArray[Any], units: NDArray[Any], size: int) -> NDArray[np.int64]:
    """The sum of ``units`` by ``place``."""
    # Sums of 32-bit units over any table that fits into memory stay below 2^53, where doubles are exact.
    return np.bincount(place, weights=units, minlength=size).astype(np.int64)


def repeated(values: NDArray[Any]) -> NDArray[np.int64]:
    """The positions of values that also stand at an earlier position."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return np.sort(order[1:][ordered[1:] == ordered[:-1]])
