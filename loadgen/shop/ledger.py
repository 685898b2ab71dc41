"""The shop's books of stock and orders: initial = available + reserved + sold, no order without its deduction.

Each check takes the books and gives a Finding. A correct store, at any load and with any number of ``info`` ops, never
makes one of them find anything: account.py says why the final rows resolve every ``info``.
"""

import numpy as np
from numpy.typing import NDArray

from loadgen.shop.account import Versions
from loadgen.shop.asked import Fate
from loadgen.shop.books import MOST_WITNESSES, Books, ending_named, found, order_named, row_named
from loadgen.shop.claims import user_and_sku
from loadgen.shop.counting import repeated
from loadgen.shop.final import Orders, lines_of
from loadgen.shop.sale import Kind
from loadgen.shop.units import available_units, gone_skus, kept_units, live_units, moved_units
from loadgen.verdict import Finding


def oversell(books: Books) -> Finding:
    """More units are in live orders than there were at the start. Counts units.

    Proved by the final rows, or by acknowledgements alone: acknowledged orders that no op can have given back hold more
    than there was, even if their rows are gone.
    """
    initial = books.plan.stock
    sold = kept_units(books)
    if books.final.orders is not None:
        sold = np.maximum(sold, live_units(books))
    over = np.maximum(sold - initial, 0)
    witnesses = tuple(
        f"SKU {sku}: {sold[sku]} units are in live orders, and there were only {initial}: {over[sku]} too many"
        for sku in np.flatnonzero(over)[:MOST_WITNESSES]
    )
    return Finding("oversell", int(over.sum()), witnesses, unknown=books.final.lack("orders"))


def negative_stock(books: Books) -> Finding:
    """A stock row ends below zero."""
    stock = books.final.stock
    if stock is None:
        return Finding("negative-stock", unknown=books.final.lack("stock"))
    return found(
        "negative-stock",
        (
            np.flatnonzero(stock.available < 0),
            lambda row: (
                f"{row_named(books, row)}: {stock.available[row]} units are available at the end "
                f"(version {stock.version[row]})"
            ),
        ),
    )


def stock_not_conserved(books: Books) -> Finding:
    """Available, reserved and sold units of a SKU, or of one of its buckets, do not add up to the initial stock."""
    stock = books.final.stock
    if stock is None or books.final.orders is None:
        return Finding("stock-not-conserved", unknown=books.final.lack("stock", "orders"))
    initial, available, live = books.plan.stock, available_units(books), live_units(books)
    off = available + live - initial
    gone = gone_skus(books)

    def describe(sku: int) -> str:
        lost = " (and its stock row is gone)" if gone[sku] else ""
        return (
            f"SKU {sku}: {available[sku]} available + {live[sku]} in live orders = {available[sku] + live[sku]} units, "
            f"and there were {initial}: {abs(off[sku])} {'too many' if off[sku] > 0 else 'are missing'}{lost}"
        )

    moved = moved_units(books, (off == 0) & ~gone)
    finding = found(
        "stock-not-conserved",
        (np.flatnonzero((off != 0) | gone), describe),
        (
            np.flatnonzero(moved),
            lambda row: (
                f"{row_named(books, row)}: {stock.available[row]} units are available at the end, {abs(moved[row])} "
                f"{'more' if moved[row] > 0 else 'fewer'} than its orders and returns leave"
            ),
        ),
    )
    return Finding(finding.name, finding.anomalies, finding.witnesses, unknown=books.final.lack("releases"))


def order_without_deduction(books: Books) -> Finding:
    """An order holds units that were never taken from stock. Counts orders, or SKUs if no order can be named.

    An order can be named if its row holds more than was asked for, or if no op asked for it and either its SKU's stock
    does not account for it or its stock row has no version left for its deduction.
    """
    orders, versions = books.final.orders, books.versions
    if orders is None or versions is None:
        return Finding("order-without-deduction", unknown=books.final.lack("stock", "orders", "releases"))
    available, live = available_units(books), live_units(books)
    short = (live - (books.plan.stock - available) > 0) & ~gone_skus(books)
    suspects = np.flatnonzero(_unasked(books, orders) & orders.live)
    guilty = _rows_naming(orders, suspects, short | ~_room(books, versions))
    grown = _changed(books, orders, more=True)
    rows = np.union1d(guilty, grown)
    named = np.zeros(books.plan.skus, dtype=bool)
    _, skus, _ = lines_of(orders, np.isin(np.arange(len(orders.id)), rows))
    named[skus[(skus >= 0) & (skus < books.plan.skus)]] = True
    return found(
        "order-without-deduction",
        (rows, lambda row: f"{row_of_orders(orders, row)}, and no write of the stock is its deduction"),
        (
            np.flatnonzero(short & ~named),
            lambda sku: (
                f"SKU {sku}: live orders hold {live[sku]} units, and only {books.plan.stock} - {available[sku]} "
                f"= {books.plan.stock - available[sku]} were deducted"
            ),
        ),
    )


def deduction_without_order(books: Books) -> Finding:
    """Units were taken from stock and are in no order. Counts orders, or SKUs if no order can be named.

    An order can be named if it was acknowledged and is gone while its write still is the one of its version, or if
    its row holds less than was asked for.
    """
    orders, versions, writes, asked = books.final.orders, books.versions, books.writes, books.asked
    if orders is None or versions is None:
        return Finding("deduction-without-order", unknown=books.final.lack("stock", "orders", "releases"))
    available, live = available_units(books), live_units(books)
    beyond = ((books.plan.stock - available) - live > 0) & ~gone_skus(books)
    alone = versions.first & np.concatenate((versions.first[1:], [True]))[: len(versions.first)]
    intact = (writes.kind == Kind.ORDER) & ~versions.stands & alone & (writes.wrote <= versions.final[writes.row])
    given_back = asked.may_have_happened(Kind.CANCEL) | asked.may_have_happened(Kind.RELEASE)
    lost_writes = np.flatnonzero(intact)
    lost_writes = lost_writes[~given_back[writes.who[lost_writes]]]
    lost = writes.who[lost_writes]
    shrunk = _changed(books, orders, more=False)
    named = np.zeros(books.plan.skus, dtype=bool)
    for skus in (asked.sku_a[lost], asked.sku_b[lost], asked.sku_a[orders.at[shrunk]], asked.sku_b[orders.at[shrunk]]):
        named[skus[skus >= 0]] = True
    return found(
        "deduction-without-order",
        (
            lost_writes,
            lambda index: (
                f"{order_named(books, int(writes.who[index]))} deducted {row_named(books, writes.row[index])} at "
                f"version {writes.wrote[index]}, and is not in orders"
            ),
        ),
        (shrunk, lambda row: f"{row_of_orders(orders, row)}, less than was deducted for it"),
        (
            np.flatnonzero(beyond & ~named),
            lambda sku: (
                f"SKU {sku}: {books.plan.stock} - {available[sku]} = {books.plan.stock - available[sku]} units were "
                f"deducted, and live orders hold only {live[sku]}"
            ),
        ),
    )


def duplicate_token(books: Books) -> Finding:
    """One order was carried out twice: its idempotency token is in more than one order."""
    orders = books.final.orders
    if orders is None:
        return Finding("duplicate-token", unknown=books.final.lack("orders"))

    def describe(row: int) -> str:
        ids = orders.id[orders.token == orders.token[row]]
        return f"token {orders.token[row]} is in orders {', '.join(map(str, ids))}"

    return found("duplicate-token", (repeated(orders.token), describe))


def user_limit(books: Books) -> Finding:
    """A shopper holds more units of a SKU than the limit, or ``purchases`` shows another number than the orders."""
    orders, claims, limit = books.final.orders, books.claims, books.plan.user_limit
    if orders is None or claims is None:
        return Finding("user-limit", unknown=books.final.lack("orders"))
    wrong = np.flatnonzero((claims.holds > limit) | (claims.claimed > limit) | (claims.holds != claims.claimed))
    wrong = wrong[np.argsort(-np.maximum(claims.holds, claims.claimed)[wrong], kind="stable")]

    def describe(key: int) -> str:
        user, sku = user_and_sku(int(claims.key[key]))
        mine = (orders.user_id == user) & orders.live & ((orders.sku_a == sku) | (orders.sku_b == sku))
        ids = ", ".join(map(str, orders.id[mine][:MOST_WITNESSES]))
        return (
            f"user {user} holds {claims.holds[key]} units of SKU {sku} in live orders{f' ({ids})' if ids else ''} and "
            f"has claimed {claims.claimed[key]} of the {limit} that one may"
        )

    def describe_unclaimed(index: int) -> str:
        user, sku = user_and_sku(int(claims.unclaimed[index]))
        return f"user {user} ordered SKU {sku} and gave it back, and has no row for it in purchases"

    finding = found("user-limit", (wrong, describe), (np.arange(len(claims.unclaimed)), describe_unclaimed))
    return Finding(finding.name, finding.anomalies, finding.witnesses, unknown=books.final.lack("purchases"))


def lost_order(books: Books) -> Finding:
    """An order was acknowledged and is not in the tables at the end."""
    orders, asked = books.final.orders, books.asked
    if orders is None:
        return Finding("lost-order", unknown=books.final.lack("orders"))

    def describe(at: int) -> str:
        writes = books.writes
        mine = np.flatnonzero((writes.who == at) & (writes.kind == Kind.ORDER))
        wrote = ", ".join(f"{row_named(books, writes.row[index])} version {writes.wrote[index]}" for index in mine)
        return (
            f"{order_named(books, at)} was {ending_named(books, at, Kind.ORDER)} (it wrote {wrote}), "
            "and is not in orders at the end"
        )

    return found("lost-order", (np.flatnonzero((asked.fates[Kind.ORDER] == Fate.DONE) & (orders.row_of < 0)), describe))


def row_of_orders(orders: Orders, row: int) -> str:
    """``row 17 of orders (token 123, user 5) holds 1 × SKU 3``."""
    lines = f"{orders.qty_a[row]} × SKU {orders.sku_a[row]}"
    if orders.sku_b[row] >= 0:
        lines += f" + {orders.qty_b[row]} × SKU {orders.sku_b[row]}"
    return f"row {orders.id[row]} of orders (token {orders.token[row]}, user {orders.user_id[row]}) holds {lines}"


def _unasked(books: Books, orders: Orders) -> NDArray[np.bool_]:
    """By row: whether no op that may have happened wrote it."""
    wanted = np.zeros(len(orders.id), dtype=bool)
    wanted[orders.genuine] = books.asked.may_have_happened(Kind.ORDER)[orders.at[orders.genuine]]
    return np.asarray(~wanted & ~orders.unheard)


def _room(books: Books, versions: Versions) -> NDArray[np.bool_]:
    """By SKU: whether its rows have a version that no known op wrote, so that an unknown one may have."""
    spare = (versions.unheard - versions.open_writes).reshape(books.plan.skus, books.plan.buckets).sum(axis=1)
    return np.asarray(spare - versions.open_orders > 0)


def _rows_naming(orders: Orders, rows: NDArray[np.int64], skus: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Those of ``rows`` that name at least one of ``skus`` (a mask)."""
    naming = np.zeros(len(rows), dtype=bool)
    for column in (orders.sku_a, orders.sku_b):
        inside = (column[rows] >= 0) & (column[rows] < len(skus))
        naming[inside] |= skus[column[rows[inside]]]
    return rows[naming]


def _changed(books: Books, orders: Orders, *, more: bool) -> NDArray[np.int64]:
    """The rows that hold more (or less) of some SKU than their op asked for."""
    asked = books.asked
    rows = orders.other_lines
    changed = []
    for row, number in zip(rows.tolist(), orders.at[rows].tolist(), strict=True):
        holds = {orders.sku_a[row]: orders.qty_a[row], orders.sku_b[row]: orders.qty_b[row]}
        wanted = {asked.sku_a[number]: asked.qty_a[number], asked.sku_b[number]: asked.qty_b[number]}
        large, small = (holds, wanted) if more else (wanted, holds)
        if any(sku >= 0 and units > small.get(sku, 0) for sku, units in large.items()):
            changed.append(row)
    return np.array(changed, dtype=np.int64)
