"""The till: every payment is for one order, once, of its amount, and what was paid is never given back."""

import numpy as np
from numpy.typing import NDArray

from loadgen.shop.asked import Fate, Index
from loadgen.shop.books import Books, ending_named, found, order_named
from loadgen.shop.counting import repeated
from loadgen.shop.final import Orders, Payments
from loadgen.shop.sale import FOLLOW_UPS, Kind, State, price
from loadgen.verdict import Finding


def lost_payment(books: Books) -> Finding:
    """A payment was acknowledged, or an order's state proves it, and it is not in the tables at the end."""
    payments, orders, asked = books.final.payments, books.final.orders, books.asked
    if payments is None:
        return Finding("lost-payment", unknown=books.final.lack("payments"))
    acknowledged = (asked.fates[Kind.PAY] == Fate.DONE) & ~payments.by_number
    shown = np.zeros(len(asked.number), dtype=bool)
    if orders is not None:
        paid = orders.at[orders.genuine & (orders.state == State.PAID)]
        shown[paid] = (asked.fates[Kind.PAY][paid] == Fate.INFO) & ~payments.by_number[paid]
    return found(
        "lost-payment",
        (
            np.flatnonzero(acknowledged),
            lambda at: (
                f"the payment of {asked.amount[at]} for {order_named(books, at)} was "
                f"{ending_named(books, at, Kind.PAY)}, and is not in payments at the end"
            ),
        ),
        (
            np.flatnonzero(shown),
            lambda at: (
                f"{order_named(books, at)} is paid, and its payment of {asked.amount[at]} is not in payments "
                f"(the pay was {ending_named(books, at, Kind.PAY)})"
            ),
        ),
    )


def double_payment(books: Books) -> Finding:
    """An order was paid more than once."""
    payments = books.final.payments
    if payments is None:
        return Finding("double-payment", unknown=books.final.lack("payments"))

    def describe(row: int) -> str:
        ids = payments.id[payments.order_id == payments.order_id[row]]
        return f"order {payments.order_id[row]} has {len(ids)} payments: {', '.join(map(str, ids))}"

    return found("double-payment", (repeated(payments.order_id), describe))


def paid_cancelled(books: Books) -> Finding:
    """An order was paid and also cancelled or released: by its state, its rows or its acknowledgements."""
    orders, payments, releases, asked = books.final.orders, books.final.payments, books.final.releases, books.asked
    empty = np.empty(0, np.int64)
    paid = [asked.number[asked.fates[Kind.PAY] == Fate.DONE], empty if payments is None else payments.order_id]
    back = [asked.number[asked.fates[kind] == Fate.DONE] for kind in (Kind.CANCEL, Kind.RELEASE)]
    back.append(empty if releases is None else releases.order_id)
    if orders is not None:
        paid.append(orders.id[orders.state == State.PAID])
        back.append(orders.id[(orders.state == State.CANCELLED) | (orders.state == State.RELEASED)])
    both = _in_both(books, np.concatenate(paid), np.concatenate(back))

    def describe(index: int) -> str:
        number = both[index]
        signs = []
        if orders is not None:
            states = [State(int(state)).name.lower() for state in orders.state[orders.id == number] if 0 <= state < 4]
            signs += [f"its state is {state}" for state in states]
        if payments is not None:
            signs += [f"payment {row} is for it" for row in payments.id[payments.order_id == number]]
        if releases is not None:
            signs += [f"row {row} of releases gave it back" for row in releases.id[releases.order_id == number]]
        return f"{_name(books, number)} was paid and given back: {', '.join(signs + _acknowledged(books, number))}"

    finding = found("paid-cancelled", (np.arange(len(both)), describe))
    missing = books.final.lack("orders", "payments", "releases")
    return Finding(finding.name, finding.anomalies, finding.witnesses, unknown=missing)


def double_release(books: Books) -> Finding:
    """One reservation was returned to stock twice: cancelled and released, or released twice."""
    releases, asked = books.final.releases, books.asked
    twice = [asked.number[(asked.fates[Kind.CANCEL] == Fate.DONE) & (asked.fates[Kind.RELEASE] == Fate.DONE)]]
    if releases is not None:
        twice.append(releases.order_id[repeated(releases.order_id)])
    numbers = np.unique(np.concatenate(twice))

    def describe(index: int) -> str:
        number = numbers[index]
        ids = [] if releases is None else releases.id[releases.order_id == number]
        signs = [f"row {row} of releases" for row in ids] + _acknowledged(books, number)
        return f"{_name(books, number)} was given back more than once: {', '.join(signs)}"

    finding = found("double-release", (np.arange(len(numbers)), describe))
    return Finding(finding.name, finding.anomalies, finding.witnesses, unknown=books.final.lack("releases"))


def money_not_conserved(books: Books) -> Finding:
    """Payments and the amounts of paid orders do not add up, or an amount is not units × price.

    The till, the sum of payments, is the sum of the amounts of paid orders exactly if every payment has its paid
    order, every paid order its payment, and both the same amount; so those are judged, one by one.
    """
    orders, payments, stock = books.final.orders, books.final.payments, books.final.stock
    if orders is None or payments is None:
        return Finding("money-not-conserved", unknown=books.final.lack("orders", "payments"))
    due = _amounts_due(books, orders)
    row = Index(orders.id).find(payments.order_id)
    known = row >= 0
    off = ~known
    off[known] = payments.amount[known] != orders.amount[row[known]]
    off[known] |= orders.state[row[known]] != State.PAID
    unpaid = (orders.state == State.PAID) & ~np.isin(orders.id, payments.order_id)
    till = (
        f"the till holds {payments.amount.sum()}, paid orders come to {orders.amount[orders.state == State.PAID].sum()}"
    )
    prices = price(np.arange(books.rows) // books.plan.buckets)
    repriced = np.empty(0, np.int64) if stock is None else np.flatnonzero((stock.price != prices) & ~stock.gone)
    return found(
        "money-not-conserved",
        (
            np.flatnonzero((orders.amount != due) & ~orders.unheard),
            lambda index: (
                f"{_name(books, orders.id[index])} has the amount {orders.amount[index]}, and its units cost "
                f"{due[index]}"
            ),
        ),
        (np.flatnonzero(off), lambda index: f"{_why_off(orders, payments, row, index)}; {till}"),
        (
            np.flatnonzero(unpaid),
            lambda index: (
                f"{_name(books, orders.id[index])} is paid, and there is no payment of its "
                f"{orders.amount[index]}; {till}"
            ),
        ),
        (repriced, lambda index: f"SKU {index // books.plan.buckets} costs {prices[index]}, and stock says otherwise"),
    )


def _in_both(books: Books, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order numbers that are in ``left`` and in ``right``, ascending."""
    marks, strange = [], []
    for numbers in (left, right):
        at = books.asked.index.find(numbers)
        mark = np.zeros(len(books.asked.number), dtype=bool)
        mark[at[at >= 0]] = True
        marks.append(mark)
        strange.append(numbers[at < 0])
    return np.union1d(books.asked.number[marks[0] & marks[1]], np.intersect1d(strange[0], strange[1]))


def _amounts_due(books: Books, orders: Orders) -> NDArray[np.int64]:
    """By row: units × price. A SKU outside the plan has no price; it counts 0."""
    due = np.zeros(len(orders.id), dtype=np.int64)
    for sku, units in ((orders.sku_a, orders.qty_a), (orders.sku_b, orders.qty_b)):
        due += np.where((sku >= 0) & (sku < books.plan.skus), units * price(sku), 0)
    return due


def _why_off(orders: Orders, payments: Payments, row: NDArray[np.int64], index: int) -> str:
    text = f"payment {payments.id[index]} of {payments.amount[index]} is for order {payments.order_id[index]}"
    if row[index] < 0:
        return f"{text}, which is not there"
    state = int(orders.state[row[index]])
    if payments.amount[index] != orders.amount[row[index]]:
        return f"{text}, whose amount is {orders.amount[row[index]]}"
    return f"{text}, which is {State(state).name.lower() if 0 <= state < len(State) else f'in state {state}'}"


def _name(books: Books, number: int) -> str:
    at = int(books.asked.index.find(np.array([number]))[0])
    return f"order {number}" if at < 0 else order_named(books, at)


def _acknowledged(books: Books, number: int) -> list[str]:
    at = int(books.asked.index.find(np.array([number]))[0])
    if at < 0:
        return []
    done = [kind for kind in FOLLOW_UPS if books.asked.fates[kind][at] == Fate.DONE]
    return [f"its {kind.name.lower()} was {ending_named(books, at, kind)}" for kind in done]
