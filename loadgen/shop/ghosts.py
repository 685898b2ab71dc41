"""Ghosts: rows in the tables although the client received a "no", or no op asked for them."""

import numpy as np

from loadgen.shop.asked import Fate
from loadgen.shop.books import Books, Group, ending_named, found, order_named
from loadgen.shop.final import Orders, Payments, Releases
from loadgen.shop.ledger import row_of_orders
from loadgen.shop.sale import KIND_NAMES, Kind, State
from loadgen.verdict import Finding

_STATE_WRITTEN_BY = {State.PAID: Kind.PAY, State.CANCELLED: Kind.CANCEL, State.RELEASED: Kind.RELEASE}


def ghost(books: Books) -> Finding:
    """An order, a payment, a release or a change of state exists, and no op that may have happened wrote it.

    A row whose order the history should know and does not (its token is the right one) is not judged: then the
    history is incomplete, which the judge says.
    """
    orders, payments, releases = books.final.orders, books.final.payments, books.final.releases
    if orders is None:
        finding = found("ghost", *_ghost_stock(books))
        return Finding("ghost", finding.anomalies, finding.witnesses, unknown=books.final.lack("orders"))
    states = _ghost_states(books, orders)
    groups: list[Group] = [
        (_ghost_orders(books, orders), lambda row: f"{row_of_orders(orders, row)}, {_why_order(books, orders, row)}"),
        (states, lambda row: _why_state(books, orders, row)),
    ]
    if payments is not None:
        rows = _ghost_payments(books, orders, payments)
        rows = rows[~_counted(orders, states, payments.at[rows], np.full(len(rows), Kind.PAY))]
        groups.append((rows, lambda row: _why_payment(books, payments, row)))
    if releases is not None:
        rows = _ghost_releases(books, orders, releases)
        rows = rows[~_counted(orders, states, releases.at[rows], releases.kind[rows])]
        groups.append((rows, lambda row: _why_release(books, releases, row)))
    finding = found("ghost", *groups, *_ghost_claims(books), *_ghost_stock(books))
    lack = books.final.lack("stock", "purchases", "payments", "releases")
    return Finding("ghost", finding.anomalies, finding.witnesses, unknown=lack)


def _ghost_claims(books: Books) -> list[Group]:
    """Rows of ``purchases`` that no order can have made."""
    purchases, claims = books.final.purchases, books.claims
    if purchases is None or claims is None:
        return []
    return [
        (
            claims.ghosts,
            lambda row: (
                f"purchases says that user {purchases.user_id[row]} has claimed {purchases.units[row]} units of SKU "
                f"{purchases.sku[row]}, which no order asked for, or another row said already"
            ),
        )
    ]


def _ghost_stock(books: Books) -> list[Group]:
    """Rows of ``stock`` that the shop never made, at the end or as browses saw them."""
    stock, unasked, asked = books.final.stock, books.unasked, books.asked
    groups: list[Group] = [
        (
            np.arange(len(unasked.who)),
            lambda index: (
                f"browse {asked.number[unasked.who[index]]} was shown row {unasked.row[index]} of stock at version "
                f"{unasked.version[index]}, for which it did not ask"
            ),
        )
    ]
    if stock is not None:
        others = stock.strangers
        groups.append(
            (
                np.arange(len(others.sku)),
                lambda row: (
                    f"stock holds SKU {others.sku[row]} bucket {others.bucket[row]} with {others.available[row]} "
                    f"units, {'a second time' if others.twice[row] else 'which is not in the plan'}"
                ),
            )
        )
    return groups


def _counted(orders: Orders, states: np.ndarray, at: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Which of the ops ``at`` of ``kind`` are known already by the state of their order: an op is one ghost."""
    counted = np.zeros(len(at), dtype=bool)
    for state, writer in _STATE_WRITTEN_BY.items():
        known = states[(orders.state[states] == state) & orders.genuine[states]]
        counted |= (kind == writer) & (at >= 0) & np.isin(at, orders.at[known])
    return counted


def _ghost_orders(books: Books, orders: Orders) -> np.ndarray:
    wanted = np.zeros(len(orders.id), dtype=bool)
    wanted[orders.genuine] = books.asked.may_have_happened(Kind.ORDER)[orders.at[orders.genuine]]
    return np.flatnonzero(~wanted & ~orders.unheard)


def _why_order(books: Books, orders: Orders, row: int) -> str:
    at, asked = int(orders.at[row]), books.asked
    if at < 0:
        return "and no op has this number"
    if asked.kind[at] != Kind.ORDER:
        return "and its number is a browse's"
    if asked.token[at] != orders.token[row]:
        return f"and {order_named(books, at)} has another token"
    if not orders.genuine[row]:
        return "and an earlier row has its id"
    if asked.fates[Kind.ORDER][at] == Fate.NEVER:
        return "and the order was never sent"
    return f"and the order was {ending_named(books, at, Kind.ORDER)}"


def _ghost_states(books: Books, orders: Orders) -> np.ndarray:
    wanted = orders.state == State.RESERVED
    known = orders.genuine
    for state, kind in _STATE_WRITTEN_BY.items():
        mine = known & (orders.state == state)
        wanted[mine] = books.asked.may_have_happened(kind)[orders.at[mine]]
    real = (orders.state >= 0) & (orders.state < len(State))
    # A row that is a ghost itself is told once; its state is nobody's.
    return np.flatnonzero((known & ~wanted) | ~real)


def _why_state(books: Books, orders: Orders, row: int) -> str:
    state, at = int(orders.state[row]), int(orders.at[row])
    if not 0 <= state < len(State):
        return f"{row_of_orders(orders, row)} and is in state {state}, which there is not"
    kind = _STATE_WRITTEN_BY[State(state)]
    is_now = State(state).name.lower()
    return f"{order_named(books, at)} is {is_now}, and its {kind.name.lower()} was {_told(books, at, kind)}"


def _ghost_payments(books: Books, orders: Orders, payments: Payments) -> np.ndarray:
    wanted = np.isin(payments.order_id, orders.id[orders.unheard])
    known = payments.at >= 0
    wanted[known] = books.asked.may_have_happened(Kind.PAY)[payments.at[known]]
    return np.flatnonzero(~wanted | (payments.id != payments.order_id))


def _why_payment(books: Books, payments: Payments, row: int) -> str:
    at = int(payments.at[row])
    text = f"payment {payments.id[row]} of {payments.amount[row]} for order {payments.order_id[row]}"
    if at < 0:
        return f"{text} is there, and no op has this number"
    if payments.id[row] != payments.order_id[row]:
        return f"{text} is there, and no pay writes this id"
    return f"{text} (token {books.asked.token[at]}) is there, and its pay was {_told(books, at, Kind.PAY)}"


def _ghost_releases(books: Books, orders: Orders, releases: Releases) -> np.ndarray:
    wanted = np.isin(releases.order_id, orders.id[orders.unheard])
    for kind in (Kind.CANCEL, Kind.RELEASE):
        mine = (releases.at >= 0) & (releases.kind == kind)
        wanted[mine] = books.asked.may_have_happened(kind)[releases.at[mine]]
    return np.flatnonzero(~wanted | (releases.kind < 0))


def _why_release(books: Books, releases: Releases, row: int) -> str:
    at, kind = int(releases.at[row]), int(releases.kind[row])
    text = f"row {releases.id[row]} of releases for order {releases.order_id[row]} is there"
    if kind < 0:
        return f"{text}, and no op writes this id"
    if at < 0:
        return f"{text}, and no op has this number"
    return f"{text} (token {books.asked.token[at]}), and its {KIND_NAMES[kind]} was {_told(books, at, Kind(kind))}"


def _told(books: Books, at: int, kind: Kind) -> str:
    if books.asked.fates[kind][at] == Fate.NEVER:
        return "never sent"
    return ending_named(books, at, kind)
