"""The cases are well formed, and what they look for never shows where transactions run one after the other."""

import itertools
import sqlite3

import pytest

from loadgen.hermitage.case import ANOMALIES, BEGIN, COMMIT, INITIAL, ROLLBACK, Case, ReadKind, Rows, Seen, case
from loadgen.hermitage.cases import CASES
from loadgen.hermitage.published import PUBLISHED


def test_a_script_is_read_line_by_line() -> None:
    """A line is a session, a statement, and the name of what it reads."""
    read = case("G2 some variant", ReadKind.READ, "", "1 SELECT id, value FROM test -> a\n2 COMMIT", lambda seen: True)

    first, second = read.steps
    assert (first.session, first.sql, first.label, first.locks) == (1, "SELECT id, value FROM test", "a", False)
    assert (second.session, second.sql, second.label) == (2, COMMIT, "")
    assert (read.anomaly, read.sessions, read.committing) == ("G2", (1, 2), frozenset({2}))


def test_a_line_without_a_session_is_refused() -> None:
    """A slip in a script is found when it is read."""
    with pytest.raises(AssertionError, match="not a step"):
        case("G0", ReadKind.READ, "", "SELECT 1", lambda seen: True)


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_every_transaction_of_a_case_ends(one: Case) -> None:
    """Each session's last statement is COMMIT or ROLLBACK, so that no play can end with a transaction open."""
    for session in one.sessions:
        assert [step.sql for step in one.steps if step.session == session][-1] in (COMMIT, ROLLBACK)


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_no_serial_order_shows_an_anomaly(one: Case) -> None:
    """Whatever the order of the transactions, one after the other they never show what the case looks for."""
    for order in itertools.permutations(one.sessions):
        assert not one.shows(_serially(one, order)), order


def test_every_anomaly_has_a_case_and_cases_have_names_of_their_own() -> None:
    """The columns of the matrix, and no other."""
    assert {one.anomaly for one in CASES} == set(ANOMALIES)
    assert len({one.name for one in CASES}) == len(CASES)


def test_the_published_table_has_a_mark_for_each_anomaly() -> None:
    """No cell of the published table was lost on the way."""
    assert all(tuple(marks) == ANOMALIES for marks in PUBLISHED.values())


def _serially(one: Case, order: tuple[int, ...]) -> Seen:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("CREATE TABLE test (id INT NOT NULL PRIMARY KEY, value INT NOT NULL)")
    database.executemany("INSERT INTO test VALUES (?, ?)", INITIAL.items())
    reads: dict[str, Rows] = {}
    for session in order:
        database.execute(BEGIN)
        for step in one.steps:
            if step.session == session and step.sql != BEGIN:
                rows = database.execute(step.sql.removesuffix("FOR UPDATE")).fetchall()
                if step.label:
                    reads[step.label] = dict(rows)
    return Seen(reads, dict(database.execute("SELECT id, value FROM test").fetchall()))
