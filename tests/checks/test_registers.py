"""Registers without version order, decided by search, and what list reads imply at the weak models."""

import itertools
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.formats.build import Builder, Mop
from loadgen.isolation.check import judge
from loadgen.isolation.models import MODELS, weaker
from loadgen.isolation.transactions import ALWAYS, NEVER, READ, WRITE, HistoryKind, Transactions
from loadgen.op import Outcome
from loadgen.verdict import Verdict
from tests.checks.oracle import ORACLES, Txn, to_transactions
from tests.simulation.stores import Level, Store
from tests.trials.oracles import LATTICE_BREAKS, compare

OK = Outcome.OK


@pytest.mark.parametrize("tenth", range(10))
def test_sample_of_histories_agrees_with_every_oracle(tenth: int) -> None:
    """With times and without, with sessions and without, each model alone and among all."""
    assert [line for seed in range(tenth, 100, 10) for line in compare(seed)[1]] == []


def _append(session: int, *mops: tuple[str, str, object]) -> Txn:
    return Txn(session, 0, 9, OK, mops)


OWN = {
    "chain": [
        _append(2, ("r", "y", ()), ("append", "y", 1), ("append", "x", 1)),
        _append(0, ("append", "x", 2), ("r", "x", (1, 2))),
        _append(0, ("r", "y", ()), ("append", "x", 3)),
    ],
    "fractured": [
        _append(0, ("append", "x", 1), ("append", "y", 1)),
        _append(1, ("r", "x", ()), ("append", "y", 2), ("r", "y", (1, 2))),
    ],
    "nothing behind an own append": [
        _append(0, ("append", "x", 1), ("append", "y", 1)),
        _append(1, ("r", "x", (1,)), ("append", "y", 2), ("r", "y", (2,))),
    ],
    "two own appends": [
        _append(0, ("append", "x", 1), ("append", "y", 1)),
        _append(1, ("r", "x", ()), ("append", "y", 2), ("append", "y", 3), ("r", "y", (1, 2, 3))),
    ],
}


@pytest.mark.parametrize("name", OWN)
def test_read_behind_an_own_append_implies_what_stood_before_it(name: str) -> None:
    """At causal and, where one transaction read from the other, at read atomic."""
    history = OWN[name]
    answers = judge(to_transactions(history, lists=True)).answers

    assert answers["causal"].verdict == Verdict.INVALID
    assert answers["read-atomic"].verdict == (Verdict.VALID if name == "chain" else Verdict.INVALID)
    assert {model: ORACLES[model](history) for model in ("read-atomic", "causal")} == {
        model: answers[model].verdict == Verdict.VALID for model in ("read-atomic", "causal")
    }


def serial(
    count: int, keys: int, seed: int, *, clients: int, info: float, timed: bool, swap: bool = False
) -> Transactions:
    """What a serial store answers; unsure writes take effect late, and ``swap`` puts one pair of answers wrong."""
    rng = random.Random(seed)
    clock = [rng.random() for _ in range(clients)]
    session = list(range(clients))
    plans = []
    for number in range(count):
        client = min(range(clients), key=clock.__getitem__)
        begin = clock[client] + rng.expovariate(2)
        end = begin + 0.02 + rng.expovariate(20)
        unsure = rng.random() < info
        commit = begin + 3 * rng.random() if unsure else end - 0.01 * rng.random()
        plans.append((commit, begin, end, session[client], unsure, number))
        clock[client] = end
        if unsure:
            session[client] = clients + number
    state: dict[int, int] = {}
    value, rows = 0, []
    for _, begin, end, who, unsure, number in sorted(plans):
        own: dict[int, int] = {}
        mops = []
        for _ in range(3):
            key = rng.randrange(keys)
            if rng.random() < 0.5:
                mops.append(Mop(READ, key, None if unsure else own.get(key, state.get(key))))
            else:
                value += 1
                own[key] = value
                mops.append(Mop(WRITE, key, value))
        if not unsure or rng.random() < 0.5:
            state |= own
        rows.append((begin, end, who, unsure, number, mops))
    if swap:
        wrong = [Mop(READ, 0, None), Mop(WRITE, 1, value + 1)], [Mop(READ, 1, None), Mop(WRITE, 0, value + 2)]
        rows += [(-1.0, -0.5, clients + count + n, False, count + n, mops) for n, mops in enumerate(wrong)]
    builder = Builder(HistoryKind.REGISTER, timed=timed)
    for begin, end, who, unsure, number, mops in sorted(rows, key=lambda row: row[0]):
        times = (int(begin * 1e6), NEVER if unsure else int(end * 1e6)) if timed else (ALWAYS, NEVER)
        builder.add(who, *times, Outcome.INFO if unsure else OK, number, mops)
    return builder.build()


@pytest.mark.parametrize(("count", "keys", "info"), [(1, 1, 0.0), (1_200, 10, 0.01), (600, 3, 0.0), (1_200, 100, 0.05)])
def test_late_unsure_writes_among_plain_registers_are_decided(count: int, keys: int, info: float) -> None:
    """Each component of the likeliest order's cycles is solved by itself."""
    answers = judge(serial(count, keys, 1, clients=20, info=info, timed=True), time_limit_s=120).answers

    assert {answer.verdict for answer in answers.values()} == {Verdict.VALID}


@pytest.mark.parametrize("model", ["serializable", "snapshot-isolation", "strict-serializable"])
def test_model_asked_alone_knows_what_it_knows_among_all(model: str) -> None:
    """A weaker model is proved by a stronger one, asked for or not."""
    history = serial(600, 10, 2, clients=20, info=0.01, timed=True)

    assert judge(history, [model], time_limit_s=120).answers[model].verdict == Verdict.VALID


@pytest.mark.parametrize(("count", "keys", "clients"), [(450, 40, 10), (500, 500, 24), (150, 10, 8)])
def test_untimed_registers_are_decided(count: int, keys: int, clients: int) -> None:
    """What Cobra, PolySI and DBCop write: sessions, and no times."""
    history = serial(count, keys, 3, clients=clients, info=0.0, timed=False)
    answers = judge(history, ["strong-session-serializable", "serializable", "causal"], time_limit_s=120).answers

    assert {answer.verdict for answer in answers.values()} == {Verdict.VALID}


def test_untimed_registers_with_write_skew_are_invalid() -> None:
    """Found among many others, and snapshot isolation still holds."""
    history = serial(150, 20, 4, clients=10, info=0.0, timed=False, swap=True)
    answers = judge(history, ["serializable", "snapshot-isolation"], time_limit_s=60).answers

    assert answers["serializable"].verdict == Verdict.INVALID
    assert answers["snapshot-isolation"].verdict == Verdict.VALID


def test_search_ends_with_its_time() -> None:
    """What is too much for it is unknown, soon after the limit."""
    history = serial(800, 2, 5, clients=60, info=0.05, timed=False)
    begin = time.monotonic()
    answers = judge(history, ["serializable"], time_limit_s=0.5).answers

    assert answers["serializable"].verdict in (Verdict.VALID, Verdict.UNKNOWN)
    assert time.monotonic() - begin < 30


@given(seed=st.integers(0, 1 << 32), level=st.sampled_from(Level), kind=st.sampled_from(HistoryKind))
@settings(max_examples=20, deadline=None)
def test_answers_are_monotone_whatever_the_time(seed: int, level: Level, kind: HistoryKind) -> None:
    """A model never knows less than a stronger one, even if nothing was found out in time."""
    store = Store(level, kind, seed)
    store.run(30)
    answers = judge(store.history(), time_limit_s=random.Random(seed).choice([0, 0.01, 60])).answers

    for strong, weak in itertools.product(MODELS, MODELS):
        if weak in weaker(strong):
            assert (answers[weak].verdict, answers[strong].verdict) not in LATTICE_BREAKS


def test_an_anti_dependency_next_to_another_orders_no_writers_under_snapshot_isolation() -> None:
    """A correct store: a later transaction read the old value of one key and the new one of another, which a third
    transaction had overlapped. That is a cycle of two neighbouring anti-dependencies, and the level allows it.
    """
    store = Store(Level.SNAPSHOT, HistoryKind.REGISTER, 31, keys=2, sessions=5)
    # Found by tests/bench/simulator.py.
    store.run(17, lost=0.05)
    store.final_reads()

    answers = judge(store.history(), [Level.SNAPSHOT.value, "strict-serializable"]).answers

    assert answers[Level.SNAPSHOT.value].verdict == Verdict.VALID
    assert answers["strict-serializable"].verdict == Verdict.INVALID
