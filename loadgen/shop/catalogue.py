"""Every check by its name. All of them run, even if one fails."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loadgen.shop.books import Books, open_books
from loadgen.shop.ghosts import ghost
from loadgen.shop.ledger import (
    deduction_without_order,
    duplicate_token,
    lost_order,
    negative_stock,
    order_without_deduction,
    oversell,
    stock_not_conserved,
    user_limit,
)
from loadgen.shop.payments import double_payment, double_release, lost_payment, money_not_conserved, paid_cancelled
from loadgen.shop.reads import fractured_read
from loadgen.shop.refusals import false_refusal
from loadgen.shop.replicas import replica_reads
from loadgen.shop.rows import altered_row
from loadgen.shop.undersell import UNKNOWN, undersell
from loadgen.shop.versions import lost_update, lost_write, phantom_write, real_time_order
from loadgen.verdict import Finding, doubted
from loadgen.verdict import check_safe as check_safe
from loadgen.workload import workload
from loadgen.workload.evidence import Evidence

Check = Callable[[Books], Finding]

CHECKS: Mapping[str, Check] = {
    "oversell": oversell,
    "negative-stock": negative_stock,
    "stock-not-conserved": stock_not_conserved,
    "order-without-deduction": order_without_deduction,
    "deduction-without-order": deduction_without_order,
    "duplicate-token": duplicate_token,
    "user-limit": user_limit,
    "lost-order": lost_order,
    "lost-payment": lost_payment,
    "ghost": ghost,
    "altered-row": altered_row,
    "double-payment": double_payment,
    "paid-cancelled": paid_cancelled,
    "double-release": double_release,
    "money-not-conserved": money_not_conserved,
    "fractured-read": fractured_read,
    "lost-update": lost_update,
    "lost-write": lost_write,
    "phantom-write": phantom_write,
    "real-time-order": real_time_order,
    "false-refusal": false_refusal,
}


def run_checks(names: Sequence[str], books: Books | None, doubt: str = "") -> list[Finding]:
    """The findings of the checks ``names``. Without books, or with a ``doubt``, what proves nothing is unknown."""
    if books is None:
        return [Finding(name, unknown=doubt or "the history could not be joined") for name in names]
    return [doubted(_check(name, books), doubt) for name in names]


def _check(name: str, books: Books) -> Finding:
    check = CHECKS.get(name)
    if check is None:
        return Finding(name, unknown="no such check is known")
    return check_safe(name, check, books)


STANDS_ALONE = frozenset(
    {
        *("oversell", "negative-stock", "duplicate-token", "user-limit", "lost-order", "lost-payment"),
        *("altered-row", "double-payment", "paid-cancelled", "double-release", "fractured-read", "lost-update"),
        "real-time-order",
    }
)
"""Checks whose proof needs only the rows and the answers in it. The others also rest on the complete list of what was
asked."""
MOST_REPLICAS = 100
"""A plan.json that names more was not written by a run. Its replicas are not distinguished."""


def books_of(evidence: Evidence) -> Books:
    """The books of a run. Raises Contradiction."""
    return open_books(
        evidence.history,
        evidence.plan,
        statement_snapshot=evidence.statement_snapshot,
        real_time_reads=evidence.real_time_reads,
        whole=evidence.whole,
    )


def examine(evidence: Evidence) -> None:
    """Open the books, and add doubts for dropped tables and for orders that the history lacks."""
    books = evidence.derived(books_of)
    evidence.doubts += [
        f"the table {table} was dropped, and is judged as an empty one: {reason}"
        for table, reason in books.final.gone.items()
    ]
    orders = books.final.orders
    if orders is not None and orders.unheard.any():
        count = int(orders.unheard.sum())
        evidence.doubts.append(f"a part of the history is missing: it lacks {count} orders that the tables hold")
        evidence.lost_numbers = True


def extras(evidence: Evidence | None) -> Mapping[str, Any]:
    """What was left though buyers were refused, and what reads of replicas saw; nulls without books."""
    if evidence is None:
        return {"undersell": None, "replica_reads": None}
    books = evidence.derived(books_of)
    left = undersell(books)
    if left is not None and left["causes"][UNKNOWN]:
        evidence.warnings.append(
            f"undersell: {left['causes'][UNKNOWN]} units were left although buyers were refused, and no cause is known"
        )
    seen = None
    if evidence.plan.read_from == "replica":
        replicas = evidence.facts.get("replicas")
        count = len(replicas) if isinstance(replicas, list) else 0
        seen = replica_reads(books, count if 0 < count <= MOST_REPLICAS else 1)
    return {"undersell": left, "replica_reads": seen}


def _of_books(name: str, check: Check) -> workload.Check:
    text = (check.__doc__ or "").partition("\n")[0]
    return workload.Check(name, lambda evidence: check(evidence.derived(books_of)), text, name in STANDS_ALONE)


SALE_CHECKS: tuple[workload.Check, ...] = tuple(_of_books(name, check) for name, check in CHECKS.items())
"""The same, as the sale's workload gives them to the judge."""
