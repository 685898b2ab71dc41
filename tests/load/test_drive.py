"""Driving: what becomes due is started or skipped, what is started ends, and each end is one row."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.clock import NS_PER_MS, NS_PER_S, now_ns
from loadgen.engines.engine import Address
from loadgen.history.history import ROW_DONE, ROW_TRY
from loadgen.load import scheduler as drive_module
from loadgen.load import session_loop as seat_module
from loadgen.load.loop import LoopThread, sleep_until
from loadgen.load.scheduler import Scheduler
from loadgen.op import Completion, Outcome, Stage
from loadgen.plan import Plan
from loadgen.shop.sale import Answer, Kind
from loadgen.workload import Call, Result
from tests.load.fake_engine import FakeEngine, FakeServer, Fault, no_fault, sale_bodies, sale_plan
from workloads.flashsale import SALE

NUMBERS = 6_000
LEAD_NS = 2 * NS_PER_MS


@dataclass
class Ran:
    """A short run, whole."""

    plan: Plan
    server: FakeServer
    scheduler: Scheduler
    start: int
    done: list[Completion]
    tries: list[Completion]

    @property
    def end(self) -> int:
        """The end of the schedule."""
        return self.start + int(self.plan.duration_s * NS_PER_S)

    def arrivals(self) -> list[Completion]:
        """The rows of what arrived by itself."""
        return [row for row in self.done if row.kind in (Kind.ORDER, Kind.BROWSE)]

    def outcomes(self) -> Counter[Outcome]:
        """How the ops ended."""
        return Counter(Outcome(row.outcome) for row in self.done)


def run(
    plan: Plan,
    fault: Fault = no_fault,
    *,
    sessions: int = 8,
    numbers: int = NUMBERS,
    drain_s: float = 1.0,
    serve_queued: bool = True,
    during: Callable[[Scheduler], Any] = lambda _: None,
    share: tuple[int, int] = (0, 1),
) -> Ran:
    """Drive a whole run against a fake server; faults begin when all sessions are connected."""
    server = FakeServer(plan)
    thread = LoopThread()
    try:
        scheduler = Scheduler(plan, SALE, FakeEngine(server), Address(), thread, share=share)
        for _ in range(sessions):
            scheduler.add_session(sale_bodies(plan))
        supply(scheduler, plan, 0, numbers)
        assert sleep_until(lambda: scheduler.connected == sessions, 5)
        server.fault, server.steps = fault, {}
        start = now_ns() + LEAD_NS
        scheduler.begin(start)
        during(scheduler)
        sleep_until(lambda: now_ns() > start + plan.duration_s * NS_PER_S, plan.duration_s + 1)
        thread.submit(scheduler.drain(drain_s, serve_queued=serve_queued)).result(drain_s + 5)
        rows, types = scheduler.take_rows()
    finally:
        assert thread.stop()
    assert not thread.problems
    done = [row for row, kind in zip(rows, types, strict=True) if kind == ROW_DONE]
    return Ran(
        plan, server, scheduler, start, done, [r for r, kind in zip(rows, types, strict=True) if kind == ROW_TRY]
    )


def supply(scheduler: Scheduler, plan: Plan, first: int, count: int) -> None:
    """Give the drive a block of numbers."""
    if count:
        scheduler.supply(SALE.ops(plan, SALE.invoked(plan, first, count)))


def assert_whole(ran: Ran) -> None:
    """The identities that hold whatever happens."""
    numbers = sorted(row.number for row in ran.arrivals())
    assert numbers == list(range(ran.scheduler.next_number)), (
        "each number used has one row, in order, none is used twice"
    )
    assert len({(row.number, row.kind) for row in ran.done}) == len(ran.done)
    outcomes = ran.outcomes()
    started = [row for row in ran.done if row.outcome != Outcome.SKIPPED]
    assert len(started) == outcomes[Outcome.OK] + outcomes[Outcome.FAIL] + outcomes[Outcome.INFO]
    assert len(ran.done) == len(started) + outcomes[Outcome.SKIPPED]
    assert all(row.due <= row.sent <= row.done for row in ran.done)
    assert all(ran.start <= row.due < ran.end for row in ran.done), "nothing is due outside of the schedule"
    assert all(row.sent - row.due <= ran.plan.late_limit_s * NS_PER_S for row in started)
    assert Counter(row.number for row in ran.tries) == Counter(
        {row.number: row.tries - 1 for row in ran.done if row.tries > 1}
    ) or len(ran.tries) == sum(row.tries - 1 for row in started)
    assert not ran.scheduler.problems
    assert ran.scheduler.in_flight == ran.scheduler.queued == ran.scheduler.unnumbered == 0


def assert_books_agree(ran: Ran) -> None:
    """What the rows say happened is what the tables hold: exactly where nothing is unknown."""
    acknowledged = {row.number for row in ran.done if row.answer == Answer.PLACED}
    unknown = {row.number for row in ran.done if row.outcome == Outcome.INFO and row.kind == Kind.ORDER}
    assert acknowledged <= set(ran.server.orders) <= acknowledged | unknown


def test_drive_open_run_serves_the_whole_mix() -> None:
    """A quiet server serves every arrival, and what follows from it, all ok."""
    ran = run(sale_plan(peak_rate=1500))

    assert_whole(ran)
    assert_books_agree(ran)
    assert set(ran.outcomes()) == {Outcome.OK}
    assert {row.kind for row in ran.done} == set(Kind)
    assert 1800 * 0.2 * 0.6 < len(ran.arrivals()) < 1800 * 0.2 * 1.4


@settings(max_examples=12, deadline=None)
@given(
    shape=st.sampled_from(["constant", "closed", "double11"]),
    seed=st.integers(0, 10_000),
    sessions=st.integers(1, 12),
    rate=st.sampled_from([300.0, 3000.0, 30_000.0]),
    share=st.sampled_from([0.0, 0.02, 0.3]),
    serve_queued=st.booleans(),
)
def test_drive_identities_hold_under_any_faults(
    shape: str, seed: int, sessions: int, rate: float, share: float, serve_queued: bool
) -> None:
    """Whatever is lost or overloaded: due = started + skipped, started = ok + fail + info, and the books agree."""
    dice = Random(seed)

    def fault(step: str, index: int) -> str:
        if step == "rollback" or dice.random() >= share:
            return ""
        return dice.choice(["conflict", "lost", "constraint", "lost-after"]) if step != "connect" else "refused"

    plan = sale_plan(shape=shape, seed=seed, peak_rate=rate, duration_s=0.05, late_limit_s=0.02)
    ran = run(plan, fault, sessions=sessions, serve_queued=serve_queued)

    assert_whole(ran)
    assert_books_agree(ran)


def test_drive_closed_run_keeps_every_session_busy() -> None:
    """Each session orders as soon as it is free: due is the instant of sending, and nothing is skipped."""
    ran = run(sale_plan(shape="closed", duration_s=0.06), sessions=4)

    assert_whole(ran)
    assert set(ran.outcomes()) == {Outcome.OK}
    assert len({row.process for row in ran.done}) == 4
    arrivals = ran.arrivals()
    assert len(arrivals) > 100
    assert max(row.sent - row.due for row in arrivals) < NS_PER_MS * 5


def test_drive_late_arrivals_are_skipped_and_never_made_up() -> None:
    """With no session at all, each arrival is skipped past the late limit while the run goes: the queue is bounded."""
    longest = 0

    def watch(scheduler: Scheduler) -> None:
        nonlocal longest
        sleep_until(lambda: False, 0.1)
        longest = scheduler.queued

    ran = run(sale_plan(peak_rate=5000, late_limit_s=0.01), sessions=0, during=watch, drain_s=0.05)

    assert_whole(ran)
    assert set(ran.outcomes()) == {Outcome.SKIPPED}
    assert len(ran.done) > 500
    assert longest < 6000 * 0.01 * 4
    assert all(row.process == -1 and row.tries == 0 for row in ran.done)


def test_drive_cut_short_skips_what_is_queued() -> None:
    """A stop in mid-run skips at once what was due and not started."""
    ran = run(sale_plan(peak_rate=5000, late_limit_s=1.0), sessions=0, serve_queued=False, drain_s=0.05)

    assert_whole(ran)
    assert set(ran.outcomes()) == {Outcome.SKIPPED}


def test_drive_follow_ups_are_due_at_the_answer_plus_their_delay() -> None:
    """What follows a placed order is due from the order's end, if that is before the end of the schedule."""
    ran = run(sale_plan(peak_rate=2000))
    meaning = {op.number: op for op in SALE.ops(ran.plan, SALE.invoked(ran.plan, 0, ran.scheduler.next_number))}
    expected = {
        (row.number, kind): row.done + delay
        for row in ran.done
        if row.kind == Kind.ORDER and row.answer == Answer.PLACED
        for kind, delay in meaning[row.number].follow_ups
        if row.done + delay < ran.end
    }

    assert expected
    assert {(r.number, r.kind): r.due for r in ran.done if r.kind not in (Kind.ORDER, Kind.BROWSE)} == expected


def test_drive_follow_ups_outside_of_the_mix_are_not_due() -> None:
    """A mix without payments has none, though orders are placed."""
    ran = run(sale_plan(kind_weights=(("order", 1), ("cancel", 1))))

    assert_whole(ran)
    assert {row.kind for row in ran.done} == {Kind.ORDER, Kind.CANCEL}


def test_drive_retries_are_bounded_and_each_try_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conflict that never ends is given up as fail after MAX_CONFLICT_TRIES, and every try before is visible."""
    monkeypatch.setattr(seat_module, "LONGEST_PAUSE_S", 0.0)
    plan = sale_plan(shape="closed", duration_s=0.05, kind_weights=(("order", 1),))
    ran = run(plan, lambda step, _: "conflict" if step == "commit" else "", sessions=2)

    assert_whole(ran)
    whole = [row for row in ran.done if row.tries == seat_module.MAX_CONFLICT_TRIES]
    assert whole
    assert set(ran.outcomes()) == {Outcome.FAIL}
    tries = [row for row in ran.tries if row.number == whole[0].number]
    assert [row.tries for row in tries] == list(range(1, seat_module.MAX_CONFLICT_TRIES))
    assert all(row.code == "conflict" and row.stage == Stage.COMMIT for row in tries)
    assert whole[0].sent <= tries[0].sent <= tries[0].done <= tries[1].sent <= whole[0].done
    assert ran.scheduler.errors == {"conflict": ("conflict", "injected: conflict")}
    assert not ran.server.orders


def test_drive_crowd_on_one_row_gets_through() -> None:
    """Where seven tries of ten conflict, with 32 sessions, each op gets through: its tries thin out by themselves."""
    dice = Random(1)
    ran = run(
        sale_plan(shape="closed", duration_s=0.1),
        lambda step, _: "conflict" if step == "commit" and dice.random() < 0.7 else "",
        sessions=32,
        drain_s=5.0,
    )

    assert_whole(ran)
    assert set(ran.outcomes()) == {Outcome.OK}


def test_drive_other_errors_are_not_retried() -> None:
    """A fail that a retry cannot mend is the op's end."""
    ran = run(sale_plan(duration_s=0.05), lambda step, _: "constraint" if step == "execute" else "")

    assert_whole(ran)
    assert not ran.tries
    assert set(ran.outcomes()) == {Outcome.FAIL}
    assert {row.stage for row in ran.done} == {Stage.STATEMENT}


def test_drive_connection_lost_before_commit_is_tried_again_on_a_new_one() -> None:
    """What was lost before COMMIT did not happen: the next try, on a new connection, is the op's only effect."""
    ran = run(sale_plan(), lambda step, index: "lost" if step == "execute" and index % 50 == 7 else "")

    assert_whole(ran)
    assert_books_agree(ran)
    assert set(ran.outcomes()) == {Outcome.OK}
    assert any(row.tries == 2 for row in ran.done)
    assert ran.server.steps["connect"] >= len(ran.tries) > 0


def test_drive_answer_lost_at_commit_is_info_and_retires_the_process() -> None:
    """Nobody knows whether it happened, so it is not tried again, and its session goes on as another process."""
    ran = run(sale_plan(), lambda step, index: "lost-after" if step == "commit" and index % 20 == 3 else "")

    assert_whole(ran)
    assert_books_agree(ran)
    unknown = [row for row in ran.done if row.outcome == Outcome.INFO]
    assert unknown
    assert all(row.tries == 1 and row.stage == Stage.COMMIT for row in unknown)
    for row in unknown:
        assert not [later for later in ran.done if later.process == row.process and later.sent >= row.done]
    assert not [row for row in ran.done if row.outcome == Outcome.INFO and row.answer == Answer.PLACED]


def test_drive_load_processes_share_no_process_number() -> None:
    """Two load processes number their sessions apart, also after some were retired."""

    def fault(step: str, index: int) -> str:
        return "lost-after" if step == "commit" and index % 10 == 3 else ""

    first, second = (run(sale_plan(duration_s=0.05), fault, share=(index, 2)) for index in range(2))

    assert not {row.process for row in first.done} & {row.process for row in second.done}


def test_drive_server_that_is_away_makes_few_fails() -> None:
    """When no connection can be opened, attempts are paced, each fails at most one op, and the others are skipped."""
    plan = sale_plan(peak_rate=2000, duration_s=0.3, late_limit_s=0.05)
    ran = run(plan, lambda step, _: "refused" if step == "connect" else "lost", sessions=4)

    assert_whole(ran)
    outcomes = ran.outcomes()
    assert 4 <= outcomes[Outcome.FAIL] <= 24
    assert outcomes[Outcome.SKIPPED] > 300
    assert ran.server.steps["connect"] <= 24
    assert {row.stage for row in ran.done if row.outcome == Outcome.FAIL} == {Stage.CONNECT}


def test_drive_closed_run_waits_while_the_server_is_away() -> None:
    """A closed run against a dead server does not spin: its sessions wait between their attempts."""
    ran = run(
        sale_plan(shape="closed", duration_s=0.25),
        lambda step, _: "refused" if step == "connect" else "lost",
        sessions=4,
    )

    assert_whole(ran)
    assert 4 <= len(ran.done) <= 24


def test_drive_says_why_sessions_are_not_connected() -> None:
    """Before the begin, sessions that cannot connect are told with their reason."""
    plan = sale_plan()
    thread = LoopThread()
    scheduler = Scheduler(
        plan, SALE, FakeEngine(FakeServer(plan, lambda step, index: "refused" if index else "")), Address(), thread
    )
    for _ in range(3):
        scheduler.add_session(sale_bodies(plan))

    assert sleep_until(lambda: len(scheduler.connect_failures) == 2, 2)
    assert scheduler.connected == 1
    assert [failure.code for failure in scheduler.connect_failures] == ["refused"] * 2
    thread.submit(scheduler.drain(0.0)).result(5)
    assert thread.stop()


@pytest.mark.parametrize(
    ("step", "outcome"), [("execute", Outcome.FAIL), ("commit", Outcome.INFO), ("begin", Outcome.FAIL)]
)
def test_drive_drain_cuts_what_hangs_and_its_stage_decides(step: str, outcome: Outcome) -> None:
    """A frozen server cannot hold the end of a run: its connections are cut, before COMMIT fail, from then on info."""
    ran = run(
        sale_plan(duration_s=0.05, kind_weights=(("order", 1),)),
        lambda at, index: "hang" if at == step and index == 5 else "",
        drain_s=0.05,
    )

    assert_whole(ran)
    assert ran.outcomes()[outcome] >= 1
    assert sum(row.code == "hang" for row in ran.done) == 1


def test_drive_try_without_any_answer_is_cut_while_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch cuts a try past its limit; the session is back before the run ends."""
    monkeypatch.setattr(drive_module, "TRY_LIMIT_NS", 20 * NS_PER_MS)
    ran = run(
        sale_plan(duration_s=0.4, kind_weights=(("order", 1),)),
        lambda step, index: "hang" if step == "commit" and index == 5 else "",
        sessions=1,
    )

    assert_whole(ran)
    cut = next(row for row in ran.done if row.code == "hang")
    assert cut.outcome == Outcome.INFO
    assert any(row.outcome == Outcome.OK and row.sent > cut.done for row in ran.done)


def test_drive_try_that_ignores_its_cut_is_info(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where even the cut brings no answer the op is info, and the session starts anew."""
    monkeypatch.setattr(drive_module, "CUT_GRACE_S", 0.02)

    async def deaf(connection: Any) -> None:
        """A close that the waiting statement does not notice."""

    monkeypatch.setattr("tests.load.fake_engine.FakeConnection.close", deaf)
    ran = run(
        sale_plan(shape="closed", duration_s=0.05, kind_weights=(("browse", 1),)),
        lambda step, index: "hang" if index == 20 else "",
        sessions=1,
        drain_s=0.02,
    )

    assert_whole(ran)
    assert [row.code for row in ran.done if row.outcome == Outcome.INFO] == [seat_module.NO_ANSWER]


def test_drive_arrivals_without_a_number_wait_for_one() -> None:
    """When numbers come late the arrivals are late by as much, but none is lost and none gets another's instant."""
    plan = sale_plan(peak_rate=1000, duration_s=0.1)

    def supply_late(scheduler: Scheduler) -> None:
        sleep_until(lambda: False, 0.05)
        assert scheduler.numbers_left == 0
        supply(scheduler, plan, 0, 5)
        supply(scheduler, plan, 5, 1000)

    ran = run(plan, numbers=0, during=supply_late)

    assert_whole(ran)
    assert set(ran.outcomes()) == {Outcome.OK}
    arrivals = sorted(ran.arrivals())
    assert [row.due for row in arrivals] == sorted(row.due for row in arrivals)
    assert arrivals[0].sent - arrivals[0].due > 30 * NS_PER_MS


def test_drive_closed_sessions_without_a_number_wait_for_one() -> None:
    """A closed run that ran out of numbers goes on when some come."""
    plan = sale_plan(shape="closed", duration_s=0.2)
    ran = run(
        plan,
        numbers=3,
        during=lambda scheduler: (sleep_until(lambda: False, 0.03), supply(scheduler, plan, 3, NUMBERS)),
    )

    assert_whole(ran)
    assert len(ran.arrivals()) > 50


def test_drive_arrivals_that_never_got_a_number_are_counted() -> None:
    """If the numbers end for good, what was due and could not be named is counted apart."""
    ran = run(sale_plan(duration_s=0.05), numbers=10)

    assert len(ran.arrivals()) == ran.scheduler.next_number == 10
    assert ran.scheduler.unnumbered > 10


def test_drive_removed_session_finishes_its_op() -> None:
    """Sessions may come and go in mid-run: each finishes what it had begun, and the others go on."""

    def swap(scheduler: Scheduler) -> None:
        sleep_until(lambda: False, 0.03)
        for session in (1, 2):
            scheduler.remove_session(session)
        assert sleep_until(lambda: scheduler.connected == 2, 1)
        scheduler.add_session(sale_bodies(sale_plan()))
        assert sleep_until(lambda: scheduler.connected == 3, 1)

    ran = run(sale_plan(duration_s=0.1), sessions=4, during=swap)

    assert_whole(ran)
    assert set(ran.outcomes()) == {Outcome.OK}
    assert {row.process for row in ran.done} <= set(range(5))


def test_drive_bug_in_a_session_is_told_and_leaves_the_others() -> None:
    """An exception that is no database's ends its session, is told as a problem, and its op stays without a row."""
    plan = sale_plan(shape="closed", duration_s=0.05)
    thread = LoopThread()
    scheduler = Scheduler(plan, SALE, FakeEngine(FakeServer(plan)), Address(), thread)
    broken = [_broken_body] * len(Kind)
    scheduler.add_session(broken)
    scheduler.add_session(sale_bodies(plan))
    supply(scheduler, plan, 0, 1000)
    assert sleep_until(lambda: scheduler.connected == 2, 2)
    scheduler.begin(now_ns())
    sleep_until(lambda: bool(scheduler.problems), 1)
    thread.submit(scheduler.drain(0.5)).result(5)
    rows, _ = scheduler.take_rows()
    thread.stop()

    assert "KeyError" in scheduler.problems[0]
    assert rows
    assert {row.outcome for row in rows} == {Outcome.OK}


def _broken_body(op: Any) -> Any:
    """A body with a bug."""
    raise KeyError("a bug")
    yield Call, Result


def test_drive_with_nothing_begun_drains_at_once() -> None:
    """A run that is given up before its begin ends without a row."""
    plan = sale_plan()
    thread = LoopThread()
    scheduler = Scheduler(plan, SALE, FakeEngine(FakeServer(plan)), Address(), thread)
    scheduler.add_session(sale_bodies(plan))
    supply(scheduler, plan, 0, 10)
    thread.submit(scheduler.drain(0.0)).result(5)

    assert scheduler.take_rows() == ([], [])
    assert scheduler.next_number == 0
    assert scheduler.client_facts()["cpu_seconds"] == 0
    assert thread.stop()
