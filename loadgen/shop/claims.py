"""What shoppers claim and hold of each SKU: ``purchases`` beside the orders, one row for each shopper and SKU.

An order claims its units in its own transaction and its cancellation gives them back, so a claim is the sum of the live
orders; and because no row is ever deleted, there is one exactly where some order of that shopper and SKU was placed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.shop.asked import Asked
from loadgen.shop.counting import total
from loadgen.shop.final import Final, lines_of
from loadgen.shop.sale import Kind

_USER = 2**32
"""A user and a SKU, of 32 bits each, as one number."""


@dataclass(frozen=True, slots=True)
class Claims:
    """By shopper and SKU, of all that hold or claim anything: what they hold, and what they have claimed."""

    key: NDArray[np.int64]
    """Shopper and SKU as one number, ascending."""
    holds: NDArray[np.int64]
    """Units in live orders."""
    claimed: NDArray[np.int64]
    """Units in ``purchases``; the same as ``holds`` where that was not read."""
    unclaimed: NDArray[np.int64]
    """Keys of orders that were given back and have left no row in ``purchases``."""
    ghosts: NDArray[np.int64]
    """The positions of rows of ``purchases`` that no order can have made."""


def claim_account(asked: Asked, final: Final) -> Claims | None:
    """The account; None without ``orders``."""
    orders, purchases = final.orders, final.purchases
    if orders is None:
        return None
    position, skus, units = lines_of(orders, orders.live)
    held = claim_key(orders.user_id[position], skus)
    position, skus, _ = lines_of(orders, ~orders.live)
    dead = claim_key(orders.user_id[position], skus)
    rows = np.empty(0, np.int64) if purchases is None else claim_key(purchases.user_id, purchases.sku)
    key, place = np.unique(np.concatenate((held, dead, rows)), return_inverse=True)
    of_held, of_dead, of_row = np.split(place, (len(held), len(held) + len(dead)))
    holds = total(of_held, units, len(key))
    if purchases is None:
        return Claims(key, holds, holds, rows, rows)
    there, explained = np.zeros(len(key), dtype=bool), np.zeros(len(key), dtype=bool)
    there[of_row] = True
    explained[of_held] = explained[of_dead] = True
    genuine = of_dead[orders.genuine[position]]
    strange = _unasked(asked, rows, np.flatnonzero(~explained[of_row]))
    return Claims(
        key=key,
        holds=holds,
        claimed=total(of_row, purchases.units, len(key)),
        unclaimed=key[np.unique(genuine[~there[genuine]])],
        ghosts=strange if np.count_nonzero(there) == len(rows) else np.union1d(strange, _second(rows)),
    )


def claim_key(user: NDArray[np.int64], sku: NDArray[np.int64]) -> NDArray[np.int64]:
    """A user and a SKU as one number."""
    return user * _USER + sku


def claims_of(asked: Asked, who: NDArray[np.int64], sku: NDArray[np.int32]) -> NDArray[np.int64]:
    """The keys of the numbers at ``who`` for their ``sku`` (a column of ``asked``)."""
    return claim_key(asked.user[who].astype(np.int64), sku[who].astype(np.int64))


def user_and_sku(key: int) -> tuple[int, int]:
    """The user and the SKU of a key."""
    sku = (key + 2**31) % _USER - 2**31
    return (key - sku) // _USER, sku


def _unasked(asked: Asked, rows: NDArray[np.int64], strange: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the ``strange`` positions of ``rows`` that no order which may have been placed asked for either.

    An order's row may have been changed. The claim then agrees with what the order asked for.
    """
    if not len(strange):
        return strange
    wanted = np.flatnonzero(asked.may_have_happened(Kind.ORDER))
    keys = [claims_of(asked, wanted[sku[wanted] >= 0], sku) for sku in (asked.sku_a, asked.sku_b)]
    return np.asarray(strange[~np.isin(rows[strange], np.concatenate(keys))])


def _second(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions of keys that an earlier row has."""
    order = np.argsort(rows, kind="stable")
    return np.asarray(order[1:][rows[order[1:]] == rows[order[:-1]]])
