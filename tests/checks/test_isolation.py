"""The judge of isolation against oracles, simulated stores and small histories with known answers."""

import itertools
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loadgen.isolation.check import judge
from loadgen.isolation.models import MODELS, find_model, strongest, weaker, weakest
from loadgen.isolation.transactions import HistoryKind
from loadgen.op import Outcome
from loadgen.verdict import Verdict
from tests.checks.oracle import ORACLES, Txn, to_transactions
from tests.checks.tiny import tiny_history
from tests.simulation.bugs import BUGS, Bug, simulate
from tests.simulation.stores import Level, Store
from tests.trials.oracles import too_many

FOREVER = (1 << 63) - 1


@given(seed=st.integers(0, 1 << 32), lists=st.booleans())
@settings(max_examples=150, deadline=None)
def test_judge_of_tiny_history_agrees_with_every_oracle(seed: int, lists: bool) -> None:
    """Every model's answer is that of an oracle that tries all orders."""
    history = tiny_history(random.Random(seed), lists=lists)
    assume(not too_many(history))
    answers = judge(to_transactions(history, lists=lists)).answers
    expected = {model: Verdict.VALID if oracle(history) else Verdict.INVALID for model, oracle in ORACLES.items()}

    assert expected == {model: answers[model].verdict for model in ORACLES}


@given(seed=st.integers(0, 1 << 32), level=st.sampled_from(Level), kind=st.sampled_from(HistoryKind))
@settings(max_examples=60, deadline=None)
def test_judge_of_correct_store_finds_nothing_at_its_level(seed: int, level: Level, kind: HistoryKind) -> None:
    """No run of a correct store is invalid, or unknown, by the model that the store keeps."""
    store = Store(level, kind, seed)
    store.run(25)
    store.final_reads()
    judgement = judge(store.history(), [level.value])

    assert judgement.answers[level.value].verdict == Verdict.VALID, judgement.anomalies.witnesses


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_judge_of_seeded_bug_names_it(bug: Bug) -> None:
    """Every seeded bug is found in every run, by its own name, with a witness."""
    for seed in range(3):
        judgement = judge(simulate(bug, seed).history())
        strict = judgement.answers["strict-serializable"]

        assert judgement.answers[bug.breaks].verdict == Verdict.INVALID
        assert bug.names & set(strict.anomalies)
        assert all(judgement.anomalies.witnesses[name] for name in bug.names & set(strict.anomalies))


def test_catalogue_of_bugs_is_large_enough() -> None:
    """There are at least 25 bugs of distinct names."""
    assert len({bug.name for bug in BUGS}) >= 25


def test_writes_that_are_not_unique_give_unknown_with_the_example() -> None:
    """A value appended twice makes every answer unknown."""
    history = [Txn(0, 0, 1, Outcome.OK, (("append", "x", 1),)), Txn(1, 0, 1, Outcome.OK, (("append", "x", 1),))]
    answer = judge(to_transactions(history, lists=True), ["serializable"]).answers["serializable"]

    assert answer.verdict == Verdict.UNKNOWN
    assert "1 was appended to key x by T0 and by T1" in answer.why


def test_time_limit_of_nothing_gives_unknown_or_a_proved_answer() -> None:
    """Without time a register history that needs a search is unknown, never valid."""
    store = Store(Level.SERIALIZABLE, HistoryKind.REGISTER, 3)
    store.run(60)
    answer = judge(store.history(), ["serializable"], time_limit_s=0).answers["serializable"]

    assert answer.verdict == Verdict.UNKNOWN
    assert answer.why


def test_info_transaction_counts_once_its_write_is_read() -> None:
    """An unsure append that somebody read is committed; one that nobody read is not."""
    read = Txn(0, 0, FOREVER, Outcome.INFO, (("append", "x", 1), ("append", "y", 2)))
    reader = Txn(1, 5, 6, Outcome.OK, (("r", "x", (1,)), ("r", "y", ())))
    answers = judge(to_transactions([read, reader], lists=True)).answers

    assert answers["snapshot-isolation"].anomalies == ("G-single",)
    assert judge(to_transactions([read], lists=True)).answers["strict-serializable"].verdict == Verdict.VALID


def test_ring_of_ten_thousand_transactions_is_answered_in_time() -> None:
    """One cycle of 10,000 transactions is found, named and told."""
    count = 10_000
    history = [
        Txn(txn, txn, FOREVER - 1, Outcome.OK, (("append", txn, 1), ("r", (txn + 1) % count, (1,))))
        for txn in range(count)
    ]
    judgement = judge(to_transactions(history, lists=True), ["serializable"], time_limit_s=60)

    assert judgement.answers["serializable"].anomalies == ("G1c",)
    assert "10000 transactions" in judgement.anomalies.witnesses["G1c"][0]


def test_witness_is_the_smallest_cycle() -> None:
    """Where a cycle of two lies beside a longer one, the witness has two transactions."""
    skew = [
        Txn(0, 0, 9, Outcome.OK, (("r", "x", ()), ("append", "y", 1))),
        Txn(1, 0, 9, Outcome.OK, (("r", "y", ()), ("append", "x", 1))),
        Txn(2, 0, 9, Outcome.OK, (("r", "z", ()), ("append", "x", 2), ("r", "x", (1, 2)))),
    ]
    judgement = judge(to_transactions(skew, lists=True), ["serializable"])

    assert "2 transactions" in judgement.anomalies.witnesses["G2-item"][0]


def test_lattice_is_closed_and_names_resolve() -> None:
    """Every implied model exists, strict serializability implies all, and spellings are free."""
    assert weaker("strict-serializable") == frozenset(MODELS)
    assert find_model("Snapshot Isolation").name == "snapshot-isolation"
    assert weakest(["serializable", "snapshot-isolation"]) == ["snapshot-isolation"]
    assert strongest(["read-committed", "causal"]) == ["causal"]


@given(seed=st.integers(0, 1 << 32), lists=st.booleans())
@settings(max_examples=60, deadline=None)
def test_answers_keep_to_the_lattice(seed: int, lists: bool) -> None:
    """What is invalid by a model is invalid by every stronger one."""
    answers = judge(to_transactions(tiny_history(random.Random(seed), lists=lists), lists=lists)).answers

    for strong, weak in itertools.product(MODELS, MODELS):
        if weak in weaker(strong) and answers[weak].verdict == Verdict.INVALID:
            assert answers[strong].verdict == Verdict.INVALID
