"""What each error of TiDB means, by stage and code."""

import pytest
from asyncmy.errors import OperationalError

from loadgen.engines.tidb import ENGINE, settings_sql
from loadgen.op import Outcome, Stage


@pytest.mark.parametrize("errno", [8002, 8005, 8022, 8028, 9007, 1213])
def test_write_conflict_at_commit_is_a_clear_refusal(errno: int) -> None:
    """The server says that the transaction was rolled back, and that it may be tried again."""
    failure = ENGINE.classify(OperationalError(errno, "text"), Stage.COMMIT)

    assert (failure.outcome, failure.retry, failure.drop) == (Outcome.FAIL, True, False)


@pytest.mark.parametrize("errno", [9001, 9002, 9003, 9004, 9005, 9008, 8027, 8229, 8252, 1205, 3572])
def test_error_of_the_store_is_fail_before_commit_and_info_at_commit(errno: int) -> None:
    """Nobody but the store knows whether a COMMIT that ended in its error was done."""
    early = ENGINE.classify(OperationalError(errno, "text"), Stage.STATEMENT)
    late = ENGINE.classify(OperationalError(errno, "text"), Stage.COMMIT)

    assert (early.outcome, early.retry) == (Outcome.FAIL, True)
    assert (late.outcome, late.retry) == (Outcome.INFO, False)


@pytest.mark.parametrize("errno", [2006, 2013])
def test_closed_connection_at_commit_is_info(errno: int) -> None:
    """An undetermined result is told by closing the connection, with no error packet."""
    failure = ENGINE.classify(OperationalError(errno, "text"), Stage.COMMIT)

    assert (failure.outcome, failure.drop) == (Outcome.INFO, True)


def test_levels_that_the_server_refuses_are_not_offered() -> None:
    """Read uncommitted and serializable end in 8048, or would silently run another level."""
    assert set(ENGINE.levels) == {"read committed", "repeatable read"}


def test_server_retries_nothing_by_itself() -> None:
    """A transaction that the server ran again would have written a version that the client never saw."""
    assert "tidb_disable_txn_auto_retry = ON" in settings_sql()
    assert "tidb_txn_mode = 'pessimistic'" in settings_sql()
