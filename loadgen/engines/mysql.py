"""MySQL with InnoDB."""

from collections.abc import Mapping

from loadgen.databases.mysql import DATABASE
from loadgen.engines.engine import LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S, ErrorRule, Level
from loadgen.engines.mysql_engine import MysqlEngine
from loadgen.engines.mysql_outcomes import COMMON, ELSEWHERE, OTHER, ErrorRules
from loadgen.engines.mysql_settings import OF_MYSQL, Profile
from loadgen.engines.mysql_writable import ASK_MYSQL

RULES: ErrorRules = {
    **COMMON,
    # Group Replication. The certification's refusal is clear; the hook's error is not: such transactions were seen on
    # the new primary afterwards.
    3101: ErrorRule("conflict", retry=True, refusal=True),
    3100: ELSEWHERE,
    1180: OTHER,  # error during commit
    1402: OTHER,
    3098: ELSEWHERE,  # this member is not in the group, or not in its majority
    3796: ELSEWHERE,
    3032: ELSEWHERE,  # offline mode: what a member does that was expelled
    1114: ErrorRule("resource", retry=True),  # the table is full
    1206: ErrorRule("resource", retry=True),  # too many locks
    1614: ErrorRule("conflict", retry=True),
}


def _refused(answers: Mapping[str, str], level: Level | None) -> str:
    """InnoDB refuses every write below repeatable read where the binary log is to hold statements."""
    if level is None or level.name not in ("read uncommitted", "read committed"):
        return ""
    if answers.get("log_bin") != "1" or answers.get("binlog_format") != "statement":
        return ""
    return (
        f"binlog_format is STATEMENT, at which MySQL refuses every write at {level.name}: SET GLOBAL binlog_format = "
        "ROW, or use --isolation 'repeatable read'"
    )


LOAD = Profile(
    {
        **OF_MYSQL,
        "innodb_lock_wait_timeout": LOCK_TIMEOUT_S,
        "lock_wait_timeout": LOCK_TIMEOUT_S,
        # It holds for SELECT only.
        "max_execution_time": STATEMENT_TIMEOUT_S * 1000,
    },
    _refused,
    asked=("binlog_format", "log_bin"),
)
"""A load session."""


class Mysql(MysqlEngine):
    """The engine."""

    identity = "mysql"
    rules = RULES
    ask_writable = ASK_MYSQL
    control_dialect = "loadgen.engines.mysql_dialects:MYSQL"

    @property
    def profile(self) -> Profile:
        """A load session's settings."""
        return LOAD


ENGINE = Mysql(DATABASE)
