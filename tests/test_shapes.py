"""Shapes: their rates, and that a cumulative rate and its inverse undo each other."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.errors import PlanError
from loadgen.load.rate_file import names_a_file, read_rate_file
from loadgen.plan import SHAPES as PLANNED
from loadgen.plan import Plan, parse_plan, plan_from_json
from loadgen.schedule import arrival_profile, has_schedule, plan_arrivals
from loadgen.shapes import (
    CELLS,
    LAST_RATE,
    PEAK_S,
    PREHEAT_S,
    SALE_END_S,
    SHAPES,
    Curve,
    is_closed,
    profile,
    resolved,
)
from loadgen.workload import Workload

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


def written(tmp_path: Path, text: str) -> str:
    """A file of rates."""
    file = tmp_path / "rates.csv"
    file.write_text(text)
    return str(file)


def stored(plan: Plan) -> Plan:
    """``plan`` as whoever judges reads it."""
    return plan_from_json(json.loads(json.dumps(plan.to_json())))


def rates(plan: Plan, *seconds: float) -> list[float]:
    """Arrivals a second of a plan, at ``seconds``."""
    due = arrival_profile(plan, ("order",))
    return [round(rate, 6) for rate in due.rate(np.array(seconds)).tolist()]


PARAMETERS = st.one_of(
    st.sampled_from(OPEN),
    st.floats(3, 1e4).map(lambda compress: f"double11:compress={compress:.3f}"),
    st.builds(
        "spike:at={:.3f}s,for={:.3f}s,base={:.3f}".format, st.floats(0.01, 29), st.floats(0.01, 90), st.floats(0, 1)
    ),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=30)
    .filter(lambda steps: steps[0] > 0)
    .flatmap(
        lambda steps: st.sampled_from(["", "@20s", "@250ms"]).map(
            lambda hold: f"steps:{','.join(map(str, steps))}{hold}"
        )
    ),
)


@given(shape=PARAMETERS, share=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=50))
def test_every_shape_has_an_inverse_and_keeps_within_its_peak(shape: str, share: list[float]) -> None:
    """Whatever its parameters: no negative rate, none above the peak, and the inverse undoes the cumulative rate."""
    plan = parse_plan({"shape": shape, "duration": "30s"})
    due = arrival_profile(plan, ("order",))
    counts = np.array(share) * due.total
    every_rate = due.rate(np.linspace(0, 30, 3001)[:-1])

    assert due.total > 0
    assert np.allclose(due.cumulative(due.inverse(counts)), counts, rtol=1e-9, atol=1e-9 * due.total)
    assert (np.diff(due.inverse(np.sort(counts))) >= 0).all()
    assert (every_rate >= 0).all() and every_rate.max() <= plan.peak_rate * (1 + 1e-9)
    assert stored(plan) == plan


@given(
    gaps=st.lists(st.floats(0.01, 100), min_size=2, max_size=40),
    values=st.lists(st.floats(0, 1e5), min_size=41, max_size=41),
    first=st.floats(-1e6, 1e9),
)
def test_a_file_of_rates_offers_what_was_counted(
    gaps: list[float], values: list[float], first: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As many arrivals in each interval as its rate says, whatever the second at which the file begins."""
    seconds = [round(second, 3) for second in np.concatenate(([first], first + np.cumsum(gaps))).tolist()]
    lines = [f"{second:.3f},{value:.3f}" for second, value in zip(seconds, values[: len(seconds)], strict=True)]
    text = written(tmp_path_factory.mktemp("rates"), "second,rate\n" + "\n".join(lines) + "\n")
    counted = [round(value, 3) for value in values[: len(seconds)]]
    if not any(counted):
        with pytest.raises(PlanError, match="no arrival is ever due"):
            read_rate_file(text)
        return
    plan = stored(parse_plan({"shape": text}, own_shapes={text: read_rate_file(text)}))
    due = arrival_profile(plan, ("order",))

    elapsed = np.append(np.array(seconds) - seconds[0], 2 * seconds[-1] - seconds[-2] - seconds[0])
    assert plan.duration_s == pytest.approx(elapsed[-1])
    assert plan.peak_rate == pytest.approx(max(counted))
    assert np.diff(due.cumulative(elapsed)) == pytest.approx(np.diff(elapsed) * counted, rel=1e-6, abs=0.02)


def test_compress_is_how_many_seconds_of_the_sale_pass_in_one() -> None:
    """The whole sale, if no duration says otherwise; a longer one stays at the last rate."""
    plan = parse_plan({"shape": "double11:compress=60"})
    longer = parse_plan({"shape": "double11:compress=60", "duration": "30s"})

    assert plan.duration_s == pytest.approx((PREHEAT_S + SALE_END_S) / 60)
    assert rates(plan, 2.0) == [400.0]  # 120 s of 779: the sale's second 60
    assert rates(longer, 2.0, 20.0, 29.9) == [400.0, 400 * LAST_RATE, 400 * LAST_RATE]


def test_steps_say_their_rate_and_their_duration() -> None:
    """A shorter duration cuts the last steps, a longer one holds the last; without a time each has the same share."""
    plan = parse_plan({"shape": "steps:100,200,400@30s"})

    assert (plan.duration_s, plan.peak_rate, plan.shape_pieces) == (90.0, 400.0, ())
    assert rates(plan, 0, 29.9, 30.1, 59.9, 60.1, 89.9) == [100, 100, 200, 200, 400, 400]
    cut = parse_plan({"shape": "steps:100,200,400@30s", "duration": "45s"})
    assert (cut.peak_rate, rates(cut, 29.9, 30.1, 44.9)) == (200.0, [100, 200, 200])
    assert rates(parse_plan({"shape": "steps:100,200@30s", "duration": "2m"}), 30.1, 119.0) == [200, 200]
    assert rates(parse_plan({"shape": "steps:300,150", "duration": "10s"}), 4.9, 5.1) == [300, 150]


def test_a_spike_is_the_peak_between_two_instants() -> None:
    """And a share of it before and after."""
    plan = parse_plan({"shape": "spike:at=30s,for=5s,base=0.1", "peak_rate": "1000"})

    assert rates(plan, 0, 29.9, 30.1, 34.9, 35.1, 59.9) == [100, 100, 1000, 1000, 100, 100]


def test_a_file_is_stretched_to_the_duration_and_the_peak_that_the_user_gives(tmp_path: Path) -> None:
    """Alone it says both itself; each rate holds until the next line, the last as long as the one before."""
    text = written(tmp_path, "1000,50\n1010,100\n# a pause\n\n1020,0\n")
    shape = {text: read_rate_file(text)}
    plan, other = (
        parse_plan({"shape": text, **more}, own_shapes=shape) for more in ({}, {"duration": "3s", "peak_rate": "10"})
    )

    assert (plan.duration_s, plan.peak_rate) == (30.0, 100.0)
    assert rates(plan, 5, 15, 25) == [50, 100, 0]
    assert rates(other, 0.5, 1.5, 2.5) == [5, 10, 0]
    Path(text).unlink()
    assert rates(stored(plan), 5, 15, 25) == [50, 100, 0]


def test_a_long_file_becomes_cells_with_the_same_arrivals(tmp_path: Path) -> None:
    """A day of seconds fits into plan.json."""
    text = written(tmp_path, "\n".join(f"{second},{second % 600}" for second in range(86_400)))
    curve = read_rate_file(text)
    plan = parse_plan({"shape": text}, own_shapes={text: curve})

    assert len(curve.pieces) <= CELLS
    assert arrival_profile(plan, ("order",)).total == pytest.approx(sum(second % 600 for second in range(86_400)))
    assert len(json.dumps(plan.to_json())) < 400_000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("0,1\n1,x\n", "line 2: 'x' is not a rate from 0 to 1,000,000"),
        ("0,1\n1,nan\n", "line 2: 'nan' is not a rate"),
        ("0,1\n1,-5\n", "line 2: '-5' is not a rate"),
        ("0,1\n1,1e9\n", "line 2: '1e9' is not a rate"),
        ("0,1\n0,2\n", "line 2: second 0 does not come after 0"),
        ("0,1\n5,2\n4,2\n", "line 3: second 4 does not come after 5"),
        ("0,1\nlater,2\n", "line 2: 'later' is not a second"),
        ("0,1\n1\n2,3,4\nx\n", "line 2: '1' is not second,rate; also line 3, 4"),
        ("second,rate\n0,1\n", "has 1 lines of second,rate"),
        ("", "has 0 lines"),
        ("0,0\n1,0\n", "all rates"),
        ("\x00\xff,\n", "line 1"),
        ("0,1\n" + "x\n" * 20, "also line 3, 4, 5, 6 and 15 more"),
    ],
)
def test_bad_lines_of_a_file_are_named(tmp_path: Path, content: str, said: str) -> None:
    """In one line, with the file and their numbers."""
    text = written(tmp_path, content)
    with pytest.raises(PlanError) as caught:
        read_rate_file(text)

    assert said in str(caught.value)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["csv:/nowhere/rates.csv", "/nowhere/rates.csv", "csv:/", "csv:", "a\0.csv"])
def test_a_file_that_cannot_be_read_is_one_line(text: str) -> None:
    """Missing, a directory, or no name at all."""
    assert names_a_file(text)
    with pytest.raises(PlanError, match="--shape: "):
        read_rate_file(text)


def test_a_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """Before anything is made of it."""
    with pytest.raises(PlanError, match="more than 200,000 lines"):
        read_rate_file(written(tmp_path, "1,1\n" * 200_001))


def test_an_own_shape_is_kept_in_the_plan() -> None:
    """Whoever judges has its values and not the function; one that changes in steps takes few of them."""
    wave = {"wave": lambda share: 0.5 - 0.5 * math.cos(2 * math.pi * share), "half": lambda share: float(share >= 0.5)}
    plan = parse_plan({"shape": "wave", "duration": "10s"}, own_shapes=wave)

    assert rates(plan, 2.5, 5.0) == pytest.approx([200, 400], rel=1e-3)
    assert arrival_profile(plan, ("order",)).total == pytest.approx(2000, rel=1e-6)
    assert len(parse_plan({"shape": "half"}, own_shapes=wave).shape_pieces) == 3
    again = list(plan_arrivals(stored(plan), ("order",), 0, 1))
    assert np.concatenate(again).tolist() == np.concatenate(list(plan_arrivals(plan, ("order",), 0, 1))).tolist()


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (lambda share: 1.5, "at 0 it gives 1.5; a relative rate is from 0 to 1"),
        (lambda share: math.nan, "it gives nan"),
        (lambda share: 1 / share, "at 0 it raises ZeroDivisionError"),
        (lambda share: "much", "it raises ValueError"),
        (lambda share: 0.0, "it is 0 everywhere"),
    ],
)
def test_an_own_shape_that_gives_no_rate_is_refused(shape: object, said: str) -> None:
    """One line, with the instant."""
    with pytest.raises(PlanError) as caught:
        resolved("mine", shape)  # type: ignore[arg-type]

    assert said in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": "square"},
        {"shape": "steps"},
        {"shape": "spike:at=99h"},
        {"shape_pieces": 5},
        {"shape_pieces": [[0, 1], [0, 1]]},
        {"shape_pieces": [[0.5, 1]]},
        {"shape_pieces": [[0, 2]]},
        {"shape_pieces": [[0, 0]]},
        {"shape_pieces": [[0, math.nan]]},
        {"shape_pieces": ["ab"]},
        {"shape_pieces": [[0, [1]]]},
        {"shape_pieces": [[index / 10_000, 1] for index in range(10_000)]},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_stored_shape_that_is_none_is_refused(change: dict[str, object]) -> None:
    """A file may say anything: it is a PlanError, and never a schedule."""
    values = parse_plan({}).to_json() | change
    with pytest.raises(PlanError):
        plan_from_json(values)


def test_a_plan_of_an_older_version_has_no_pieces() -> None:
    """Its shape is one of the four that there were."""
    values = parse_plan({"shape": "ramp"}).to_json()

    assert "shape_pieces" not in values
    assert has_schedule(plan_from_json(values))
    assert not has_schedule(parse_plan({}).with_(shape="mine"))


@given(st.text() | st.from_regex(r"(double11|spike|steps|ramp|csv|constant):[a-z0-9=,.@-]*", fullmatch=True))
def test_any_text_is_a_shape_or_one_line(text: str) -> None:
    """Nothing but PlanError, and no file is opened: a page sends such texts."""
    try:
        plan = parse_plan({"shape": text})
    except PlanError as error:
        assert len(str(error)) < 600
    else:
        assert arrival_profile(plan, ("order",)).total >= 0


def test_a_shape_cannot_take_the_name_of_one_that_there_is() -> None:
    """``--shape closed`` means the same for every workload."""
    with pytest.raises(PlanError, match="a shape of its own cannot be called 'closed'"):
        Workload(
            "w", ("a",), ("none",), ("a",), 0, lambda _: (), {}, lambda *_: {}, lambda *_: [], shapes={"closed": abs}
        )


def test_a_curve_given_by_name_is_taken_as_it_is() -> None:
    """What was read of a file is not made anew."""
    plan = parse_plan({"shape": "Mine.CSV"}, own_shapes={"Mine.CSV": Curve(pieces=((0, 1.0),), duration_s=7.0)})

    assert (plan.shape, plan.duration_s, plan.peak_rate) == ("Mine.CSV", 7.0, 400.0)
