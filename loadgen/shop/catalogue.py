"""Every check by its name, and how they are run: all of them, whatever becomes of one."""

from collections.abc import Callable, Mapping, Sequence

from loadgen.shop.books import Books
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
from loadgen.shop.rows import altered_row
from loadgen.shop.versions import lost_update, lost_write, phantom_write, real_time_order
from loadgen.verdict import Finding

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
    return [_doubted(_check(name, books), doubt) for name in names]


def check_safe(name: str, check: Check, books: Books) -> Finding:
    """The check's finding; unknown, with the error, if it throws."""
    try:
        return check(books)
    except Exception as error:  # noqa: BLE001 - a judge that breaks down has not acquitted anybody
        return Finding(name, unknown=f"the check itself failed: {type(error).__name__}: {error}")


def _check(name: str, books: Books) -> Finding:
    check = CHECKS.get(name)
    if check is None:
        return Finding(name, unknown="no such check is known")
    return check_safe(name, check, books)


def _doubted(finding: Finding, doubt: str) -> Finding:
    if not doubt or finding.anomalies:
        return finding
    return Finding(finding.name, 0, finding.witnesses, unknown=finding.unknown or doubt)
