"""What each error of MySQL means, by stage and code."""

import pytest
from asyncmy.errors import OperationalError

from loadgen.engines.mysql import ENGINE
from loadgen.op import Outcome, Stage


@pytest.mark.parametrize(
    ("errno", "before", "at_commit", "retry_before", "drop"),
    [
        (1213, Outcome.FAIL, Outcome.FAIL, True, False),  # the server has rolled back
        (3101, Outcome.FAIL, Outcome.FAIL, True, False),  # certification failed
        (1205, Outcome.FAIL, Outcome.INFO, True, False),
        (3572, Outcome.FAIL, Outcome.INFO, True, False),
        (3100, Outcome.FAIL, Outcome.INFO, True, True),  # such transactions were seen to be committed
        (1290, Outcome.FAIL, Outcome.INFO, True, True),  # super read-only
        (3032, Outcome.FAIL, Outcome.INFO, True, True),  # a member that was expelled is offline
        (3098, Outcome.FAIL, Outcome.INFO, True, True),
        (1040, Outcome.FAIL, Outcome.INFO, True, True),
        (1317, Outcome.FAIL, Outcome.INFO, True, False),
        (3024, Outcome.FAIL, Outcome.INFO, True, False),
        (1180, Outcome.FAIL, Outcome.INFO, False, False),
        (2006, Outcome.FAIL, Outcome.INFO, True, True),
        (2013, Outcome.FAIL, Outcome.INFO, True, True),
        (1062, Outcome.FAIL, Outcome.FAIL, False, False),
        (3819, Outcome.FAIL, Outcome.FAIL, False, False),
        (9999, Outcome.FAIL, Outcome.INFO, False, False),
    ],
)
def test_outcome_by_stage(errno: int, before: Outcome, at_commit: Outcome, retry_before: bool, drop: bool) -> None:
    """Each code has its outcome before COMMIT and at COMMIT, and info is never tried again."""
    error = OperationalError(errno, "text")
    early, late = ENGINE.classify(error, Stage.STATEMENT), ENGINE.classify(error, Stage.COMMIT)

    assert (early.outcome, early.retry, early.drop) == (before, retry_before, drop)
    assert late.outcome is at_commit
    assert late.drop is drop
    assert late.retry is (retry_before and at_commit is Outcome.FAIL)


def test_repeatable_read_is_not_called_snapshot_isolation() -> None:
    """It loses updates (writes see the latest commit), so it must not be judged as if it could not."""
    assert ENGINE.levels["repeatable read"].means != "snapshot-isolation"
    assert ENGINE.default_level == "repeatable read"


def test_read_uncommitted_promises_no_statement_snapshot() -> None:
    """A fractured read at read uncommitted is no violation."""
    assert not ENGINE.levels["read uncommitted"].statement_snapshot
    assert all(level.statement_snapshot for name, level in ENGINE.levels.items() if name != "read uncommitted")
