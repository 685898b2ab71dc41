"""What an error on the MySQL wire means, by stage and code: the rules that MySQL, TiDB and OceanBase share.

Before COMMIT was sent, an error is ``fail``: the session rolls back, or the connection closes and the server rolls
back. From COMMIT on, only a clear refusal is ``fail``, and everything else is ``info``. Each engine adds its own codes
to COMMON in a table with the key errno, or (errno, SQLSTATE) if one errno has several internal errors.
"""

import re
from collections.abc import Mapping

from loadgen.engines.engine import ErrorRule, Failure
from loadgen.op import Outcome, Stage

ErrorRules = Mapping[int | tuple[int, str], ErrorRule]

CONFLICT = ErrorRule("conflict", retry=True)
REFUSED_CONFLICT = ErrorRule("conflict", retry=True, refusal=True)
DEADLOCK = ErrorRule("deadlock", retry=True, refusal=True)
TIMEOUT = ErrorRule("timeout", retry=True)
LOST = ErrorRule("connection", retry=True, drop=True)
UNAVAILABLE = ErrorRule("unavailable", retry=True)
ELSEWHERE = ErrorRule("unavailable", retry=True, drop=True)
"""This node does not take it: only a new connection may reach one that does."""
RESOURCE = ErrorRule("resource", retry=True)
FULL = ErrorRule("resource", retry=True, drop=True)
CONSTRAINT = ErrorRule("constraint", refusal=True)
OTHER = ErrorRule("other")
BROKEN = ErrorRule("other", drop=True)
"""The connection can't be trusted: the driver lost its place in the stream."""

COMMON: ErrorRules = {
    # MySQL and TiDB roll back only the statement after 1205, and OceanBase too: the transaction is still open.
    1205: TIMEOUT,
    1213: DEADLOCK,
    1317: TIMEOUT,  # the query was interrupted
    3024: TIMEOUT,  # max_execution_time
    3572: CONFLICT,  # NOWAIT
    1062: CONSTRAINT,
    1048: CONSTRAINT,
    1264: CONSTRAINT,
    1690: CONSTRAINT,
    3819: CONSTRAINT,
    1040: FULL,  # too many connections
    1203: FULL,
    1226: FULL,
    1053: LOST,  # the server shuts down
    1152: LOST,
    1158: LOST,
    1159: LOST,
    1160: LOST,
    1161: LOST,
    1927: LOST,  # the connection was killed
    2002: LOST,
    2003: LOST,
    2006: LOST,
    2013: LOST,
    2014: BROKEN,  # commands out of sync
    2055: LOST,
    4031: LOST,  # disconnected for inactivity
    1290: ELSEWHERE,  # read-only, super read-only
    1792: OTHER,
    1836: ELSEWHERE,
}


def outcome_of(rules: ErrorRules, errno: int, sqlstate: str, text: str, stage: Stage) -> Failure:
    """What the server's error ``errno`` at ``stage`` means for the op."""
    rule = rules.get((errno, sqlstate)) or rules.get(errno, OTHER)
    if stage is Stage.COMMIT and not rule.refusal:
        return Failure(Outcome.INFO, str(errno), rule.error_class, drop=rule.drop, sample=sanitised(text))
    return Failure(Outcome.FAIL, str(errno), rule.error_class, rule.retry, rule.drop, sanitised(text))


def broken(error: BaseException, stage: Stage) -> Failure:
    """The meaning of an error that no server sent. How far the connection came is unknown, so it is closed."""
    outcome = Outcome.INFO if stage is Stage.COMMIT else Outcome.FAIL
    lost = isinstance(error, OSError | TimeoutError | EOFError)
    return Failure(
        outcome,
        type(error).__name__,
        "connection" if lost else "other",
        retry=lost and outcome is Outcome.FAIL,
        drop=True,
        sample=sanitised(str(error)),
    )


def sanitised(text: str) -> str:
    """A server's message without the values in it: what is quoted, and numbers."""
    text = re.sub(r"'(?:[^'\\]|\\.)*'|\"[^\"]*\"", "'?'", text)
    return re.sub(r"\d+", "N", text)[:200]
