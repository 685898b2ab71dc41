"""What was due comes from the schedule, in every ending: due and skipped are equal to it, whoever dies when."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.clock import NS_PER_MS, NS_PER_S, ClockOrigin
from loadgen.history.history import LoadProcess
from loadgen.history.timeline import timeline
from loadgen.measures.offered import NO_NUMBER, WORKER_LOST, offered
from loadgen.measures.throughput import count_orders
from loadgen.op import Outcome
from loadgen.plan import Plan
from loadgen.report.seconds import seconds_table
from loadgen.schedule import plan_arrivals
from loadgen.shop import sale
from loadgen.shop.sale import Answer, Kind
from tests.plans import sale_plan

MIX = (("order", 10), ("pay", 8), ("browse", 2))
PLAN = sale_plan(shape="constant", peak_rate=200.0, duration_s=3.0, kind_weights=MIX)
ARRIVING = ("order", "browse")
WORKLOAD = {"name": "flashsale", "kinds": list(sale.KIND_NAMES), "arrivals": list(ARRIVING)}
BLOCK = 64
SERVICE_NS = 2 * NS_PER_MS
FLUSH_NS = 100 * NS_PER_MS
BOOT_NS = 10**15


@dataclass(frozen=True)
class Death:
    """When a load process ends, in nanoseconds since the begin, and how."""

    at_ns: int
    orderly: bool
    """It gives back what it has and says so, as on SIGTERM; else it is killed."""


def shares(plan: Plan, count: int) -> list[np.ndarray[Any, Any]]:
    """The schedule of each load process."""
    return [
        np.concatenate([*plan_arrivals(plan, ARRIVING, index, count), np.empty(0, np.int64)]) for index in range(count)
    ]


def drive(
    plan: Plan, deaths: Sequence[Death | None], stop_ns: int | None = None
) -> tuple[list[LoadProcess], dict[str, Any]]:
    """The history and load.json of a run on a server that serves everything in SERVICE_NS.

    Rows reach the history each FLUSH_NS, numbers are handed out a block ahead. With ``stop_ns`` the run is cut there.
    """
    end_ns = int(plan.duration_s * NS_PER_S) if stop_ns is None else stop_ns
    numbers = itertools.count()
    processes, told = [], {}
    for index, (due, death) in enumerate(zip(shares(plan, len(deaths)), deaths, strict=True)):
        until_ns = end_ns if death is None else min(end_ns, death.at_ns)
        used = int((due < until_ns).sum())
        handed = -(-(used + 1) // BLOCK) * BLOCK + BLOCK
        mine = np.array(list(itertools.islice(numbers, handed)), dtype=np.int64)
        invoked = {name: np.asarray(column) for name, column in sale.invoked(plan, int(mine[0]), handed).items()}
        done = due[:used] + SERVICE_NS
        killed = death is not None and not death.orderly and death.at_ns < end_ns
        written = int((done < until_ns // FLUSH_NS * FLUSH_NS).sum()) if killed else used
        processes.append(
            process_of(index, len(deaths), invoked, due[:written], int(mine[used]) if not killed else None)
        )
        told[str(index)] = (
            {"lost": "it died"}
            if killed
            else {
                "lost": "it ended" if death is not None and death.at_ns < end_ns else "",
                "next_number": int(mine[used]),
                "unnumbered": 0,
            }
        )
    load = {"processes": told, "begun": True, "start_wall_ns": BOOT_NS, "offered_s": end_ns / NS_PER_S}
    return processes, load


def process_of(
    index: int, count: int, invoked: dict[str, Any], due: np.ndarray[Any, Any], closed_at: int | None
) -> LoadProcess:
    """A load process whose first arrivals, at ``due``, were all answered. Its clock shows the time since the begin."""
    ended = len(due)
    kind = invoked["kind"][:ended]
    ops = {
        "number": invoked["number"][:ended],
        "kind": kind,
        "process": np.full(ended, index, np.int32),
        "due": due,
        "sent": due,
        "done": due + SERVICE_NS,
        "outcome": np.full(ended, int(Outcome.OK), np.uint8),
        "answer": np.where(kind == Kind.ORDER, int(Answer.PLACED), int(Answer.SEEN)).astype(np.uint8),
        "tries": np.ones(ended, np.int32),
        "stage": np.zeros(ended, np.uint8),
        "code": np.array([""] * ended, dtype=object),
    }
    tries = {name: column[:0] for name, column in ops.items()}
    origin = ClockOrigin("h", "b", BOOT_NS, 0)
    return LoadProcess(str(index), origin, {"share": f"{index}/{count}"}, invoked, ops, tries, closed_at)


def orders(processes: Sequence[LoadProcess]) -> dict[str, Any]:
    """The counts of a run's orders, checked against each other and against the table of seconds."""
    counts = count_orders(processes, timeline(processes))
    table = seconds_table(processes, sale.KIND_NAMES, list(sale.ANSWER_NAMES))
    assert counts["due"] == counts["started"] + counts["skipped"]
    assert counts["started"] == counts["ok"] + counts["fail"] + counts["info"]
    for name in ("due", "skipped", "placed", "fail", "info") if len(table) else ():
        assert table[name].sum() == counts[name], name
    return counts


def all_arrivals(processes: Sequence[LoadProcess]) -> int:
    """How many arrivals were due, whatever their kind."""
    return sum(int(np.isin(process.ops["kind"], (Kind.ORDER, Kind.BROWSE)).sum()) for process in processes)


deaths = st.one_of(st.none(), st.builds(Death, st.integers(0, 3 * NS_PER_S), st.booleans()))


@settings(max_examples=60, deadline=None)
@given(
    each=st.lists(deaths, min_size=1, max_size=4),
    seed=st.integers(0, 1000),
    shape=st.sampled_from(["constant", "ramp", "double11"]),
    load_known=st.booleans(),
)
def test_due_is_the_schedule_whoever_dies_when(
    each: list[Death | None], seed: int, shape: str, load_known: bool
) -> None:
    """Each arrival of the schedule has one row; a dead process's are info up to its last sign of life, then skipped."""
    plan = PLAN.with_(seed=seed, shape=shape)
    processes, load = drive(plan, each)
    complete = offered(processes, plan, WORKLOAD, load if load_known else {}).processes
    counts = orders(complete)
    if load_known:
        assert all_arrivals(complete) == sum(map(len, shares(plan, len(each))))
    for before, after, death in zip(processes, complete, each, strict=False):
        added = {name: column[len(before.ops["due"]) :] for name, column in after.ops.items()}
        last_ns = int(before.ops["done"].max()) if len(before.ops["done"]) else -1
        is_info = added["outcome"] == Outcome.INFO
        assert (is_info <= (added["due"] <= last_ns)).all()
        if before.closed_at is None:
            assert (is_info == (added["due"] <= last_ns)).all()
        assert (after.ops["due"][len(before.ops["due"]) :] >= 0).all()
        if death is None and load_known:
            assert not len(added["due"])
    if load_known and not any(each):
        assert counts["skipped"] == counts["info"] == 0


@settings(max_examples=30, deadline=None)
@given(stop_ns=st.integers(1, 3 * NS_PER_S), death=deaths)
def test_a_run_that_was_cut_was_asked_up_to_its_cut(stop_ns: int, death: Death | None) -> None:
    """Nothing is due after somebody stopped it, of the living and of the dead."""
    processes, load = drive(PLAN, [None, death], stop_ns)
    complete = offered(processes, PLAN, WORKLOAD, load).processes

    assert all_arrivals(complete) == sum(int((share < stop_ns).sum()) for share in shares(PLAN, 2))
    orders(complete)


def test_a_run_whose_head_died_was_asked_up_to_its_last_sign_of_life() -> None:
    """Without load.json nothing tells more: numbers that were handed out ahead are no arrivals."""
    processes, _ = drive(PLAN, [Death(NS_PER_S, orderly=False), Death(3 * NS_PER_S // 2, orderly=False)])
    complete = offered(processes, PLAN, WORKLOAD, {}).processes
    last_ns = max(int(process.ops["done"].max()) for process in processes)
    handed = sum(len(process.invoked["number"]) for process in processes)

    assert all_arrivals(complete) == sum(int((share < last_ns).sum()) for share in shares(PLAN, 2)) < handed
    orders(complete)


@pytest.mark.parametrize("rows", [0, 40])
def test_a_process_without_a_row_or_without_a_history_leaves_its_share_skipped(rows: int) -> None:
    """It was lost before its first answer was written: its schedule is known all the same, and where it began."""
    processes, load = drive(PLAN, [None, None])
    lost = replace(processes[1], ops={name: column[:rows] for name, column in processes[1].ops.items()}, closed_at=None)
    load["processes"]["1"] = {"lost": "it died"}
    with_stream = offered([processes[0], lost], PLAN, WORKLOAD, load)
    without = offered([processes[0]], PLAN, WORKLOAD, load)
    due = sum(map(len, shares(PLAN, 2)))

    for complete in (with_stream, without):
        assert all_arrivals(complete.processes) == due
        assert orders(complete.processes)["skipped"] > 200
        assert complete.skipped_because(Kind.ORDER)["worker_lost"] == orders(complete.processes)["skipped"]
        assert "count as skipped" in complete.notes[0]


def test_arrivals_without_a_number_are_skipped_with_their_cause() -> None:
    """A head whose disk is full gives no numbers: what was due meanwhile was not served, and is counted."""
    processes, load = drive(PLAN, [None], 2 * NS_PER_S)
    load["processes"]["0"]["unnumbered"] = 25
    complete = offered(processes, PLAN, WORKLOAD, load)
    codes = complete.processes[0].ops["code"].tolist()

    assert codes.count(NO_NUMBER) == 25 and WORKER_LOST not in codes
    assert all_arrivals(complete.processes) == all_arrivals(processes) + 25
    orders(complete.processes)


def test_a_history_that_was_not_written_to_its_end_is_info_as_far_as_its_process_went() -> None:
    """A full disk is no death: what the process started after it may have happened, and none of it was lost."""
    processes, load = drive(PLAN, [None], 2 * NS_PER_S)
    torn = replace(processes[0], ops={name: column[:100] for name, column in processes[0].ops.items()}, closed_at=None)
    complete = offered([torn], PLAN, WORKLOAD, load).processes

    assert all_arrivals(complete) == all_arrivals(processes)
    assert orders(complete)["skipped"] == 0 and orders(complete)["info"] > 100


def test_a_closed_loop_has_no_schedule_and_numbers_ahead_are_no_arrivals() -> None:
    """What was taken before the last answer may have happened; what was handed out ahead was never asked."""
    plan = PLAN.with_(shape="closed")
    processes, load = drive(PLAN, [Death(NS_PER_S, orderly=False)])
    holes = np.arange(len(processes[0].ops["due"])) % 50 != 7
    torn = replace(processes[0], ops={name: column[holes] for name, column in processes[0].ops.items()})
    complete = offered([torn], plan, WORKLOAD, load).processes

    assert all_arrivals(complete) == int(torn.ops["number"].max()) + 1
    orders(complete)


@pytest.mark.parametrize(
    "broken",
    [
        {"start_wall_ns": "x", "offered_s": [], "processes": 7},
        {"processes": {"0": {"lost": 5, "next_number": "a", "unnumbered": -3}}, "offered_s": 1e300},
        {"offered_s": -5, "processes": {"0": []}},
    ],
)
@pytest.mark.parametrize("plan", [PLAN, PLAN.with_(shape="zigzag"), PLAN.with_(peak_rate=float("nan"))])
def test_whatever_load_json_and_plan_say_figures_are_made(broken: dict[str, Any], plan: Plan) -> None:
    """Damaged files cost exactness, never a traceback."""
    processes, _ = drive(PLAN, [None, Death(NS_PER_S, orderly=False)])

    orders(offered(processes, plan, WORKLOAD, broken).processes)
