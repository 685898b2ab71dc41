"""Fractured reads of any table with versions: a snapshot is never accused, and half a transaction is found."""

from collections.abc import Iterable
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.clock import ClockOrigin
from loadgen.history.history import History, LoadProcess
from loadgen.op import Outcome
from loadgen.verdict import Finding, Verdict
from loadgen.workload import Plan, Table, Workload, fractures, versioned_row
from loadgen.workload.evidence import Evidence
from loadgen.workload.fractures import Versions
from loadgen.workload.versions import version_checks

KINDS = ("change", "look", "audit")
CHANGE, LOOK, AUDIT = range(3)
DONE, REFUSED = 1, 2
ROWS = [versioned_row(table, row) for table in range(2) for row in range(3)]
Touch = tuple[int, int, int]


def _tables(plan: Plan) -> tuple[Table, ...]:
    return tuple(Table(name, "", {}, version="version", row="id") for name in ("a", "b"))


WORKLOAD = Workload(
    name="store",
    kinds=KINDS,
    answers=("none", "done", "refused"),
    arrivals=KINDS,
    followed_on=DONE,
    refused=("refused",),
    tables=_tables,
    invoked_types={"number": "int64"},
    invoked=lambda plan, first, count: {},
    ops=lambda plan, columns: [],
    snapshot_reads=("look", "audit"),
    single_statements=("look",),
)


class Store:
    """Transactions that change one to four rows, one after the other, and readers of a snapshot, old or new."""

    def __init__(self, seed: int, ops: int = 60, trouble: float = 0.3) -> None:
        self.random = random = Random(seed)
        state = dict.fromkeys(ROWS, 0)
        states = [dict(state)]
        self.told: list[tuple[int, int, Outcome, int, list[Touch]]] = []
        for number in range(ops):
            kind = random.choice((CHANGE, CHANGE, LOOK, AUDIT))
            if kind != CHANGE:
                snapshot = random.choice(states[-5:])
                rows = random.sample(ROWS, random.randrange(2, len(ROWS) + 1))
                self.told.append((number, kind, Outcome.OK, DONE, [(row, snapshot[row], -1) for row in rows]))
                continue
            before, touched = dict(state), list[Touch]()
            # A row may be written twice by one transaction.
            for row in random.choices(ROWS, k=random.randrange(1, 5)):
                state[row] += 1
                touched.append((row, -1, state[row]))
            fate = random.random()
            if fate < trouble:
                ending = random.choice((Outcome.FAIL, Outcome.OK, Outcome.INFO))
                if ending != Outcome.INFO or random.random() < 0.5:
                    state.update(before)
                told = touched if ending == Outcome.OK else []
                self.told.append((number, kind, ending, REFUSED if ending == Outcome.OK else 0, told))
            else:
                self.told.append((number, kind, Outcome.OK, DONE, touched))
            states.append(dict(state))
        self.state = state

    def tear(self, kind: int) -> tuple[int, int] | None:
        """Let one reader of ``kind`` miss one half of what it saw; the reader and a transaction that it saw half of."""
        for at, (number, what, outcome, answer, touched) in reversed(list(enumerate(self.told))):
            if what != kind:
                continue
            seen = {row: version for row, version, _ in touched}
            for writer, what, _, fate, wrote in reversed(self.told[:at]):
                last = {row: version for row, _, version in wrote if row in seen}
                if (
                    (what, fate) != (CHANGE, DONE)
                    or len(last) < 2
                    or any(seen[row] < version for row, version in last.items())
                ):
                    continue
                row = self.random.choice(sorted(last))
                missed = [(each, last[row] - 1 if each == row else version, -1) for each, version, _ in touched]
                self.told[at] = (number, kind, outcome, answer, missed)
                return number, writer
        return None

    def evidence(self) -> Evidence:
        """What the checks see."""
        flat = np.array([each for told in self.told for each in told[4]], np.int64).reshape(-1, 3)
        number, kind, outcome, answer = (np.array([told[at] for told in self.told]) for at in range(4))
        zero = np.zeros(len(number), np.int64)
        ops = {
            **dict(zip(("number", "kind", "outcome", "answer"), (number, kind, outcome, answer), strict=True)),
            **dict(zip(("due", "sent", "done"), (10 * number, 10 * number, 10 * number + 1_000), strict=True)),
            **dict(zip(("tries", "process"), (zero + 1, zero), strict=True)),
            "touched_start": np.cumsum([0, *(len(told[4]) for told in self.told)]),
            **{f"touched_{name}": flat[:, index] for index, name in enumerate(("row", "read", "wrote"))},
        }
        process = LoadProcess("load-0", ClockOrigin("host", "boot", 0, 0), {}, {"number": number}, ops, {}, len(number))
        final = {
            name: {"id": np.arange(3), "version": np.array([self.state[versioned_row(index, row)] for row in range(3)])}
            for index, name in enumerate(("a", "b"))
        }
        return Evidence(Plan(), History([process], final), {}, {}, workload=WORKLOAD, transaction_snapshot=True)


def judged(evidence: Evidence) -> dict[str, Finding]:
    """What the generic checks find."""
    return {check.name: check.find(evidence) for check in version_checks(WORKLOAD, evidence.plan)}


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), trouble=st.sampled_from([0.0, 0.3, 0.9]))
def test_readers_of_a_snapshot_are_never_accused(seed: int, trouble: float) -> None:
    """However old it is, whatever was rolled back, cut off or written twice by one transaction."""
    findings = judged(Store(seed, trouble=trouble).evidence())

    assert "fractured-read" in findings
    assert [finding for finding in findings.values() if finding.verdict != Verdict.VALID] == []


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from([LOOK, AUDIT]))
def test_who_saw_half_a_transaction_is_named_with_it(seed: int, kind: int) -> None:
    """And nothing else is found."""
    store = Store(seed, trouble=0.1)
    torn = store.tear(kind)
    if torn is None:
        return
    findings = judged(store.evidence())

    assert {name: finding.anomalies for name, finding in findings.items() if finding.anomalies} == {"fractured-read": 1}
    witness = findings["fractured-read"].witnesses[0]
    assert witness.startswith(f"{KINDS[kind]} {torn[0]} saw row ")
    assert "but change " in witness
    assert "in one transaction" in witness


@pytest.mark.parametrize(
    ("kind", "statement", "transaction", "accused"),
    [
        (LOOK, True, False, True),
        (AUDIT, True, False, False),
        (AUDIT, True, True, True),
        (LOOK, False, False, False),
    ],
)
def test_only_what_the_level_promises_is_held_against_it(
    kind: int, *, statement: bool, transaction: bool, accused: bool
) -> None:
    """Read committed promises a snapshot to a statement, not to two of them; read uncommitted to none."""
    store = next(store for seed in range(100) if (store := Store(seed, trouble=0.0)).tear(kind))
    evidence = replace(store.evidence(), statement_snapshot=statement, transaction_snapshot=transaction)

    finding = judged(evidence)["fractured-read"]

    assert bool(finding.anomalies) == accused
    if not statement:
        assert "1 fractured reads; no violation" in finding.witnesses[0]


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_same_readers_are_found_as_by_comparing_each_with_each(seed: int) -> None:
    """On histories of no order at all."""
    random = Random(seed)
    writers, readers = _anything(random), _anything(random)
    torn = {
        reader
        for reader in {op for op, _, _ in readers}
        for writer in {op for op, _, _ in writers}
        if _is_torn(_of(readers, reader), _of(writers, writer))
    }

    count, found, left = fractures.fractures(_flat(writers), _flat(readers), most=100)

    assert (count, left) == (len(torn), 0)
    assert {each.reader for each in found} == torn
    for each in found:
        assert (each.writer, each.row, each.wrote) in writers
        assert (each.writer, each.other_row, each.other_wrote) in writers
        assert each.wrote <= each.saw
        assert each.other_saw < each.other_wrote


def test_ops_that_are_too_many_to_compare_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a result is no whole one."""
    monkeypatch.setattr(fractures, "MOST_PAIRS", 2)
    both = [(0, 0, 1), (0, 1, 1), (1, 0, 2), (1, 1, 2)]

    assert fractures.fractures(_flat(both), _flat(both)) == (0, [], 2)
    monkeypatch.setattr(fractures, "MOST_PAIRS", 0)
    assert fractures.fractures(_flat(both), _flat(both)) == (0, [], 4)


def _anything(random: Random) -> list[Touch]:
    return [(random.randrange(6), random.randrange(4), random.randrange(5)) for _ in range(random.randrange(30))]


def _of(touched: Iterable[Touch], op: int) -> list[tuple[int, int]]:
    return [(row, version) for each, row, version in touched if each == op]


def _is_torn(read: list[tuple[int, int]], wrote: list[tuple[int, int]]) -> bool:
    """The reader saw a write of one row, and of another row not all."""
    return any(
        saw >= one and lacked < other and row != other_row
        for row, one in wrote
        for other_row, other in wrote
        for _, saw in [each for each in read if each[0] == row]
        for _, lacked in [each for each in read if each[0] == other_row]
    )


def _flat(touched: list[Touch]) -> Versions:
    return Versions(*np.array(touched, np.int64).reshape(-1, 3).T)
