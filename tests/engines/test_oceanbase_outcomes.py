"""What each error of OceanBase means, by stage and code."""

import asyncio

import pytest
from asyncmy.errors import InterfaceError, InternalError, MySQLError, OperationalError

from loadgen.engines.oceanbase import ENGINE
from loadgen.op import Outcome, Stage

BEFORE_COMMIT = (Stage.BEGIN, Stage.STATEMENT)


def server_error(errno: int, sqlstate: str = "HY000", text: str = "text") -> MySQLError:
    """An error as the driver raises it for an error packet."""
    error = OperationalError(errno, text)
    error.sqlstate = sqlstate
    return error


@pytest.mark.parametrize("errno", [6235, 6002, 1205, 1213, 4012, 4038, 4138, 4225, 6231, 6280, 6281, 4030, 4013])
@pytest.mark.parametrize("stage", BEFORE_COMMIT)
def test_server_error_before_commit_fails_and_may_be_tried_again(errno: int, stage: Stage) -> None:
    """Before COMMIT the server did nothing that stays, so a new transaction may try again on the same connection."""
    failure = ENGINE.classify(server_error(errno), stage)

    assert (failure.outcome, failure.retry, failure.drop, failure.code) == (Outcome.FAIL, True, False, str(errno))


@pytest.mark.parametrize(("errno", "sqlstate"), [(6002, "40000"), (6235, "25000"), (1213, "HY000")])
def test_clear_refusal_of_commit_fails_and_may_be_tried_again(errno: int, sqlstate: str) -> None:
    """A server that says "rolled back" to a COMMIT has not committed."""
    failure = ENGINE.classify(server_error(errno, sqlstate), Stage.COMMIT)

    assert (failure.outcome, failure.retry) == (Outcome.FAIL, True)


@pytest.mark.parametrize(
    ("errno", "sqlstate"),
    [
        (4012, "HY000"),  # statement timeout
        (4012, "25000"),  # transaction result unknown
        (6002, "HY000"),  # transaction context does not exist
        (6002, "25000"),
        (6222, "HY000"),
        (6225, "25000"),
        (6233, "HY000"),
        (1205, "HY000"),
        (4038, "HY000"),
        (4064, "HY000"),
        (1317, "70100"),
        (2006, ""),
        (2013, ""),
        (8001, "08004"),
        (8004, "08004"),
        (7777, "HY000"),  # unknown to the table
    ],
)
def test_anything_else_at_commit_is_info_and_never_tried_again(errno: int, sqlstate: str) -> None:
    """What is not a clear refusal leaves a COMMIT undecided."""
    failure = ENGINE.classify(server_error(errno, sqlstate), Stage.COMMIT)

    assert (failure.outcome, failure.retry) == (Outcome.INFO, False)


@pytest.mark.parametrize("errno", [2006, 2013, 2003, 4064, 8001, 8002, 8003, 8004, 1053, 1927])
@pytest.mark.parametrize("stage", [*BEFORE_COMMIT, Stage.COMMIT])
def test_lost_connection_is_dropped(errno: int, stage: Stage) -> None:
    """A connection that is gone, or that the server declared gone, is never used again."""
    failure = ENGINE.classify(server_error(errno), stage)

    assert failure.drop
    assert failure.error_class == "connection"


@pytest.mark.parametrize(("errno", "error_class"), [(1062, "constraint"), (3819, "constraint"), (1146, "other")])
def test_error_that_would_come_again_is_not_tried_again(errno: int, error_class: str) -> None:
    """A duplicate key, a CHECK or a missing table stays what it is."""
    failure = ENGINE.classify(server_error(errno), Stage.STATEMENT)

    assert (failure.outcome, failure.retry, failure.error_class) == (Outcome.FAIL, False, error_class)


@pytest.mark.parametrize(
    "error",
    [
        InterfaceError(0, "Cancelled during execution"),
        InternalError("Packet sequence number wrong - got 3 expected 1"),
        TimeoutError(),
        ConnectionResetError(),
        asyncio.CancelledError(),
        RuntimeError("the transport is closed"),
    ],
)
def test_error_that_no_server_sent_drops_the_connection(error: BaseException) -> None:
    """Where the driver lost its place nobody knows what the server has done: info from COMMIT on."""
    before, at_commit = ENGINE.classify(error, Stage.STATEMENT), ENGINE.classify(error, Stage.COMMIT)

    assert (before.outcome, before.drop) == (Outcome.FAIL, True)
    assert (at_commit.outcome, at_commit.drop, at_commit.retry) == (Outcome.INFO, True, False)


def test_sample_holds_no_values() -> None:
    """The sample of a message shows its shape, not what a shopper sent."""
    failure = ENGINE.classify(
        server_error(1062, "23000", "Duplicate entry '42-secret' for key 'orders.7'"), Stage.STATEMENT
    )

    assert failure.sample == "Duplicate entry '?' for key '?'"


def test_levels_are_named_by_what_they_mean() -> None:
    """Repeatable read and serializable are both snapshot isolation, and read uncommitted is not offered."""
    assert {name: level.means for name, level in ENGINE.levels.items()} == {
        "read committed": "read-committed",
        "repeatable read": "snapshot-isolation",
        "serializable": "snapshot-isolation",
    }
    assert ENGINE.default_level == "read committed"
