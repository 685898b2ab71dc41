"""Histories that no run wrote: foreign, contradictory, of wrong types. Never a crash, never a false violation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.history.history import History
from loadgen.op import Outcome
from loadgen.shop.asked import Contradiction
from loadgen.shop.books import open_books
from loadgen.shop.catalogue import CHECKS, check_safe, run_checks
from loadgen.shop.sale import Answer, Kind
from loadgen.verdict import Finding, Verdict
from tests.checks.shop import Run, simulate, small_plan

Spoil = Callable[[Run], None]


def a_run() -> Run:
    """A run without trouble."""
    return simulate(small_plan(), 4, trouble=0.0, processes=1)


def spoil_row(**fields: Any) -> Spoil:
    """Change the first placed order's completion."""

    def spoil(run: Run) -> None:
        at = next(index for index, row in enumerate(run.rows["0"]) if row.answer == Answer.PLACED)
        run.rows["0"][at] = run.rows["0"][at]._replace(**fields)

    return spoil


CONTRADICTIONS: dict[str, tuple[Spoil, str]] = {
    "a number twice": (lambda run: run.handed["0"].append((0, 3)), "handed out twice"),
    "an end without a number": (spoil_row(number=10_000), "never handed out"),
    "an end beyond the close": (lambda run: run.closed_at.update({"0": 1}), "never started"),
    "an end twice": (lambda run: run.rows["0"].append(run.rows["0"][0]), "twice"),
    "an answer of another kind": (spoil_row(answer=Answer.PAID), "cannot end"),
    "an answer that there is not": (spoil_row(answer=99), "cannot end"),
    "a kind that there is not": (spoil_row(kind=77), "cannot end"),
    "an outcome that there is not": (spoil_row(outcome=9), "cannot end"),
    "an order that ended as a browse": (spoil_row(kind=Kind.BROWSE, answer=Answer.SEEN), "kind that it is not"),
    "time going backwards": (spoil_row(done=0), "before it was sent"),
    "a placed order that wrote nothing": (spoil_row(touched=()), "what it wrote"),
    "a write of somebody else's row": (spoil_row(touched=(10**9, -1, 5)), "what is not one of its rows"),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_history_that_contradicts_itself_proves_nothing(what: str) -> None:
    """It is refused with the op that does not fit."""
    spoil, words = CONTRADICTIONS[what]
    run = a_run()
    spoil(run)

    with pytest.raises(Contradiction, match=words):
        run.books()


def test_history_of_another_plan_proves_nothing() -> None:
    """Another seed gives other tokens."""
    run = a_run()

    with pytest.raises(Contradiction, match="token that this plan does not give"):
        open_books(run.history(), run.plan.with_(seed=99))


def test_history_of_a_larger_plan_proves_nothing() -> None:
    """SKUs that the plan does not have."""
    run = a_run()

    with pytest.raises(Contradiction, match="SKU outside the plan"):
        open_books(run.history(), run.plan.with_(skus=1))


def _without_orders(history: History) -> None:
    del history.final["orders"]


def _torn_orders(history: History) -> None:
    history.damaged.add("final.orders")


def _text(history: History) -> None:
    history.final["orders"]["token"] = history.final["orders"]["token"].astype(str).astype(object)


def _uneven(history: History) -> None:
    history.final["orders"]["state"] = history.final["orders"]["state"][:-1]


@pytest.mark.parametrize("spoil", [_without_orders, _torn_orders, _text, _uneven])
def test_table_that_cannot_be_judged_makes_its_checks_unknown_and_no_others(spoil: Callable[[History], None]) -> None:
    """A torn table of orders does not look like a database that lost them."""
    history = a_run().history()
    spoil(history)

    findings = {finding.name: finding for finding in run_checks(list(CHECKS), open_books(history, small_plan()))}

    assert findings["lost-order"].verdict == Verdict.UNKNOWN
    assert "orders" in findings["lost-order"].unknown
    assert [finding for finding in findings.values() if finding.anomalies] == []
    for name in ("negative-stock", "double-payment", "real-time-order", "fractured-read"):
        assert findings[name].verdict == Verdict.VALID


@pytest.mark.parametrize("column", ["qty_a", "user_id", "amount", "token", "state"])
@pytest.mark.parametrize("value", [2**60, -(2**63)])
def test_value_that_no_column_of_ours_holds_proves_its_row_altered_and_spoils_no_other(column: str, value: int) -> None:
    """Somebody has changed the column's type, or set it to NULL."""
    run = a_run()
    first, second = (run.row("orders", id=placed.number) for placed in run.done(Answer.PLACED)[:2])
    history = run.history()
    at = history.final["orders"]["id"].tolist().index(first["id"])
    history.final["orders"][column][at] = value

    findings = {finding.name: finding for finding in run_checks(list(CHECKS), open_books(history, small_plan()))}

    name = "ghost" if column == "state" else "altered-row"
    assert findings[name].anomalies >= 1 and str(first["token"]) in findings[name].witnesses[0]
    assert not any(str(second["token"]) in witness for witness in findings[name].witnesses)
    assert [finding for finding in findings.values() if finding.verdict == Verdict.UNKNOWN] == []


@pytest.mark.parametrize("row", [{"sku": 10**6}, {"bucket": 5}, {"sku": -1}, {"sku": 0}])
def test_stock_row_that_is_not_ours_is_a_ghost_and_hides_nothing(row: dict[str, int]) -> None:
    """A row outside the plan, or one that is there a second time; an order that is lost beside it is found."""
    run = a_run()
    run.tables["stock"].append({**run.tables["stock"][1], **row})
    lost = run.done(Answer.PLACED)[0].number
    run.tables["orders"].remove(run.row("orders", id=lost))

    findings = {finding.name: finding for finding in run_checks(list(CHECKS), run.books())}

    added = run.tables["stock"][-1]
    assert findings["ghost"].anomalies == 1
    assert f"SKU {added['sku']} bucket {added['bucket']} with" in findings["ghost"].witnesses[0]
    assert findings["lost-order"].anomalies == 1 and f"order {lost} " in findings["lost-order"].witnesses[0]
    assert [finding for finding in findings.values() if finding.verdict == Verdict.UNKNOWN] == []


def test_lost_update_by_acknowledgements_is_proved_without_any_table() -> None:
    """What two acknowledgements prove needs no final read."""
    plan = small_plan(strategy="naive", skew="one-hot", stock=10, skus=1)
    history = simulate(plan, 2, numbers=300, processes=1, trouble=0.0, snapshots=False).history()
    history.final.clear()

    findings = {finding.name: finding for finding in run_checks(list(CHECKS), open_books(history, plan))}

    assert findings["lost-update"].verdict == Verdict.INVALID
    assert findings["oversell"].verdict == Verdict.INVALID
    assert findings["ghost"].verdict == Verdict.UNKNOWN


def test_check_that_throws_is_unknown_with_its_error() -> None:
    """A judge that breaks down acquits nobody."""

    def broken(_: object) -> Finding:
        raise ZeroDivisionError("by nothing")

    finding = check_safe("broken", broken, a_run().books())

    assert finding.verdict == Verdict.UNKNOWN
    assert "ZeroDivisionError: by nothing" in finding.unknown


def test_doubt_makes_a_valid_finding_unknown_and_leaves_a_violation() -> None:
    """What was proved stays proved."""
    run = a_run()
    number = run.done(Answer.PLACED)[0].number
    run.tables["orders"].remove(run.row("orders", id=number))

    findings = {finding.name: finding for finding in run_checks(["lost-order", "negative-stock"], run.books(), "torn")}

    assert findings["lost-order"].verdict == Verdict.INVALID
    assert findings["negative-stock"].unknown == "torn"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_value_in_any_cell_never_makes_a_check_throw(data: st.DataObject) -> None:
    """Cells of every column are overwritten with small, large and negative numbers."""
    history = a_run().history()
    process = history.processes[0]
    tables = [
        process.invoked,
        process.ops,
        *(table for table in history.final.values() if len(next(iter(table.values())))),
    ]
    for _ in range(data.draw(st.integers(1, 3))):
        table = data.draw(st.sampled_from(tables))
        names = sorted(name for name in table if name not in ("code", "touched_start") and len(table[name]))
        name = data.draw(st.sampled_from(names))
        column = table[name] = np.array(table[name])
        bounds = np.iinfo(column.dtype)
        value = st.integers(int(bounds.min), int(bounds.max)) | st.integers(0, 9)
        column[data.draw(st.integers(0, len(column) - 1))] = data.draw(value)
    try:
        books = open_books(history, small_plan())
    except Contradiction:
        return

    findings = run_checks(list(CHECKS), books)

    assert [finding for finding in findings if "itself failed" in finding.unknown] == []
    assert all(finding.anomalies == 0 or finding.witnesses for finding in findings)


def test_outcomes_are_the_ones_that_the_table_of_fates_knows() -> None:
    """A new outcome needs a place in the joining."""
    assert [outcome.name for outcome in Outcome] == ["OK", "FAIL", "INFO", "SKIPPED"]
