"""The checks that a version column gives: never a false alarm, and every broken step is found by its name."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.clock import ClockOrigin
from loadgen.history.history import History, LoadProcess
from loadgen.op import Outcome
from loadgen.verdict import Finding, Verdict
from loadgen.workload import Plan, Table, Workload, versioned_row
from loadgen.workload.evidence import Evidence
from loadgen.workload.versions import version_checks

ROWS = 3
WRITTEN, REFUSED = 1, 2
NAMES = ["lost-update", "lost-write", "phantom-write", "real-time-order"]
Touch = tuple[int, int, int]


def _tables(plan: Plan) -> tuple[Table, ...]:
    return tuple(Table(name, "", {}, version="version", row="id") for name in ("a", "b"))


WORKLOAD = Workload(
    name="store",
    kinds=("write",),
    answers=("none", "written", "refused"),
    arrivals=("write",),
    refused=("refused",),
    tables=_tables,
    invoked_types={"number": "int64"},
    invoked=lambda plan, first, count: {},
    ops=lambda plan, columns: [],
)


class Store:
    """Rows that count their writes, and clients who may be cut off. ``broken`` goes wrong at one step, once."""

    def __init__(self, seed: int, broken: str = "", ops: int = 60, trouble: float = 0.2) -> None:
        self.random = random = Random(seed)
        self.version = {versioned_row(table, row): 0 for table in range(2) for row in range(ROWS)}
        self.told: list[tuple[int, int, int, Outcome, int, tuple[Touch, ...]]] = []
        self.unended: set[int] = set()
        at = random.randrange(ops // 2, ops)
        for number in range(ops):
            self._serve(number, 10 * number, broken if number == at else "", 0.0 if number == at else trouble)
        self.count = ops

    def _serve(self, number: int, now: int, broken: str, trouble: float) -> None:
        random = self.random
        sent, done = now - random.randrange(60), now + 1 + random.randrange(60)
        fate = random.random()
        rows = sorted(random.sample(sorted(self.version), random.choice([1, 2])))
        if broken:
            rows = [max(self.version, key=lambda row: self.version[row])]
        before = dict(self.version)
        touched = tuple(self._write(row, blind=random.random() < 0.5 or bool(broken)) for row in rows)
        if broken == "lost-update":
            touched = ((rows[0], before[rows[0]] - 1, self.version[rows[0]]),)
        elif broken == "lost-write":
            # It is acknowledged, and rolled back: the next writer gets the same version, or nobody does.
            self.version = before
        elif broken == "phantom-write":
            self.version[rows[0]] += 1_000
        elif broken == "real-time-order":
            touched = ((rows[0], -1, self.version[rows[0]]),)
            # Sent long after all others ended, and yet it got the first version of the row.
            sent, done = now + 5_000, now + 5_001
            first = next(
                index for index, each in enumerate(self.told) if (rows[0], 1) in {(t[0], t[2]) for t in each[5]}
            )
            self._swap(first, number, sent, done, touched)
            return
        if fate < trouble / 4:
            self.version = before
            self.told.append((number, sent, done, Outcome.FAIL, 0, ()))
        elif fate < trouble / 2:
            self.version = before
            self.told.append((number, sent, done, Outcome.OK, REFUSED, touched))
        elif fate < trouble:
            if random.random() < 0.5:
                self.version = before
            if random.random() < 0.3:
                self.unended.add(number)
            else:
                known = touched if random.random() < 0.5 else ()
                self.told.append((number, sent, done, Outcome.INFO, 0, known))
        else:
            self.told.append((number, sent, done, Outcome.OK, WRITTEN, touched))

    def _write(self, row: int, *, blind: bool) -> Touch:
        read = self.version[row]
        self.version[row] += 1
        return row, -1 if blind else read, self.version[row]

    def _swap(self, first: int, number: int, sent: int, done: int, touched: tuple[Touch, ...]) -> None:
        """The op takes the version of the first write of its row, and that one takes the op's."""
        old = self.told[first]
        row, _, wrote = touched[0]
        mine = tuple((row, -1, wrote) if each[0] == row else (each[0], -1, each[2]) for each in old[5])
        self.told[first] = (*old[:5], mine)
        self.told.append((number, sent, done, Outcome.OK, WRITTEN, ((row, -1, 1),)))

    def findings(self) -> dict[str, Finding]:
        """What the generic checks find."""
        columns = list(zip(*[(n, s, d, o, a, len(t)) for n, s, d, o, a, t in self.told], strict=True))
        number, sent, done, outcome, answer, sizes = (np.array(column, np.int64) for column in columns)
        flat = np.array([each for told in self.told for each in told[5]], np.int64).reshape(-1, 3)
        zero = np.zeros(len(number), np.int64)
        ops = {
            "number": number,
            "kind": zero,
            "answer": answer,
            "outcome": outcome,
            "due": sent,
            "sent": sent,
            "done": done,
            "tries": zero + 1,
            "process": zero,
            "touched_start": np.concatenate(([0], np.cumsum(sizes))),
            **{f"touched_{name}": flat[:, index] for index, name in enumerate(("row", "read", "wrote"))},
        }
        invoked = {"number": np.arange(self.count)}
        closed_at = None if self.unended else self.count
        process = LoadProcess("load-0", ClockOrigin("host", "boot", 0, 0), {}, invoked, ops, {}, closed_at)
        final = {
            name: {
                "id": np.arange(ROWS),
                "version": np.array([self.version[versioned_row(index, row)] for row in range(ROWS)]),
            }
            for index, name in enumerate(("a", "b"))
        }
        evidence = Evidence(Plan(), History([process], final), {}, {}, workload=WORKLOAD)
        return {check.name: check.find(evidence) for check in version_checks(WORKLOAD, evidence.plan)}


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), trouble=st.sampled_from([0.0, 0.1, 0.5, 0.9]))
def test_a_correct_store_is_never_accused(seed: int, trouble: float) -> None:
    """Whatever failed, was refused, was cut off with its versions told or without, or died."""
    findings = Store(seed, trouble=trouble).findings() if trouble < 1 else {}

    assert list(findings) == NAMES
    assert [finding for finding in findings.values() if finding.verdict != Verdict.VALID] == []


@settings(max_examples=100, deadline=None)
@given(broken=st.sampled_from(NAMES), seed=st.integers(0, 2**32))
def test_one_broken_step_is_found_by_its_name_alone(broken: str, seed: int) -> None:
    """And its witness names the op or the row."""
    store = Store(seed, broken, trouble=0.0)
    findings = store.findings()

    assert {name for name, finding in findings.items() if finding.anomalies} == {broken}
    assert all(
        "row" in witness and (" of a" in witness or " of b" in witness) for witness in findings[broken].witnesses
    )


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), after=st.integers(0, 40), before=st.integers(0, 3))
def test_open_ops_explain_no_version_below_one_that_was_acknowledged_before_they_were_sent(
    seed: int, after: int, before: int
) -> None:
    """A foreign write early in a run is found, however many ops are open at its end."""
    store = Store(seed, trouble=0.0)
    row = max(store.version, key=lambda each: store.version[each])
    store.version = {each: version + 5 * (each == row) for each, version in store.version.items()}
    # Five versions that nobody wrote come before all others of the row.
    store.told = [
        (
            *told[:5],
            tuple((at, read + 5 * (at == row and read >= 0), wrote + 5 * (at == row)) for at, read, wrote in told[5]),
        )
        for told in store.told
    ]
    store.told += [(store.count + at, -1_000, 9_000, Outcome.INFO, 0, ()) for at in range(before)]
    store.told += [(store.count + 3 + at, 5_000, 9_000, Outcome.INFO, 0, ()) for at in range(after)]
    store.count += before

    findings = store.findings()

    found = {name: finding.anomalies for name, finding in findings.items() if finding.anomalies}
    assert found == ({"phantom-write": 5 - 2 * before} if before < 3 else {})
    if before < 3 and after > 2:
        assert "have no known writer" in findings["phantom-write"].witnesses[0]


@pytest.mark.parametrize("table", ["a", "b"])
def test_without_a_final_read_nobody_knows_whether_a_write_was_lost(table: str) -> None:
    """What the history alone proves is still judged."""
    evidence = Evidence(Plan(), History([], {}), {}, {}, workload=WORKLOAD)

    verdicts = {check.name: check.find(evidence).verdict for check in version_checks(WORKLOAD, evidence.plan)}

    unknown = {name for name, verdict in verdicts.items() if verdict == Verdict.UNKNOWN}
    assert unknown == {"lost-write", "phantom-write"}
