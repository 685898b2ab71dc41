"""Shapes: their rates, and that a cumulative rate and its inverse undo each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.plan import SHAPES as PLANNED
from loadgen.shapes import LAST_RATE, PEAK_S, PREHEAT_S, SALE_END_S, SHAPES, is_closed, profile

OPEN = sorted(name for name in SHAPES if not is_closed(name))
MINUTE = 60.0
FACTOR = (PREHEAT_S + SALE_END_S) / MINUTE


def at(second_of_sale: float) -> float:
    """When a run of a minute is at this second of the sale."""
    return (second_of_sale + PREHEAT_S) / FACTOR


def test_shapes_are_those_that_a_plan_may_name() -> None:
    """What a plan can ask for exists, and nothing else."""
    assert set(SHAPES) == set(PLANNED)


@given(
    shape=st.sampled_from(OPEN),
    duration_s=st.floats(0.1, 1e5),
    peak=st.floats(0.1, 1e5),
    share=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=50),
)
def test_profile_inverse_undoes_cumulative(shape: str, duration_s: float, peak: float, share: list[float]) -> None:
    """The count due by the instant at which a count is due is that count."""
    due = profile(shape, duration_s, peak)
    counts = np.array(share) * due.total

    assert np.allclose(due.cumulative(due.inverse(counts)), counts, rtol=1e-9, atol=1e-9 * due.total)


@given(shape=st.sampled_from(OPEN), duration_s=st.floats(0.1, 1e5), peak=st.floats(0.1, 1e5))
def test_profile_rate_stays_between_nothing_and_the_peak(shape: str, duration_s: float, peak: float) -> None:
    """No instant has a negative rate or one above the peak, and outside of the run there is none."""
    due = profile(shape, duration_s, peak)
    rates = due.rate(np.linspace(0, duration_s, 1001)[:-1])

    assert (rates >= 0).all()
    assert rates.max() <= peak * (1 + 1e-9)
    assert due.rate(np.array([-0.1, duration_s * 1.01])).tolist() == [0, 0]


@pytest.mark.parametrize(("shape", "expected"), [("constant", 6000.0), ("ramp", 3000.0), ("closed", 0.0)])
def test_profile_total_is_the_area_under_the_shape(shape: str, expected: float) -> None:
    """100 a second for a minute; the half of it on a ramp; nothing arrives in a closed run."""
    assert profile(shape, MINUTE, 100.0).total == pytest.approx(expected)


def test_double11_goes_through_the_milestones() -> None:
    """Preheat from 2 to 5 %, the peak by the 26th second, a plateau to the 150th, and 15 % at the end."""
    due = profile("double11", MINUTE, 1000.0)
    milestones = np.array([at(-60), at(-0.5), at(PEAK_S), at(100), at(149), at(450), MINUTE - 0.01])
    rates = due.rate(milestones)

    assert rates == pytest.approx([20, 50, 1000, 1000, 1000, 1000 * np.exp(-1), 1000 * LAST_RATE], rel=0.02)


def test_double11_keeps_its_form_whatever_its_duration() -> None:
    """One time factor compresses everything: the totals stand in the ratio of the durations."""
    assert profile("double11", 600.0, 50.0).total == pytest.approx(10 * profile("double11", 60.0, 50.0).total)
