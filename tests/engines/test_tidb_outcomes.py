"""What each error of TiDB means, by stage and code."""

import pytest
from asyncmy.errors import OperationalError

from loadgen.engines import ENGINES, engine_of
from loadgen.engines.engine import level_of
from loadgen.engines.tidb import ENGINE, LOAD
from loadgen.errors import PlanError
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
    assert {name: level.means for name, level in ENGINE.levels.items()} == {
        "read committed": "read-committed",
        "repeatable read": "monotonic-atomic-view",
        "repeatable read optimistic": "snapshot-isolation",
    }


def test_level_says_the_mode_of_its_transactions() -> None:
    """It is the level's alone, so that no setting beside it can contradict what it means."""
    modes = {name: "optimistic" if "optimistic" in name else "pessimistic" for name in ENGINE.levels}

    assert all(f"tidb_txn_mode = '{mode}'" in ENGINE.levels[name].set_sql for name, mode in modes.items())
    assert "tidb_txn_mode" not in LOAD.values


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "tidb"])
def test_other_engines_refuse_the_optimistic_level(name: str) -> None:
    """In one line, with what they have."""
    with pytest.raises(PlanError, match=r"does not have it; it has .*read committed"):
        level_of(engine_of(name), "repeatable read optimistic")


def test_key_that_is_there_already_is_a_clear_refusal_of_commit() -> None:
    """An optimistic transaction learns of it only there; another try would find it again."""
    failure = ENGINE.classify(OperationalError(1062, "Duplicate entry '1' for key 'PRIMARY'"), Stage.COMMIT)

    assert (failure.outcome, failure.error_class, failure.retry) == (Outcome.FAIL, "constraint", False)


def test_server_retries_nothing_by_itself() -> None:
    """A transaction that the server ran again would have written a version that the client never saw."""
    assert LOAD.values["tidb_disable_txn_auto_retry"] == 1
