"""Arrivals: Poisson with the shape's rate, reproducible, and split among load processes; and the timer."""

import itertools
import math

import numpy as np
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from loadgen.clock import NS_PER_MS, NS_PER_S, now_ns
from loadgen.load.arrivals import Timer, plan_arrivals
from loadgen.schedule import CHUNK, arrival_profile, arrivals
from loadgen.shapes import profile
from tests.load.fake_engine import sale_plan
from workloads.flashsale import SALE


def offsets(shape: str, rate: float, duration_s: float, seed: int = 1, index: int = 0, count: int = 1) -> list[int]:
    """All arrivals of one load process."""
    chunks = arrivals(profile(shape, duration_s, rate), seed, index, count)
    return list(itertools.chain.from_iterable(chunk.tolist() for chunk in chunks))


@given(
    shape=st.sampled_from(["constant", "ramp", "double11"]),
    rate=st.floats(1.0, 2000.0),
    duration_s=st.floats(0.1, 5.0),
    seed=st.integers(0, 2**63 - 1),
    count=st.integers(1, 4),
)
def test_arrivals_ascend_within_the_schedule_in_the_number_that_is_due(
    shape: str, rate: float, duration_s: float, seed: int, count: int
) -> None:
    """Offsets ascend from 0 to the end; their count over all processes is Poisson's, within seven deviations."""
    parts = [offsets(shape, rate, duration_s, seed, index, count) for index in range(count)]
    expected = profile(shape, duration_s, rate).total

    for part in parts:
        assert part == sorted(part)
        assert all(0 <= offset < duration_s * NS_PER_S for offset in part)
    assert abs(sum(map(len, parts)) - expected) <= 7 * math.sqrt(expected) + 7


def test_arrivals_of_one_seed_are_the_same_and_of_another_are_not() -> None:
    """A plan can be run again, arrival for arrival; another seed or another process has another stream."""
    first = offsets("double11", 1000, 2.0, seed=5)

    assert first == offsets("double11", 1000, 2.0, seed=5)
    assert first != offsets("double11", 1000, 2.0, seed=6)
    assert offsets("double11", 1000, 2.0, 5, 0, 2) != offsets("double11", 1000, 2.0, 5, 1, 2)


def test_arrivals_gaps_are_exponential() -> None:
    """At a constant rate the gaps have the mean and the deviation of an exponential, and no memory."""
    gaps_s = np.diff(np.array(offsets("constant", 1000, 20.0))) / NS_PER_S

    assert gaps_s.mean() == pytest.approx(0.001, rel=0.05)
    assert gaps_s.std() == pytest.approx(0.001, rel=0.05)
    assert abs(np.corrcoef(gaps_s[1:], gaps_s[:-1])[0, 1]) < 0.05


def test_arrivals_follow_the_shape() -> None:
    """A ramp has a quarter of its arrivals in its first half."""
    due = np.array(offsets("ramp", 2000, 10.0))

    assert np.mean(due < 5 * NS_PER_S) == pytest.approx(0.25, abs=0.02)


def test_arrivals_come_in_small_chunks_however_long_the_run() -> None:
    """Two hours at 20,000 a second do not lie in memory: the next chunk is made when it is asked for."""
    chunks = arrivals(profile("constant", 7200.0, 20_000), 1, 0, 1)

    assert all(0 < len(chunk) <= CHUNK for chunk in itertools.islice(chunks, 20))


def test_arrival_profile_gives_the_first_kind_the_plans_rate() -> None:
    """Orders arrive at the plan's rate, and browsing comes on top by its weight."""
    both = arrival_profile(sale_plan(peak_rate=1000, kind_weights=(("order", 10), ("browse", 2))), SALE.arrivals)
    only_browse = arrival_profile(sale_plan(peak_rate=1000, kind_weights=(("browse", 2),)), SALE.arrivals)

    assert both.peak_rate == pytest.approx(1200)
    assert only_browse.peak_rate == pytest.approx(1000)


def test_plan_arrivals_of_a_closed_run_are_none() -> None:
    """Nothing arrives where sessions take one op after another."""
    assert list(plan_arrivals(sale_plan(shape="closed"), SALE, 0, 1)) == []


@pytest.mark.parametrize("use_timerfd", [True, False])
def test_timer_wakes_at_its_instant_and_not_before(use_timerfd: bool) -> None:
    """Each setting wakes once, not early; a setting in the past wakes at once; 0 never."""
    loop = uvloop.new_event_loop()
    woken: list[int] = []
    wanted: list[int] = []

    def wake() -> None:
        woken.append(now_ns())
        if len(wanted) == 3:
            timer.set(0)
            loop.call_later(0.005, loop.stop)
            return
        wanted.append(now_ns() + 2 * NS_PER_MS if len(wanted) < 2 else 1)
        timer.set(wanted[-1])

    timer = Timer(loop, wake, use_timerfd=use_timerfd)
    wanted.append(now_ns() + 2 * NS_PER_MS)
    timer.set(wanted[0])
    loop.run_forever()
    timer.close()
    loop.close()

    assert len(woken) == 3
    assert all(at >= due for at, due in zip(woken, wanted, strict=True))
