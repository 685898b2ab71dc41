"""Objectives that a run can't measure are refused before it starts."""

import pytest

from loadgen.errors import PlanError
from loadgen.measures.objectives import measured, unmeasurable
from loadgen.plan import parse_slos
from loadgen.workload import probes
from loadgen.workload.loading import installed_workloads, load_workload
from tests.plans import sale_plan

SALE_MIX = (("order", 10), ("pay", 8), ("cancel", 1), ("release", 1), ("browse", 2))
ARRIVING = ("order", "browse")


def told(
    slo: str, mix: tuple[tuple[str, int], ...] = SALE_MIX, *, workload: str = "flashsale", rate: float = 400
) -> str:
    """What is said of the objective of a run of 10 s at a constant rate."""
    plan = sale_plan(workload=workload, slo=parse_slos(slo), kind_weights=mix, shape="constant", peak_rate=rate)
    return unmeasurable(plan, ARRIVING if workload == "flashsale" else ("transfer", "total"), 10.0)


@pytest.mark.parametrize(
    "slo",
    [
        "placed_per_second>=5",
        "peak_per_second>=5",
        "skipped<=1%",
        "fail<=1%",
        "info<=1%",
        "order.p95<=1s",
        "pay.max<=1s",
    ],
)
def test_an_objective_on_a_probe_is_refused(slo: str) -> None:
    """A probe takes no orders: nothing of it was ever measured, and each such run missed its objective."""
    assert "can't be measured: bank takes no orders" in told(slo, (("transfer", 1), ("total", 1)), workload="bank")
    assert told(slo) == ""


@pytest.mark.parametrize("slo", ["transfer.p99<=50ms", "order.p99<=50ms", "skipped<=1%"])
@pytest.mark.parametrize("name", probes.NAMES)
def test_a_probe_refuses_every_objective_while_the_plan_is_parsed(name: str, slo: str) -> None:
    """In one sentence, whether its words are the probe's own or not: none is measured."""
    workload = load_workload(installed_workloads()[name])

    with pytest.raises(PlanError, match=f"can't be measured: {name} takes no objectives"):
        workload.parse({"slo": slo})
    assert workload.parse({"slo": " "}).slo == ()


@pytest.mark.parametrize(
    ("slo", "mix"),
    [
        ("browse.p99<=1s", (("order", 1), ("pay", 1))),
        ("pay.service.p50<=1s", (("order", 1), ("browse", 1))),
        ("order.p99<=1s", (("browse", 1),)),
        ("order_refused.p99<=1s", (("browse", 1),)),
        ("placed_per_second>=5", (("browse", 1),)),
        ("skipped<=1%", (("browse", 1),)),
        ("pay.p99<=1s", (("pay", 1), ("browse", 1))),
    ],
)
def test_an_objective_on_what_the_tags_have_taken_is_refused(slo: str, mix: tuple[tuple[str, int], ...]) -> None:
    """A kind that is not in the mix, or that only follows one that is not, never comes."""
    assert "(--tags, --exclude-tags)" in told(slo, mix)


@pytest.mark.parametrize(("rate", "refused"), [(400, False), (50, True)])
def test_p999_needs_a_thousand_samples(rate: float, refused: bool) -> None:
    """500 orders have none; a run that may have enough is not refused."""
    assert bool(told("order.p999<=1s", rate=rate)) is refused
    assert bool(told("pay.p999<=1s", rate=rate)) is refused
    assert told("order.p99<=1s", rate=rate) == ""


def test_the_first_objective_that_fails_is_named() -> None:
    """One line, with its text as it was typed."""
    assert told("order.p99<=1s,browse.p50<=5ms", (("order", 1),)).startswith("--slo 'browse.p50<=5ms' can't")


def test_p95_is_measured() -> None:
    """As the other percentiles are: from the figures of the summary."""
    figures = {"orders": {"due": 200, "skipped": 1}, "response_time_ms": {"order": {"p95": 12.5}}}
    (p95, skipped) = parse_slos("order.p95<=10ms,skipped<=1%")

    assert measured(p95, figures) == {"text": "order.p95<=10ms", "value": 12.5, "met": False}
    assert measured(skipped, figures) == {"text": "skipped<=1%", "value": 0.5, "met": True}
