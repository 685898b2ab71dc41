"""Every row is held against what was asked and answered, field by field, in whatever state its order is."""

from random import Random

import pytest

from loadgen.op import Outcome
from loadgen.shop.catalogue import CHECKS, run_checks
from loadgen.shop.sale import Answer, Kind, State
from loadgen.verdict import Finding, Verdict
from tests.checks.deeds import DEEDS, exchange_lines, exchange_shoppers, reprice
from tests.checks.shop import Run, simulate, small_plan
from tests.trials import rotating_seed
from tests.trials.sabotage import spoil


@pytest.fixture
def run() -> Run:
    """A run without trouble, in which every order is acknowledged."""
    return simulate(small_plan(stock=40), 6, trouble=0.0, processes=1)


def check(name: str, run: Run) -> Finding:
    """The finding of one check."""
    return CHECKS[name](run.books())


def invalid(run: Run) -> set[str]:
    """The names of the checks that found something."""
    return {finding.name for finding in run_checks(list(CHECKS), run.books()) if finding.verdict == Verdict.INVALID}


def test_two_paid_orders_that_exchange_their_shoppers_are_altered(run: Run) -> None:
    """Nothing else tells: SKUs, units and claims agree."""
    words = exchange_shoppers(run, Random(1))
    assert words is not None

    finding = check("altered-row", run)

    assert finding.anomalies == 2
    assert all(any(word in witness for witness in finding.witnesses) for word in words)
    assert "user_id" in finding.witnesses[0] and " instead of " in finding.witnesses[0]


@pytest.mark.parametrize("state", [State.CANCELLED, State.RELEASED])
def test_shopper_of_an_order_that_was_given_back_is_altered(run: Run, state: State) -> None:
    """Nobody holds anything by it, and still it is another row."""
    order = run.row("orders", state=state)
    order["user_id"] += 1

    finding = check("altered-row", run)

    assert finding.anomalies == 1
    assert f"holds user_id {order['user_id']} instead of {order['user_id'] - 1}" in finding.witnesses[0]
    assert f"its row, {state.name.lower()}," in finding.witnesses[0]


def test_lines_of_a_basket_that_are_swapped_are_altered(run: Run) -> None:
    """It holds the same units of the same SKUs."""
    words = exchange_lines(run, Random(1))
    assert words is not None

    finding = check("altered-row", run)

    assert finding.anomalies == 1 and words[0] in finding.witnesses[0]
    assert "sku_a" in finding.witnesses[0] and "sku_b" in finding.witnesses[0]


def test_amounts_that_are_changed_in_pairs_are_altered(run: Run) -> None:
    """The till holds what it held, and every payment is its order's amount."""
    reprice(run, Random(1))

    assert check("altered-row", run).anomalies == 4
    assert "the pay, answered paid at" in check("altered-row", run).witnesses[-1]


def test_token_that_is_changed_is_altered_and_its_order_is_lost(run: Run) -> None:
    """The row has the order's number, and not its identity."""
    order = run.row("orders", state=State.PAID)
    order["token"] += 1

    assert {"altered-row", "lost-order", "ghost"} <= invalid(run)
    assert f"token {order['token']} instead of {order['token'] - 1}" in check("altered-row", run).witnesses[0]


def test_state_is_the_one_that_the_last_answer_gave(run: Run) -> None:
    """A paid order is reserved again, and its payment is gone too."""
    order = run.row("orders", state=State.PAID)
    order["state"] = int(State.RESERVED)
    run.tables["payments"].remove(run.row("payments", order_id=order["id"]))

    finding = check("altered-row", run)

    assert finding.anomalies == 1
    assert "is reserved at the end, and its pay was answered paid at" in finding.witnesses[0]


def test_order_left_open_is_what_was_asked_for_or_not_there(run: Run) -> None:
    """An info order's row is compared like any other."""
    order = run.row("orders", state=State.RESERVED)
    run.rows["0"] = [
        row._replace(outcome=Outcome.INFO, answer=0, touched=()) if row.number == order["id"] and not row.kind else row
        for row in run.rows["0"]
    ]
    assert check("altered-row", run).verdict == Verdict.VALID
    order["user_id"] += 1

    assert check("altered-row", run).anomalies == 1


@pytest.mark.parametrize("kind", [Kind.CANCEL, Kind.RELEASE])
@pytest.mark.parametrize("half", ["state", "row"])
def test_half_of_a_return_of_which_nobody_knows_is_a_lost_write(run: Run, kind: Kind, half: str) -> None:
    """It happened as a whole or not at all, whatever its client was told."""
    answer = Answer.CANCELLED if kind == Kind.CANCEL else Answer.RELEASED
    number = run.done(answer)[0].number
    run.rows["0"] = [
        row._replace(outcome=Outcome.INFO, answer=0, touched=()) if (row.number, row.kind) == (number, kind) else row
        for row in run.rows["0"]
    ]
    assert check("lost-write", run).verdict == Verdict.VALID
    if half == "state":
        run.row("orders", id=number)["state"] = int(State.RESERVED)
    else:
        run.tables["releases"].remove(run.row("releases", order_id=number))

    assert f"order {number} " in check("lost-write", run).witnesses[-1]


@pytest.mark.parametrize("claim", [{"sku": 10**6}, {"sku": -1}, {"user_id": 10**6}, {"user_id": 10**6, "units": 0}, {}])
def test_claim_that_no_order_made_is_a_ghost(run: Run, claim: dict[str, int]) -> None:
    """Of a SKU outside the plan, of a stranger, with and without units, or a second one."""
    run.tables["purchases"].append({**run.tables["purchases"][0], **claim})
    added = run.tables["purchases"][-1]

    finding = check("ghost", run)

    assert finding.anomalies == 1
    assert f"user {added['user_id']} has claimed {added['units']} units of SKU {added['sku']}" in finding.witnesses[0]


def test_claim_of_an_order_that_was_given_back_is_missed(run: Run) -> None:
    """Nobody ever deletes one, so it is there with 0 units."""
    claim = run.row("purchases", units=0)
    run.tables["purchases"].remove(claim)

    finding = check("user-limit", run)

    assert finding.anomalies == 1
    assert f"user {claim['user_id']} ordered SKU {claim['sku']} and gave it back" in finding.witnesses[0]


@pytest.mark.parametrize("units", [1, 3])
def test_units_that_are_moved_between_buckets_are_not_conserved(units: int) -> None:
    """The SKU has as many as it should have, and its buckets have not."""
    run = simulate(small_plan(strategy="bucketed", buckets=3, stock=60), 6, trouble=0.0, processes=1)
    run.row("stock", sku=1, bucket=0)["available"] += units
    run.row("stock", sku=1, bucket=2)["available"] -= units

    finding = check("stock-not-conserved", run)

    assert finding.anomalies == 2 and invalid(run) == {"stock-not-conserved"}
    assert "SKU 1 bucket 0: " in finding.witnesses[0] and f"{units} more than" in finding.witnesses[0]
    assert "SKU 1 bucket 2: " in finding.witnesses[1] and f"{units} fewer than" in finding.witnesses[1]


def test_order_with_the_token_of_a_number_that_nobody_has_is_a_ghost_in_a_whole_history(run: Run) -> None:
    """Where a part of the history may be missing, it may be an order of that part."""
    import numpy as np

    from loadgen.shop.books import open_books
    from loadgen.shop.sale import tokens

    number = 10**6
    token = int(tokens(run.plan.seed, np.array([number]))[0])
    run.tables["orders"].append({**run.row("orders", state=State.PAID), "id": number, "token": token, "state": 0})

    assert CHECKS["ghost"](run.books()).anomalies == 0
    finding = CHECKS["ghost"](open_books(run.history(), run.plan, whole=True))
    assert finding.anomalies == 1 and f"row {number} of orders" in finding.witnesses[0]


@pytest.mark.parametrize("deed", range(len(DEEDS)), ids=list(DEEDS))
def test_each_field_of_each_table_is_guarded(deed: int) -> None:
    """One run of each deed, another one each day: at the end of a run, and in the middle of one."""
    for turn in range(2):
        name, what, story = spoil((2 * (rotating_seed() % 10_000) + turn) * len(DEEDS) + deed)

        assert what != "missed", f"{name}: {story}"
