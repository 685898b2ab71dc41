"""Follow-ups by rule: which kind follows which answer, when, and that what is missing of them is never overlooked."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.clock import NS_PER_S, ClockOrigin, now_ns
from loadgen.draws import Draws, uniform
from loadgen.engines.engine import Address
from loadgen.errors import PlanError
from loadgen.history.history import History, HistoryWriter, LoadProcess, ops_batch, read_history, write_json
from loadgen.judge.stored_run import open_run
from loadgen.load.loop import LoopThread, sleep_until
from loadgen.load.scheduler import Scheduler
from loadgen.measures.objectives import unmeasurable
from loadgen.op import Completion, Outcome
from loadgen.plan import parse_slos
from loadgen.workload import Body, FollowUp, Phase, Plan, Refused, Reply, Statement, Workload
from loadgen.workload.evidence import Evidence
from loadgen.workload.follow_up_draws import DueFollowUps, untold_follow_ups
from tests.bench.driving import IdleEngine
from tests.workloads.stranger import run_words as command

KINDS = ("deposit", "look", "balance", "receipt", "complaint")
ANSWERS = ("none", "deposited", "refused", "balanced", "sent", "read")
NOTHING = Statement("SELECT 1")


class Op(NamedTuple):
    """What one number means."""

    number: int
    kind: int


def invoked(plan: Plan, first: int, count: int) -> dict[str, Any]:
    """One in four numbers looks; the others deposit."""
    numbers = np.arange(first, first + count, dtype=np.int64)
    return {"number": numbers, "kind": (numbers % 4 == 3).astype(np.uint8)}


def workload(*rules: FollowUp, **more: Any) -> Workload:
    """A workload with these rules."""
    given: dict[str, Any] = {
        "name": "bank_day",
        "kinds": KINDS,
        "answers": ANSWERS,
        "arrivals": ("deposit", "look"),
        "refused": ("refused",),
        "tables": lambda plan: (),
        "invoked_types": {"number": "int64", "kind": "uint8"},
        "invoked": invoked,
        "ops": lambda plan, columns: [Op(*each) for each in zip(*(c.tolist() for c in columns.values()), strict=True)],
        "phases": (Phase("midnight", 0.5), Phase("noon", lambda plan: plan.duration_s / 4)),
    }
    return Workload(**{**given, **more, "follow_ups": rules})


CHAIN = (
    FollowUp("deposit", "deposited", "balance", at="midnight", delay=(0.0, 0.02)),
    FollowUp("deposit", "refused", "complaint", share=0.25, delay=(0.001, 0.01)),
    FollowUp("deposit", "refused", "receipt", share=0.5),
    FollowUp("balance", "balanced", "receipt", delay=0.005),
)


# Rules as data


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([FollowUp("deposit", "paid", "balance")], "'paid' is not one of its answers"),
        ([FollowUp("deposit", "none", "balance")], "'none' is not one of its answers"),
        ([FollowUp("deposit", "deposited", "refund")], "'refund' is not one of its kinds"),
        ([FollowUp("deposit", "deposited", "look")], "look arrives by itself"),
        ([FollowUp("deposit", "deposited", "balance", share=0)], "shares are above 0"),
        (
            [FollowUp("deposit", "deposited", kind, share=0.6) for kind in ("balance", "receipt")],
            "together at most 1, not 0.6 + 0.6",
        ),
        ([FollowUp("deposit", "deposited", "balance", delay=-1)], "its delay is -1"),
        ([FollowUp("deposit", "deposited", "balance", delay=float("nan"))], "its delay is nan"),
        ([FollowUp("deposit", "deposited", "balance", delay=(2, 1))], "no range of times"),
        ([FollowUp("deposit", "deposited", "balance", at="dawn")], "'dawn' is not one of its phases"),
        ([FollowUp("balance", "balanced", "receipt")], "nothing leads to balance"),
        (
            [
                FollowUp("deposit", "deposited", "balance"),
                FollowUp("balance", "balanced", "receipt"),
                FollowUp("receipt", "sent", "balance"),
            ],
            "in a circle, balance -> receipt -> balance: a kind follows a number once",
        ),
        ([FollowUp("deposit", "deposited", "balance"), FollowUp("balance", "balanced", "balance")], "in a circle"),
    ],
)
def test_a_rule_that_no_run_could_follow_is_refused_in_one_line(rules: list[FollowUp], words: str) -> None:
    """When the workload is made, and by the names of the workload and the rule."""
    with pytest.raises(PlanError) as refused:
        workload(*rules)

    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"phases": (Phase("midnight", 0.5), Phase("midnight", 0.6))}, "each named once"),
        ({"phases": (Phase("midnight", 1.0),)}, "which is not from 0 to 1"),
        ({"followed_on": 1}, "not by both"),
    ],
)
def test_phases_and_seams_that_contradict_are_refused(more: dict[str, Any], words: str) -> None:
    """One way to say what follows, and one begin of each phase."""
    with pytest.raises(PlanError, match=words):
        workload(FollowUp("deposit", "deposited", "balance"), **more)


@given(st.sets(st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS[2:])), max_size=6))
def test_exactly_the_rules_without_a_circle_that_arrivals_lead_to_are_taken(pairs: set[tuple[str, str]]) -> None:
    """Compared with a walk along every path."""
    rules = [FollowUp(of, ANSWERS[1 + KINDS.index(kind)], kind) for of, kind in sorted(pairs)]

    def circles(path: tuple[str, ...]) -> bool:
        return len(set(path)) < len(path) or any(circles((*path, kind)) for of, kind in pairs if of == path[-1])

    def reached(kinds: frozenset[str]) -> frozenset[str]:
        more = kinds | {kind for of, kind in pairs if of in kinds}
        return kinds if more == kinds else reached(more)

    sound = not any(circles((kind,)) for kind in KINDS) and {of for of, _ in pairs} <= reached(frozenset(KINDS[:2]))
    if sound:
        assert workload(*rules).follow_ups == tuple(rules)
    else:
        with pytest.raises(PlanError, match=r"in a circle|nothing leads to"):
            workload(*rules)


def test_a_phase_outside_of_the_run_is_refused_and_its_begin_is_in_the_facts() -> None:
    """plan.json says when phases begin, in seconds, and what follows what."""
    late = workload(phases=(Phase("midnight", lambda plan: 30.0),))
    with pytest.raises(PlanError, match="phase midnight begins at 30 s, and the run lasts 20 s"):
        late.parse({"duration": "20s"})
    with pytest.raises(PlanError, match="phase noon does not say when it begins: AttributeError"):
        workload(phases=(Phase("noon", lambda plan: plan.missing),)).parse({})

    facts = workload(*CHAIN).facts(workload(*CHAIN).parse({"duration": "20s"}))

    assert facts["phases"] == {"midnight": 10.0, "noon": 5.0}
    assert json.loads(json.dumps(facts["follow_ups"]))[3] == {
        "of": "balance",
        "after": "balanced",
        "kind": "receipt",
        "share": 1.0,
        "delay": 0.005,
        "at": "",
    }


def test_an_objective_of_a_follow_up_asks_for_what_the_rules_lead_from() -> None:
    """Not for the first kind that arrives, where another one leads to it."""
    bank = workload(*CHAIN, FollowUp("look", "read", "complaint"))
    looks = Plan(slo=parse_slos("complaint.p99<=1s"), kind_weights=(("look", 1), ("complaint", 1)))
    sent = Plan(slo=parse_slos("receipt.p99<=1s"), kind_weights=(("look", 1), ("receipt", 1)))

    assert bank.followed == {"balance": ("deposit",), "receipt": ("deposit",), "complaint": ("deposit", "look")}
    assert unmeasurable(looks, bank.arrivals, 10.0, bank.words, bank.followed) == ""
    assert "receipt follows deposit, and no deposit is" in unmeasurable(
        sent, bank.arrivals, 10.0, bank.words, bank.followed
    )


# Draws


@given(st.integers(0, 2**63 - 1), st.lists(st.integers(0, 2**62), min_size=1, max_size=5), st.integers(0, 2**64))
def test_one_number_is_drawn_as_in_an_array(seed: int, numbers: list[int], index: int) -> None:
    """Bit for bit."""
    drawn = Draws(seed, np.array(numbers, dtype=np.int64)).uniform(index)

    assert [uniform(seed, number, index) for number in numbers] == drawn.tolist()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**62), shares=st.lists(st.floats(0.05, 0.5), min_size=1, max_size=2))
def test_rules_share_the_answers_out_and_leave_the_rest(seed: int, shares: list[float]) -> None:
    """Within six standard deviations, and the same for whoever draws again; another answer draws for itself."""
    count = 2_000
    rules = [FollowUp("deposit", "deposited", KINDS[2 + place], share) for place, share in enumerate(shares)]
    other = FollowUp("look", "read", "complaint", 0.5)
    plan = Plan(seed=seed)
    drawn = [
        [due.due(Op(number, 0), 0, 1, 100, 0) for number in range(count)]
        for due in (DueFollowUps(workload(*rules), plan), DueFollowUps(workload(other, *rules), plan))
    ]

    assert drawn[0] == drawn[1]
    kinds = [kind for follow_ups in drawn[0] for _, kind in follow_ups]
    for place, share in enumerate(shares):
        assert abs(kinds.count(2 + place) - share * count) < 6 * (count * share * (1 - share)) ** 0.5
    follows = DueFollowUps(workload(other), plan).due
    looks = [bool(follows(Op(number, 1), 1, 5, 0, 0)) for number in range(count)]
    both = sum(look and bool(follow_ups) for look, follow_ups in zip(looks, drawn[0], strict=True))
    likely = sum(shares) / 2
    assert abs(both - likely * count) < 6 * (count * likely * (1 - likely)) ** 0.5 + 1


def test_a_follow_up_of_a_phase_is_due_then_and_at_once_when_it_is_over() -> None:
    """The spread counts from the phase; nothing is due before the answer."""
    plan = Plan(duration_s=10.0)
    due = DueFollowUps(workload(FollowUp("deposit", "deposited", "balance", at="midnight", delay=1.0)), plan)
    start, midnight = 7 * NS_PER_S, 12 * NS_PER_S

    assert due.due(Op(1, 0), 0, 1, start + 5, start) == ((midnight + NS_PER_S, 2),)
    assert due.due(Op(1, 0), 0, 1, midnight + 5, start) == ((midnight + NS_PER_S, 2),)
    assert due.due(Op(1, 0), 0, 1, midnight + 3 * NS_PER_S, start) == ((midnight + 3 * NS_PER_S, 2),)
    assert due.due(Op(1, 0), 0, 2, start + 5, start) == ()


# Driving


def answers(name: str) -> Any:
    """The body of one kind: an answer, and of every fifth deposit a refusal."""

    def body(op: Op) -> Body:
        yield NOTHING()
        if name == "deposit" and op.number % 5 == 0:
            raise Refused(ANSWERS.index("refused"))
        said = {"deposit": "deposited", "look": "read", "balance": "balanced", "receipt": "sent", "complaint": "read"}
        return Reply(ANSWERS.index(said[name]))

    return body


@dataclass
class Day:
    """A short run on a server that answers at once."""

    workload: Workload
    plan: Plan
    start: int
    rows: list[Completion]
    closed_at: int
    unreached: int

    def process(self, rows: list[Completion] | None = None, *, died: bool = False) -> LoadProcess:
        """What its history says; of ``rows`` alone, where they are given."""
        rows = self.rows if rows is None else rows
        ops = {
            name: np.array([getattr(row, name) for row in rows], dtype=object if name == "code" else np.int64)
            for name in Completion._fields
            if name != "touched"
        }
        handed = invoked(self.plan, 0, self.closed_at + 10)
        closed_at = None if died else self.closed_at
        return LoadProcess("0", ClockOrigin("host", "boot", 0, 0), {}, handed, ops, {}, closed_at)


def drive(bank: Workload, plan: Plan, sessions: int = 6, *, stop_after_s: float | None = None) -> Day:
    """Drive ``plan``, or the first seconds of it."""
    thread = LoopThread()
    try:
        scheduler = Scheduler(plan, bank, IdleEngine(), Address(), thread)
        for _ in range(sessions):
            scheduler.add_session([answers(kind) for kind in KINDS])
        scheduler.supply(bank.ops(plan, bank.invoked(plan, 0, 20_000)))
        assert sleep_until(lambda: scheduler.connected == sessions, 5)
        start = now_ns() + NS_PER_S // 500
        scheduler.begin(start)
        assert scheduler.start_ns == start
        lasts_s = stop_after_s or plan.duration_s
        sleep_until(lambda: now_ns() > start + lasts_s * NS_PER_S, lasts_s + 1)
        thread.submit(scheduler.drain(1.0)).result(5)
        rows, _ = scheduler.take_rows()
    finally:
        assert thread.stop()
    assert not thread.problems and not scheduler.problems and not scheduler.rowless
    return Day(bank, plan, start, rows, scheduler.next_number, scheduler.unreached)


def expected(day: Day) -> dict[tuple[int, int], int]:
    """When each follow-up must have been due, by number and kind: a reading of CHAIN by hand, but for the draws."""
    due = DueFollowUps(day.workload, day.plan).due
    kinds = {row.number: row.kind for row in day.rows if row.kind < 2}
    follow_ups = {}
    for row in day.rows:
        if row.outcome == Outcome.OK:
            for at, kind in due(Op(row.number, kinds[row.number]), row.kind, row.answer, row.done, day.start):
                assert (row.number, kind) not in follow_ups
                follow_ups[row.number, kind] = at
    return follow_ups


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**62),
    shape=st.sampled_from(["constant", "closed", "ramp"]),
    stop_after_s=st.sampled_from([None, 0.08, 0.16]),
)
def test_each_answer_has_the_follow_up_that_its_rule_says(seed: int, shape: str, stop_after_s: float | None) -> None:
    """One row for each that became due, with its instant; none is untold; one that is taken away is."""
    plan = Plan(shape=shape, peak_rate=1500.0, duration_s=0.2, seed=seed, late_limit_s=0.05)
    day = drive(workload(*CHAIN), plan, stop_after_s=stop_after_s)
    last = max(row.due for row in day.rows)
    told = {(row.number, row.kind): row.due for row in day.rows if row.kind >= 2}
    follow_ups = expected(day)

    assert len({(row.number, row.kind) for row in day.rows}) == len(day.rows)
    assert told.items() <= follow_ups.items()
    assert len(follow_ups) == len(told) + day.unreached
    assert {key for key, due in follow_ups.items() if due < last} <= told.keys()
    assert all(row.due < day.start + plan.duration_s * NS_PER_S for row in day.rows)
    balances = [row for row in day.rows if KINDS[row.kind] == "balance"]
    assert all(row.due >= day.start + NS_PER_S // 10 for row in balances)
    assert untold_follow_ups(day.process(), day.workload, plan, day.start) == 0
    gone = next((row for row in day.rows if row.kind >= 2 and row.due < last), None)
    if gone is not None:
        rest = [row for row in day.rows if row is not gone]
        more = sum(row.kind == gone.kind for row in rest) > 0
        assert untold_follow_ups(day.process(rest), day.workload, plan, day.start) == more
        without = untold_follow_ups(day.process(rest), day.workload, plan, None)
        assert without == (more and KINDS[gone.kind] != "balance"), "without its begin no phase is known"


@pytest.mark.parametrize("died", [False, True])
def test_evidence_of_a_chain_says_what_happened_what_may_have_and_what_cannot(died: bool) -> None:
    """Of an ended process a balance that was never due did not happen; of a dead one it may have."""
    plan = Plan(shape="constant", peak_rate=1500.0, duration_s=0.2)
    day = drive(workload(*CHAIN), plan)
    served = [row for row in day.rows if KINDS[row.kind] == "receipt"]
    info = replace_outcome(served[0])
    rows = [info if row is served[0] else row for row in day.rows if row is not served[1]]
    evidence = Evidence(plan, History([day.process(rows, died=died)]), {}, {}, workload=day.workload)

    happened, may, cannot = (
        set(numbers.tolist())
        for numbers in (
            evidence.acknowledged("receipt"),
            evidence.may_have_happened("receipt"),
            evidence.must_not_exist("receipt"),
        )
    )

    assert happened == {row.number for row in served[2:] if row.outcome == Outcome.OK}
    assert info.number in may
    assert (served[1].number in may) == died
    assert (served[1].number in cannot) == (not died)
    assert not cannot & (happened | may)
    assert happened | may | cannot == set(range(day.closed_at + 10))
    assert died or may == {info.number}


def replace_outcome(row: Completion) -> Completion:
    """The same op, of which nobody knows how it ended."""
    return row._replace(outcome=Outcome.INFO, answer=0)


def test_a_run_that_lacks_a_follow_up_is_not_called_valid(tmp_path: Path) -> None:
    """The stored run says how many are missing, and that of a whole one says nothing."""
    plan = Plan(workload="bank_day", shape="constant", peak_rate=1500.0, duration_s=0.2)
    bank = workload(*CHAIN)
    day = drive(bank, plan)
    lacking = next(row for row in day.rows if KINDS[row.kind] == "balance")
    doubts = []
    for name, rows in (("whole", day.rows), ("less", [row for row in day.rows if row is not lacking])):
        directory = tmp_path / name
        (directory / "history").mkdir(parents=True)
        writer = HistoryWriter(directory / "history", "0", bank.invoked_types, {"run_id": "r"})
        writer.invoked(invoked(plan, 0, day.closed_at + 10))
        writer.batch(ops_batch(rows))
        writer.closed(day.closed_at)
        writer.close()
        write_json(directory / "plan.json", {"plan": plan.to_json(), "run_id": "r", "workload": bank.facts(plan)})
        write_json(directory / "load.json", {"died": [], "error": "", "processes": {"0": {"start_ns": day.start}}})
        doubts.append([doubt for doubt in open_run(directory, bank).doubts if "a part of the history" in doubt])

    assert doubts == [
        [],
        [
            "a part of the history is missing: load process 0 ended in order, and does not tell how 1 ops ended that "
            "had to follow an answer"
        ],
    ]


# For real


@pytest.mark.server
@pytest.mark.parametrize(("engine", "processes"), [("postgres", 2), ("mysql", 0)])
def test_deposit_now_and_balance_at_midnight(tmp_path: Path, engine: str, processes: int) -> None:
    """Judged valid; each deposit has one balance, at midnight, and about half of the balances a receipt."""
    (tmp_path / "midnight.py").write_text(Path(__file__).with_name("midnight.py").read_text())
    words = ["locust", "-f", "midnight.py", "--headless", "--engine", engine, "--run-dir", "run", "--late-limit", "5s"]
    words += ["--processes", str(processes)] if processes else []
    run = command([*words, "--shape", "day", "--peak-rate", "300", "--duration", "3s", "-u", "16"], tmp_path)

    assert run.returncode == 0, run.stdout + run.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["verdict"] == "valid"
    facts = json.loads((tmp_path / "run" / "plan.json").read_text())["workload"]
    assert facts["phases"] == {"midnight": 1.5}
    load = json.loads((tmp_path / "run" / "load.json").read_text())
    history = read_history(tmp_path / "run" / "history")
    assert len(history.processes) == max(1, processes)
    counts = np.zeros(3, np.int64)
    for process in history.processes:
        told, ops = load["processes"][process.name], process.ops
        midnight_ns = told["start_ns"] + 3 * NS_PER_S // 2
        deposits, balances, receipts = ((ops["kind"] == kind) & (ops["outcome"] == Outcome.OK) for kind in range(3))
        assert sorted(ops["number"][balances]) == sorted(ops["number"][deposits])
        assert (ops["due"][balances] >= midnight_ns).all()
        assert (ops["due"][balances] <= midnight_ns + NS_PER_S // 5).all()
        assert np.isin(ops["number"][receipts], ops["number"][balances]).all()
        assert told["unreached"] == 0
        counts += [np.count_nonzero(kind) for kind in (deposits, balances, receipts)]
    assert 200 < counts[0] < 500
    assert abs(counts[2] - counts[1] / 2) < 6 * (counts[1] / 4) ** 0.5
    assert summary["main"]["due"] == counts[0]
