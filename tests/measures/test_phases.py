"""Figures by phase, with their intervals, and goodput: reckoned by hand, and together those of the run."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from loadgen.clock import NS_PER_MS, NS_PER_S
from loadgen.history.timeline import timeline
from loadgen.judge.judge import judge
from loadgen.measures.goodput import goodputs
from loadgen.measures.latency import response_and_service
from loadgen.measures.phases import Phase, figures_by_phase, phases_of
from loadgen.op import Outcome
from loadgen.percentiles import RANKS
from loadgen.plan import parse_slos
from loadgen.shapes import PEAK_S, PLATEAU_END_S, PREHEAT_S, SALE_END_S
from loadgen.shop import sale
from loadgen.shop.sale import Answer, Kind
from tests.measures.test_figures import Row, placed, process
from tests.plans import sale_plan
from tests.stored import write_stored_run

SKIPPED: Row = (Kind.ORDER, 1500, 1500, 1500, Outcome.SKIPPED, Answer.NONE)
REFUSED: Row = (Kind.ORDER, 2500, 2500, 2600, Outcome.OK, Answer.SOLD_OUT)


def names(**planned: object) -> list[tuple[str, float, float]]:
    """The phases of a plan."""
    return [(phase.name, phase.from_s, phase.to_s) for phase in phases_of(sale_plan(**planned), {}, {})]


def test_double11_has_the_phases_of_the_sale() -> None:
    """In its own time, and squeezed into that of the run."""
    compressed = names(shape="double11:compress=60", duration_s=10.0)
    whole = names(shape="double11", duration_s=PREHEAT_S + SALE_END_S)

    assert compressed == [("preheat", 0, 1), ("ramp", 1, 1.433), ("plateau", 1.433, 3.5), ("decay", 3.5, 10)]
    assert [name for name, *_ in whole] == ["preheat", "ramp", "plateau", "decay"]
    assert [end for *_, end in whole[:3]] == [PREHEAT_S, PREHEAT_S + PEAK_S, PREHEAT_S + PLATEAU_END_S]


def test_steps_spikes_and_a_warm_up_are_phases() -> None:
    """A shape without parts has none."""
    pieces = ((0.0, 0.25), (0.5, 1.0))

    assert names(shape="steps:50,200@5s", shape_pieces=pieces, duration_s=10.0) == [("step1", 0, 5), ("step2", 5, 10)]
    assert names(shape="spike:at=4s,for=1s", duration_s=10.0) == [("before", 0, 4), ("spike", 4, 5), ("after", 5, 10)]
    assert names(shape="constant", duration_s=10.0, warm_up_s=2.0) == [("warm-up", 0, 2), ("steady", 2, 10)]
    assert names(shape="constant", duration_s=10.0) == []


def test_a_workload_has_phases_of_its_own_and_a_run_that_was_cut_has_fewer() -> None:
    """What plan.json and load.json tell; what makes no sense is left out."""
    plan = sale_plan(shape="constant", duration_s=10.0)
    told = {"phases": {"opening": 0.0, "returns": 6.0, "never": 99.0, "odd": "x"}}

    assert phases_of(plan, told, {}) == [Phase("opening", "workload", 0, 6), Phase("returns", "workload", 6, 10)]
    assert phases_of(plan, told, {"offered_s": 4.0}) == [Phase("opening", "workload", 0, 4)]
    assert phases_of(plan, {"phases": 3}, {"offered_s": -1}) == []


def test_a_phase_has_what_was_due_in_it_and_rates_what_was_answered_in_it() -> None:
    """An order that was due in the first second and answered in the third."""
    run = process(placed(0, 10), placed(900, 2500), placed(1100, 1150), SKIPPED, REFUSED)
    phases = [Phase("one", "shape", 0, 1), Phase("two", "shape", 1, 2), Phase("three", "shape", 2, 3)]
    plan = sale_plan(slo=parse_slos("order.p99<=60ms"))
    told = figures_by_phase(phases, plan, [run], timeline([run]), sale.FACTS, "order", {})

    assert [(each["due"], each["started"], each["skipped"]) for each in told] == [(2, 2, 0), (2, 1, 1), (1, 1, 0)]
    assert [each["per_second_mean"] for each in told] == [1.0, 1.0, 1.0]
    assert [each["response_time_ms"]["order"]["max"] for each in told] == [1600.0, 50.0, None]
    assert [each["response_time_ms"]["order_refused"]["count"] for each in told] == [0, 0, 1]
    assert [each["goodput"][0]["share"] for each in told] == [0.5, 0.5, None]


def test_phases_count_from_the_begin_of_the_schedule() -> None:
    """The first op is due a little later, and load.json says when it began."""
    run = process(placed(1000, 1010), placed(1600, 1610))
    started = {"start_wall_ns": timeline([run]).start_wall_ns - 500 * NS_PER_MS}
    phases = [Phase("one", "shape", 0, 1), Phase("two", "shape", 1, 2)]
    told = figures_by_phase(phases, sale_plan(), [run], timeline([run]), sale.FACTS, "order", started)

    assert [each["due"] for each in told] == [1, 1]


def test_goodput_is_what_was_answered_within_the_limit_of_what_was_due() -> None:
    """Skipped ones are late; refused ones are of another kind; a bound from below limits no time."""
    run = process(placed(0, 10), placed(10, 110), SKIPPED, REFUSED)
    slos = parse_slos("order.p99<=50ms, order.service.p50<=200ms, order_refused.p99<=1s, order.p50>=1ms, skipped<=1%")
    told = goodputs(slos, [run], sale.FACTS, 2.0)

    assert [(each["kind"], each["within"], each["due"]) for each in told] == [
        ("order", 1, 3), ("order", 2, 3), ("order_refused", 1, 1)
    ]  # fmt: skip
    assert [each["per_second"] for each in told] == [0.5, 1.0, 0.5]


def test_intervals_are_those_of_the_binomial_distribution() -> None:
    """Ranks of order statistics, where the sample carries them."""
    times = np.random.default_rng(1).permutation(2000) + 1
    run = process(*(placed(0, int(time)) for time in times))
    response, _ = response_and_service([run], sale.FACTS)
    bounds = response["order"]["interval"]

    for name, thousandths in RANKS.items():
        low, high = (int(binom.ppf(tail, 2000, thousandths / 1000)) for tail in (0.025, 0.975))
        assert bounds[name] == ([low, high + 1] if name != "p999" else None)
    few, _ = response_and_service([process(*(placed(0, time) for time in range(1, 101)))], sale.FACTS)
    assert [name for name, bound in few["order"]["interval"].items() if bound] == ["p50", "p90", "p95"]


def test_bursts_widen_the_interval() -> None:
    """Two hundred seconds of ten ops each, 8 % of them slow: whole seconds, or here and there."""
    due = [second * 1000 + index for second in range(200) for index in range(10)]
    bursts = process(*(placed(at, at + (500 if at // 1000 % 12 == 3 else 5) + at % 7) for at in due))
    spread = process(*(placed(at, at + (500 if place % 25 in (3, 9) else 5) + at % 7) for place, at in enumerate(due)))
    wide, narrow = (response_and_service([run], sale.FACTS)[0]["order"] for run in (bursts, spread))

    assert wide["p90"] == narrow["p90"] == wide["interval"]["p90"][0] == 11.0
    assert narrow["interval"]["p90"][1] == 11.0 and wide["interval"]["p90"][1] > 500


@pytest.mark.parametrize("start_ns", [0, NS_PER_S])
def test_a_stored_run_has_phases_that_add_up(tmp_path: Path, start_ns: int) -> None:
    """Each order of the run is due in one of them."""
    summary = judge(write_stored_run(tmp_path / str(start_ns)))

    assert [phase["name"] for phase in summary["phases"]] == ["preheat", "ramp", "plateau", "decay"]
    assert sum(phase["due"] for phase in summary["phases"]) == summary["orders"]["due"]
    assert summary["goodput"] == []
