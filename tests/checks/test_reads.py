"""Fractured reads: one version that a browse saw is set back, and the basket that it saw half of is named."""

import pytest

from loadgen.op import Completion
from loadgen.shop.books import open_books
from loadgen.shop.reads import fractured_read
from loadgen.shop.sale import Answer
from loadgen.verdict import Verdict
from tests.checks.shop import Run, simulate, small_plan


def a_run(buckets: int) -> Run:
    """Two SKUs, so that every browse looks at both, and many baskets of both."""
    strategy = "atomic" if buckets == 1 else "bucketed"
    plan = small_plan(skus=2, stock=1000, user_limit=100, strategy=strategy, buckets=buckets)
    return simulate(plan, 2, trouble=0.0, processes=1, numbers=300)


def set_back(run: Run, line: int) -> tuple[Completion, Completion]:
    """Let a browse miss one half of the last basket that it saw; the browse and the basket."""
    baskets = [row for row in run.done(Answer.PLACED) if len(row.touched) == 6]
    for at, look in reversed(list(enumerate(run.rows["0"]))):
        if look.answer != Answer.SEEN:
            continue
        seen = {look.touched[place]: look.touched[place + 1] for place in range(0, len(look.touched), 3)}
        for basket in reversed(baskets):
            row, _, version = basket.touched[3 * line : 3 * line + 3]
            if basket.done < look.sent and seen[row] >= version:
                place = 3 * list(seen).index(row)
                touched = (*look.touched[: place + 1], version - 1, *look.touched[place + 2 :])
                run.rows["0"][at] = look._replace(touched=touched)
                return look, basket
    raise AssertionError("no browse saw a basket")


@pytest.mark.parametrize("buckets", [1, 3])
@pytest.mark.parametrize("line", [0, 1])
def test_browse_that_saw_half_a_basket_is_named_with_it(buckets: int, line: int) -> None:
    """Whichever half it missed."""
    run = a_run(buckets)
    assert fractured_read(run.books()).verdict == Verdict.VALID
    look, _ = set_back(run, line)

    finding = fractured_read(run.books())

    assert finding.anomalies == 1
    assert f"browse {look.number} (" in finding.witnesses[0]
    assert "in one transaction" in finding.witnesses[0]


def test_fractured_read_where_no_snapshot_is_promised_is_told_and_is_no_violation() -> None:
    """Below read committed a statement may see anything."""
    run = a_run(1)
    set_back(run, 1)

    finding = fractured_read(open_books(run.history(), run.plan, statement_snapshot=False))

    assert finding.verdict == Verdict.VALID
    assert "1 fractured reads; no violation" in finding.witnesses[0]
