"""MySQL with InnoDB."""

from collections.abc import Mapping

from loadgen.engines.engine import LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S, Address, Control, Failure, Level
from loadgen.engines.mysql_outcomes import COMMON, ELSEWHERE, OTHER, Rule, Rules
from loadgen.engines.mysql_settings import OF_MYSQL, Profile
from loadgen.engines.mysql_wire import MysqlConnection, classify, connect
from loadgen.engines.mysql_writable import ASK_MYSQL
from loadgen.op import Stage

RULES: Rules = {
    **COMMON,
    # Group Replication. The certification's refusal is clear; the hook's error is not: such transactions were seen on
    # the new primary afterwards.
    3101: Rule("conflict", retry=True, refusal=True),
    3100: ELSEWHERE,
    1180: OTHER,  # error during commit
    1402: OTHER,
    3098: ELSEWHERE,  # this member is not in the group, or not in its majority
    3796: ELSEWHERE,
    3032: ELSEWHERE,  # offline mode: what a member does that was expelled
    1114: Rule("resource", retry=True),  # the table is full
    1206: Rule("resource", retry=True),  # too many locks
    1614: Rule("conflict", retry=True),
}

_LEVELS = {
    "read uncommitted": Level(
        "read uncommitted",
        "read-uncommitted",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
        statement_snapshot=False,
    ),
    "read committed": Level(
        "read committed", "read-committed", "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
    ),
    # A snapshot for plain reads, but writes and locking reads see the latest commit: an update can be lost, so it is
    # below snapshot isolation, and below the literature's repeatable read.
    "repeatable read": Level(
        "repeatable read", "monotonic-atomic-view", "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"
    ),
    "serializable": Level("serializable", "serializable", "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
}


class Mysql:
    """The engine."""

    name = "mysql"
    wire = "mysql"
    title = "MySQL"
    default_level = "repeatable read"
    levels: Mapping[str, Level] = _LEVELS

    def classify(self, error: BaseException, stage: Stage) -> Failure:
        """The outcome of ``error`` at ``stage``."""
        return classify(RULES, error, stage)

    async def connect(
        self,
        address: Address,
        level: Level,
        run_id: str,
        *,
        reader: bool = False,  # noqa: ARG002 - a replica's session is set and asked in the same way
    ) -> MysqlConnection:
        """Open one load connection in our database, at ``level``, with explicit timeouts, and verify it."""
        return await connect(address, LOAD, self.name, level, run_id, ASK_MYSQL)

    def control(self, address: Address, run_id: str) -> Control:
        """Open the control connection."""
        from loadgen.engines.mysql_control import MysqlControl
        from loadgen.engines.mysql_dialects import MYSQL

        return MysqlControl(address, run_id, MYSQL)


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
ENGINE = Mysql()
