"""Undersell: each unit left over is put down to what came back, to a fragment, or to nothing known."""

import pytest

from loadgen.op import Completion, Outcome
from loadgen.shop.sale import Answer, Kind
from loadgen.shop.undersell import FRAGMENT, RETURNED, UNKNOWN, undersell
from tests.checks.shop import Run, invoked, simulate, small_plan

PLAN = small_plan(skus=1, skew="one-hot", stock=10)
UNITS = invoked(PLAN, 0, 50)["qty_a"].tolist()
ORDERS = [number for number, kind in enumerate(invoked(PLAN, 0, 50)["kind"]) if kind == Kind.ORDER]
ONE, TWO = (next(number for number in ORDERS if UNITS[number] == units) for units in (1, 2))


def a_run(available: int, *ends: Completion) -> Run:
    """A run of these ends alone, whose stock holds ``available`` at the end."""
    run = simulate(PLAN, 1, numbers=1, trouble=0.0, processes=1)
    run.handed["0"], run.rows["0"], run.closed_at["0"] = [(0, 50)], list(ends), 50
    run.tables["stock"][0]["available"] = available
    return run


def ended(number: int, kind: Kind, sent: int, answer: Answer) -> Completion:
    """An op that took from ``sent`` to 10 later."""
    touched = {Answer.SOLD_OUT: (0, -1, -1), Answer.SEEN: (0, 0, -1)}.get(answer, (0, -1, 1))
    return Completion(number, kind, 0, sent, sent, sent + 10, Outcome.OK, answer, 1, 0, "", touched)


def causes(run: Run) -> dict[str, int]:
    """The causes, without those of no unit."""
    told = undersell(run.books())
    assert told is not None and told["units"] == sum(told["causes"].values())
    return {cause: units for cause, units in told["causes"].items() if units}


def test_stock_left_where_nobody_was_refused_is_no_undersell() -> None:
    """Nobody came for it."""
    assert causes(a_run(4)) == {}


@pytest.mark.parametrize(("asked", "left"), [(ONE, {UNKNOWN: 1}), (TWO, {FRAGMENT: 1})])
def test_one_unit_left_is_a_fragment_only_for_one_who_asked_for_two(asked: int, left: dict[str, int]) -> None:
    """Who asks for one unit and is refused saw none."""
    assert causes(a_run(1, ended(asked, Kind.ORDER, 100, Answer.SOLD_OUT))) == left


@pytest.mark.parametrize(("sent", "left"), [(95, {RETURNED: 1}), (50, {UNKNOWN: 1})])
def test_unit_came_back_after_a_refusal_unless_it_was_there_before_that(sent: int, left: dict[str, int]) -> None:
    """Acknowledged at 105 it may be later than a refusal sent at 100; acknowledged at 60 it may not."""
    placed = ended(ORDERS[5], Kind.ORDER, 1, Answer.PLACED)
    back = ended(ORDERS[5], Kind.CANCEL, sent, Answer.CANCELLED)
    units = UNITS[ORDERS[5]]
    refused = ended(ONE, Kind.ORDER, 100, Answer.SOLD_OUT)

    assert causes(a_run(units, placed, back._replace(touched=(0, -1, 2)), refused)) == {
        cause: units * count for cause, count in left.items()
    }


def test_least_bound_of_all_refusals_counts() -> None:
    """An early refusal of one unit proves more than a late one of two."""
    early, late = ended(ONE, Kind.ORDER, 100, Answer.SOLD_OUT), ended(TWO, Kind.ORDER, 200, Answer.SOLD_OUT)

    assert causes(a_run(1, early, late)) == {UNKNOWN: 1}


def test_without_final_reads_there_is_no_figure() -> None:
    """What was left over nobody knows."""
    run = a_run(1)
    history = run.history()
    del history.final["stock"]
    from loadgen.shop.books import open_books

    assert undersell(open_books(history, PLAN)) is None
