"""MySQL with InnoDB."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from loadgen.databases.mysql import DATABASE
from loadgen.engines.engine import LOCK_TIMEOUT_S, SCHEMA, STATEMENT_TIMEOUT_S, ErrorRule, Level
from loadgen.engines.identity import untried
from loadgen.engines.mysql_dialect import HERE, LOCK_WAIT_S, Dialect, Query, Server, busy, ids, variables_of, version_of
from loadgen.engines.mysql_engine import MysqlEngine
from loadgen.engines.mysql_outcomes import COMMON, ELSEWHERE, OTHER, ErrorRules
from loadgen.engines.mysql_refusals import errno_of
from loadgen.engines.mysql_settings import Profile, Values
from loadgen.errors import ClusterError

_ALWAYS: Values = {"default_storage_engine": "InnoDB", "use_secondary_engine": "ON"}
"""What every session of ours sets."""
_LOCK_WAIT, _DENIED = 1205, (1044, 1142, 1227)
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
        **_ALWAYS,
        "innodb_lock_wait_timeout": LOCK_TIMEOUT_S,
        "lock_wait_timeout": LOCK_TIMEOUT_S,
        # It holds for SELECT only.
        "max_execution_time": STATEMENT_TIMEOUT_S * 1000,
    },
    _refused,
    asked=("binlog_format", "log_bin"),
)
"""A load session."""


def look_at_mysql(query: Query) -> Server:
    """A MySQL server, with the settings that decide what an acknowledged commit is worth."""
    version, comment, fork = version_of(query, "mysql")
    names = (
        "innodb_flush_log_at_trx_commit",
        "sync_binlog",
        "log_bin",
        "innodb_doublewrite",
        "innodb_flush_method",
        "innodb_rollback_on_timeout",
        "group_replication_consistency",
        "rpl_semi_sync_source_enabled",
        "super_read_only",
    )
    durability = variables_of(query, names)
    warnings = [untried(fork, "MySQL")] * bool(fork)
    if durability.get("innodb_flush_log_at_trx_commit") != "1":
        warnings.append("innodb_flush_log_at_trx_commit is not 1: an acknowledged transaction can be lost in a crash")
    if durability.get("log_bin") == "ON" and durability.get("sync_binlog") != "1":
        warnings.append("sync_binlog is not 1: an acknowledged transaction can be lost to the replicas in a crash")
    edition = "enterprise" if "enterprise" in comment.lower() else "community"
    return Server(version, fork or edition, durability, tuple(warnings), fork)


def open_in_mysql(query: Query, tables: Sequence[str]) -> list[int]:
    """Sessions that hold a transaction open on ``tables``; [0] for one that this user may not see.

    A transaction prevents every other session from locking the tables that it has touched.
    """
    if not tables:
        return []
    locks = ", ".join(f"{SCHEMA}.`{name}` WRITE" for name in tables)
    query("SET @@SESSION.lock_wait_timeout = 1")
    try:
        query(f"LOCK TABLES {locks}")
        return []
    except ClusterError as error:
        if errno_of(error.__cause__) not in (_LOCK_WAIT, *_DENIED):
            raise
        seen: list[int] = []
        with suppress(ClusterError):
            of_ours = f"p.{HERE.replace(' id', ' p.id')}"
            trx = (
                "information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id"
            )
            seen = ids(query(f"SELECT p.id FROM {trx} WHERE {of_ours}"))
        return seen or ([0] if errno_of(error.__cause__) == _LOCK_WAIT else busy(query))
    finally:
        query("UNLOCK TABLES")
        query(f"SET @@SESSION.lock_wait_timeout = {LOCK_WAIT_S}")


DIALECT = Dialect(
    # A member of a group that is not its primary is super-read-only, which implies this.
    ask_writable="SELECT @@GLOBAL.read_only",
    name="mysql",
    title="MySQL",
    look=look_at_mysql,
    profile=Profile(
        {
            **_ALWAYS,
            "innodb_lock_wait_timeout": LOCK_WAIT_S,
            "lock_wait_timeout": LOCK_WAIT_S,
            "max_execution_time": 0,
        }
    ),
    open_sessions=open_in_mysql,
)
"""The control connection, and what it asks."""


class Mysql(MysqlEngine):
    """The engine."""

    rules = RULES
    dialect = DIALECT

    @property
    def profile(self) -> Profile:
        """A load session's settings."""
        return LOAD


ENGINE = Mysql(DATABASE)
