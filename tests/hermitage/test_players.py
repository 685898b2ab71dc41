"""A script is played in its order, waits are the server's word, and an error ends its own transaction only."""

import pytest

from loadgen.errors import ClusterError
from loadgen.hermitage import players
from loadgen.hermitage.case import Case, ReadKind, case
from loadgen.hermitage.cases import CASES
from loadgen.hermitage.play import Verdict, What
from loadgen.hermitage.report import transcript
from tests.hermitage.fake_engine import CONFLICT, LOST, SYNTAX, FakeServer, play_on

BY_NAME = {one.name: one for one in CASES}
CROSSED = case(
    "G0",
    ReadKind.READ,
    "each waits for the other",
    """
    1 UPDATE test SET value = 11 WHERE id = 1
    2 UPDATE test SET value = 22 WHERE id = 2
    1 UPDATE test SET value = 21 WHERE id = 2
    2 UPDATE test SET value = 12 WHERE id = 1
    1 COMMIT
    2 COMMIT
    """,
    lambda seen: True,
)
G0_TRANSCRIPT = """\
T1  BEGIN
T2  BEGIN
T1  UPDATE test SET value = 11 WHERE id = 1  1 row
T2  UPDATE test SET value = 12 WHERE id = 1  waits for T1
T1  UPDATE test SET value = 21 WHERE id = 2  1 row
T1  COMMIT                                   done
T2  UPDATE test SET value = 12 WHERE id = 1  after its wait: 1 row
T2  UPDATE test SET value = 22 WHERE id = 2  1 row
T2  COMMIT                                   done
left in the table: 1 => 12, 2 => 22"""


def test_a_wait_is_told_with_its_blocker_and_ends_with_the_blockers_commit() -> None:
    """The transcript tells who waited for whom, and what came of it."""
    play = play_on(FakeServer(), BY_NAME["G0"])

    assert play.verdict is Verdict.PREVENTED
    assert transcript(play) == G0_TRANSCRIPT


def test_a_server_that_names_no_blocker_is_believed_while_another_session_holds_locks() -> None:
    """A session waits also where the server does not say for whom."""
    server = FakeServer()
    server.names_blockers = False

    play = play_on(server, BY_NAME["G0"])

    assert transcript(play) == G0_TRANSCRIPT.replace("waits for T1", "waits (the server does not say for whom)")


@pytest.mark.parametrize("name", ["G1a", "G1b", "G1c"])
def test_a_dirty_read_is_seen(name: str) -> None:
    """The fake reads in place, so the three anomalies of reading uncommitted data happen."""
    one = BY_NAME[name]
    if name == "G1c":
        one = _reading_all(one)

    assert play_on(FakeServer(), one).verdict is Verdict.HAPPENED


def test_each_play_begins_with_the_same_table() -> None:
    """What a case left is gone before the next."""
    assert transcript(play_on(FakeServer(), BY_NAME["G0"], times=3)) == G0_TRANSCRIPT


def test_a_statement_of_a_waiting_session_is_kept_until_its_answer() -> None:
    """The script goes on with the other sessions."""
    one = case(
        "G0",
        ReadKind.READ,
        "",
        """
        1 UPDATE test SET value = 11 WHERE id = 1
        2 UPDATE test SET value = 12 WHERE id = 1
        2 UPDATE test SET value = 22 WHERE id = 2
        2 COMMIT
        1 COMMIT
        """,
        lambda seen: False,
    )

    events = play_on(FakeServer(), one).events

    told = [(event.session, event.sql.split()[0], event.what) for event in events[2:]]
    assert told == [
        (1, "UPDATE", What.ANSWERED),
        (2, "UPDATE", What.WAITS),
        (2, "UPDATE", What.KEPT),
        (2, "COMMIT", What.KEPT),
        (1, "COMMIT", What.ANSWERED),
        (2, "UPDATE", What.ANSWERED),
        (2, "UPDATE", What.ANSWERED),
        (2, "COMMIT", What.ANSWERED),
    ]


def test_a_deadlocks_victim_is_rolled_back_and_prevents_the_anomaly() -> None:
    """Two that wait for each other are not at rest; the one that the server lets go does its kept statements."""
    play = play_on(FakeServer(), CROSSED)

    assert play.verdict is Verdict.PREVENTED
    assert dict(play.ended) == {1: "committed", 2: "deadlock"}
    assert dict(play.final) == {1: 11, 2: 21}


def test_a_conflict_skips_the_rest_of_its_transaction_and_prevents_the_anomaly() -> None:
    """The other transaction is played to its end."""
    server = FakeServer()
    server.fails = {(2, "UPDATE"): CONFLICT}

    play = play_on(server, BY_NAME["G0"])

    assert play.verdict is Verdict.PREVENTED
    assert dict(play.ended) == {1: "committed", 2: CONFLICT}
    assert [event.what for event in play.events if event.session == 2][1:] == [What.FAILED, What.SKIPPED, What.SKIPPED]


@pytest.mark.parametrize(("statement", "what"), [("UPDATE", LOST), ("COMMIT", LOST), ("UPDATE", SYNTAX)])
def test_an_error_that_proves_nothing_gives_unknown(statement: str, what: str) -> None:
    """A lost connection or an error of another kind is not taken for the level's doing."""
    server = FakeServer()
    server.fails = {(2, statement): what}

    assert play_on(server, BY_NAME["G0"]).verdict is Verdict.UNKNOWN


def test_a_lost_session_is_opened_again_for_the_next_play() -> None:
    """One broken play leaves the next ones whole."""
    server = FakeServer()
    server.fails = {(2, "UPDATE"): LOST}

    assert play_on(server, BY_NAME["G0"], times=2).verdict is Verdict.PREVENTED


def test_a_statement_that_neither_ends_nor_waits_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not tell of a wait can't be waited for without end."""
    monkeypatch.setattr(players, "SETTLE_LIMIT_S", 0.05)
    server = FakeServer()
    server.tells_of_waits = False

    with pytest.raises(ClusterError, match="was not answered within"):
        play_on(server, BY_NAME["G0"])


def _reading_all(one: Case) -> Case:
    """The fake knows no WHERE in a SELECT."""
    script = "\n".join(
        f"{step.session} {step.sql.partition(' WHERE')[0] if step.label else step.sql}"
        + (f" -> {step.label}" if step.label else "")
        for step in one.steps
    )
    return case(
        one.name, one.kind, one.title, script, lambda seen: seen.reads["a"][2] == 22 and seen.reads["b"][1] == 11
    )
