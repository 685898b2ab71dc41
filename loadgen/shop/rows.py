"""Rows of the tables, field by field: each must agree with what was asked for and answered, in any state.

The bodies write every field from the op's own identity, and an order's state from the op that changed it; no op changes
any other field ever again. So each field of a row is known, whether its order was kept, paid or given back.
"""

import numpy as np
from numpy.typing import NDArray

from loadgen.shop.asked import Fate
from loadgen.shop.books import Books, Group, ending_named, found, order_named
from loadgen.shop.final import Orders, Payments
from loadgen.shop.sale import FOLLOW_UPS, Kind, State
from loadgen.verdict import Finding

STATE_AFTER = {Kind.PAY: State.PAID, Kind.CANCEL: State.CANCELLED, Kind.RELEASE: State.RELEASED}
_FIELDS = {"token": "token", "user_id": "user", "sku_a": "sku_a", "qty_a": "qty_a", "sku_b": "sku_b"}
_FIELDS |= {"qty_b": "qty_b", "amount": "amount"}
"""Columns of ``orders``, and the part of the request in each."""


def altered_row(books: Books) -> Finding:
    """A row of an order or a payment differs from what was asked for, or from the last answer to its order."""
    orders, payments = books.final.orders, books.final.payments
    groups: list[Group] = []
    if orders is not None:
        groups.append((_altered_orders(books, orders), lambda row: _why_order(books, orders, row)))
        groups.append((_altered_states(books, orders), lambda at: _why_state(books, orders, at)))
    if payments is not None:
        groups.append((_altered_payments(books, payments), lambda row: _why_payment(books, payments, row)))
    finding = found("altered-row", *groups)
    lack = books.final.lack("orders", "payments")
    return Finding(finding.name, finding.anomalies, finding.witnesses, unknown=lack)


def state_named(state: int) -> str:
    """``paid``, or ``in state 7``."""
    return State(state).name.lower() if 0 <= state < len(State) else f"in state {state}"


def _altered_orders(books: Books, orders: Orders) -> NDArray[np.int64]:
    """Rows with the id of an order that may have happened, and any other field than it asked for."""
    asked = books.asked
    rows = np.flatnonzero(orders.at >= 0)
    at = orders.at[rows]
    differs = ~orders.genuine[rows]
    for column, name in (("user_id", "user"), ("amount", "amount")):
        differs |= getattr(orders, column)[rows] != getattr(asked, name)[at]
    differs[np.searchsorted(rows, orders.other_lines)] = True
    rows, at = rows[differs], at[differs]
    # A second row of one id is a ghost, and says nothing of the first.
    mine = asked.may_have_happened(Kind.ORDER)[at] & (orders.genuine[rows] | (asked.token[at] != orders.token[rows]))
    return np.asarray(rows[mine])


def _why_order(books: Books, orders: Orders, row: int) -> str:
    at, asked = int(orders.at[row]), books.asked
    differing = (
        f"{column} {getattr(orders, column)[row]} instead of {getattr(asked, name)[at]}"
        for column, name in _FIELDS.items()
        if getattr(orders, column)[row] != getattr(asked, name)[at]
    )
    return (
        f"{order_named(books, at)} was {ending_named(books, at, Kind.ORDER)}, and its row, "
        f"{state_named(int(orders.state[row]))}, holds {', '.join(differing)}"
    )


def _altered_states(books: Books, orders: Orders) -> NDArray[np.int64]:
    """Numbers asked whose order is not in the state that an acknowledged op gave it."""
    state = np.full(len(orders.row_of), -1, dtype=np.int8)
    rows = np.flatnonzero(orders.genuine)
    state[orders.at[rows]] = orders.state[rows].clip(-1, len(State))
    told, right = np.zeros(len(state), dtype=bool), np.zeros(len(state), dtype=bool)
    for kind in FOLLOW_UPS:
        done = books.asked.fates[kind] == Fate.DONE
        told |= done
        right |= done & (state == STATE_AFTER[kind])
    return np.flatnonzero(told & ~right & (orders.row_of >= 0))


def _why_state(books: Books, orders: Orders, at: int) -> str:
    told = (kind for kind in FOLLOW_UPS if books.asked.fates[kind][at] == Fate.DONE)
    answers = " and ".join(f"its {kind.name.lower()} was {ending_named(books, at, kind)}" for kind in told)
    return f"{order_named(books, at)} is {state_named(int(orders.state[orders.row_of[at]]))} at the end, and {answers}"


def _altered_payments(books: Books, payments: Payments) -> NDArray[np.int64]:
    """Payments of orders whose pay may have happened, of another amount than was asked for."""
    asked = books.asked
    rows = np.flatnonzero(payments.at >= 0)
    at = payments.at[rows]
    differs = payments.amount[rows] != asked.amount[at]
    rows, at = rows[differs], at[differs]
    return np.asarray(rows[asked.may_have_happened(Kind.PAY)[at]])


def _why_payment(books: Books, payments: Payments, row: int) -> str:
    at = int(payments.at[row])
    return (
        f"payment {payments.id[row]} for {order_named(books, at)} is of {payments.amount[row]}, and the pay, "
        f"{ending_named(books, at, Kind.PAY)}, was of {books.asked.amount[at]}"
    )
