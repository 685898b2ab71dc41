"""The books of stock, orders and the till: the smallest change of a correct run, and the words that tell it."""

from collections.abc import Iterator

import pytest

from loadgen.op import Outcome
from loadgen.shop.catalogue import CHECKS, run_checks
from loadgen.shop.sale import Answer, Kind, State
from loadgen.verdict import Finding, Verdict
from tests.checks.shop import Run, simulate, small_plan


@pytest.fixture
def run() -> Iterator[Run]:
    """A run without trouble, in which every order is acknowledged."""
    yield simulate(small_plan(stock=40), 6, trouble=0.0, processes=1)


def check(name: str, run: Run) -> Finding:
    """The finding of one check."""
    return CHECKS[name](run.books())


def invalid(run: Run) -> set[str]:
    """The names of the checks that found something."""
    return {finding.name for finding in run_checks(list(CHECKS), run.books()) if finding.verdict == Verdict.INVALID}


def paid_order(run: Run) -> dict[str, int]:
    """A paid order's row."""
    return run.row("orders", state=State.PAID, sku_b=-1)


def test_run_that_nobody_touched_is_valid(run: Run) -> None:
    """Every check holds, and orders, payments and releases are there."""
    assert invalid(run) == set()
    assert run.done(Answer.PAID) and run.done(Answer.RELEASED) and run.done(Answer.CANCELLED)


def test_deleted_order_is_lost_and_leaves_its_deduction_and_its_claim(run: Run) -> None:
    """The witness tells the token, when it was acknowledged and what it wrote."""
    order = paid_order(run)
    run.tables["orders"].remove(order)

    lost, orphan = check("lost-order", run), check("deduction-without-order", run)

    assert lost.anomalies == 1
    assert f"order {order['id']} (token {order['token']}, user {order['user_id']}, " in lost.witnesses[0]
    assert "was answered placed at " in lost.witnesses[0] and " s (it wrote SKU " in lost.witnesses[0]
    assert orphan.anomalies == 1
    assert f"order {order['id']} (" in orphan.witnesses[0] and "at version" in orphan.witnesses[0]
    assert invalid(run) == {
        "lost-order", "deduction-without-order", "stock-not-conserved", "user-limit", "money-not-conserved"
    }  # fmt: skip


def test_deleted_order_whose_units_came_back_is_lost_and_nothing_else_of_stock(run: Run) -> None:
    """Its deduction was undone with it."""
    order = run.row("orders", state=State.CANCELLED)
    run.tables["orders"].remove(order)

    assert invalid(run) == {"lost-order"}


def test_units_in_orders_beyond_the_stock_are_an_oversell(run: Run) -> None:
    """Counted in units."""
    order = paid_order(run)
    order["qty_a"] += 100

    finding = check("oversell", run)

    live = sum(
        row[f"qty_{line}"]
        for row in run.tables["orders"]
        for line in "ab"
        if row[f"sku_{line}"] == order["sku_a"] and row["state"] in (State.RESERVED, State.PAID)
    )
    assert finding.anomalies == live - 40
    assert f"SKU {order['sku_a']}: {live} units are in live orders" in finding.witnesses[0]


def test_order_that_the_client_was_refused_is_a_ghost(run: Run) -> None:
    """It was told "no", and its row and its deduction are there."""
    placed = run.done(Answer.PLACED)[-1]
    run.rows["0"] = [
        row._replace(outcome=Outcome.FAIL, answer=0, touched=(), code="40001") if row is placed else row
        for row in run.rows["0"]
        if row is placed or row.number != placed.number
    ]
    order = run.row("orders", id=placed.number)
    if order["state"] != State.RESERVED:
        pytest.skip("the last order was followed by another op")

    finding = check("ghost", run)

    assert finding.anomalies == 1
    assert f"row {placed.number} of orders" in finding.witnesses[0] and "failed by 40001 at" in finding.witnesses[0]
    assert "phantom-write" in invalid(run) and "order-without-deduction" not in invalid(run)


def test_order_under_a_number_that_nobody_started_is_a_ghost_without_deduction(run: Run) -> None:
    """Its number lies beyond where the process stopped."""
    end = run.closed_at["0"]
    assert end is not None and end < 120
    run.tables["orders"].append({**paid_order(run), "id": 119, "token": 7, "state": 0})

    ghost, bare = check("ghost", run), check("order-without-deduction", run)

    assert ghost.anomalies == 1 and "row 119 of orders (token 7" in ghost.witnesses[0]
    assert bare.anomalies == 1 and "row 119 of orders" in bare.witnesses[0]


def test_state_that_no_op_wrote_is_a_ghost(run: Run) -> None:
    """An order is released, and nobody released it."""
    order = paid_order(run)
    order["state"] = int(State.RELEASED)

    assert {"ghost", "paid-cancelled", "stock-not-conserved", "money-not-conserved"} <= invalid(run)
    assert f"order {order['id']} (" in check("ghost", run).witnesses[0]
    assert "is released, and its release was never sent" in check("ghost", run).witnesses[0]


def test_stock_row_that_is_gone_is_not_conserved(run: Run) -> None:
    """Its units are nowhere."""
    run.tables["stock"].pop(0)

    finding = check("stock-not-conserved", run)

    assert finding.anomalies == 1 and "SKU 0:" in finding.witnesses[0] and "is gone" in finding.witnesses[0]


def test_claims_of_a_shopper_must_be_their_live_units(run: Run) -> None:
    """Even below the limit: the next order would be judged by a wrong count."""
    claim = next(row for row in run.tables["purchases"] if row["units"] == 1)
    claim["units"] = 0

    finding = check("user-limit", run)

    assert finding.anomalies == 1
    assert f"user {claim['user_id']} holds 1 units of SKU {claim['sku']} in live orders (" in finding.witnesses[0]
    assert "has claimed 0 of the 3" in finding.witnesses[0]


def test_payment_acknowledged_and_gone_is_lost(run: Run) -> None:
    """And the till is short."""
    payment = run.tables["payments"].pop(0)

    finding = check("lost-payment", run)

    assert finding.anomalies == 1
    assert f"the payment of {payment['amount']} for order {payment['id']} (token" in finding.witnesses[0]
    assert invalid(run) == {"lost-payment", "money-not-conserved"}


def test_payment_left_open_and_half_there_is_lost_too(run: Run) -> None:
    """The order's own state proves that it was paid."""
    payment = run.tables["payments"].pop(0)
    run.rows["0"] = [
        row._replace(outcome=Outcome.INFO, answer=0) if (row.number, row.kind) == (payment["id"], Kind.PAY) else row
        for row in run.rows["0"]
    ]

    assert invalid(run) == {"lost-payment", "money-not-conserved"}


def test_second_payment_is_a_double_payment_and_a_ghost(run: Run) -> None:
    """The order is named with both."""
    payment = run.tables["payments"][0]
    run.tables["payments"].append({**payment, "id": 10**9})

    finding = check("double-payment", run)

    assert finding.anomalies == 1
    assert f"order {payment['id']} has 2 payments: {payment['id']}, {10**9}" in finding.witnesses[0]
    assert invalid(run) == {"double-payment", "ghost"}


def test_cancel_and_release_both_acknowledged_are_a_double_release_without_any_table(run: Run) -> None:
    """Two acknowledgements prove it."""
    cancelled = run.done(Answer.CANCELLED)[0]
    run.rows["0"].append(cancelled._replace(kind=int(Kind.RELEASE), answer=int(Answer.RELEASED)))
    history = run.history()
    history.final.clear()
    from loadgen.shop.books import open_books

    finding = CHECKS["double-release"](open_books(history, run.plan))

    assert finding.anomalies == 1
    assert f"order {cancelled.number} (" in finding.witnesses[0]
    assert "its cancel was answered cancelled at" in finding.witnesses[0]


def test_price_that_was_changed_is_money_not_conserved(run: Run) -> None:
    """A unit has one price for the whole run."""
    run.tables["stock"][2]["price"] += 1

    assert invalid(run) == {"money-not-conserved"}
    assert "SKU 2 costs" in check("money-not-conserved", run).witnesses[0]


def test_every_check_of_the_sale_has_its_judge() -> None:
    """The catalogue and the sale name the same checks in the same order."""
    from loadgen.shop.sale import CHECKS as NAMES

    assert tuple(CHECKS) == NAMES
