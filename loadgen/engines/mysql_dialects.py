"""What the control plane asks each engine of the MySQL wire: who it is, how durable it is, how to read at one time."""

import re
from typing import Any

from loadgen.engines.mysql_control import Dialect, Query, Server
from loadgen.engines.mysql_writable import ASK_MYSQL, ASK_OCEANBASE, ASK_TIDB
from loadgen.errors import ClusterError

_FOREVER_S = 7 * 24 * 3600
"""Longer than any run may take: the control connection is idle while the load runs."""
_SEEKDB_WARNING = "seekdb is OceanBase's single-node edition: one copy of the data, and no figure of a cluster"
_UNISTORE_WARNING = "unistore is TiDB's one-process stand-in for TiKV: no Raft, no durability, and no figure of TiDB's"
_READ_AT_ONCE = (
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT",
)


def kind_of(version: str, comment: str) -> str:
    """Which engine of the MySQL wire a server is, by its version and version comment."""
    both = f"{version} {comment}".lower()
    for mark, kind in (("oceanbase", "oceanbase"), ("seekdb", "oceanbase"), ("tidb", "tidb"), ("mariadb", "mariadb")):
        if mark in both:
            return kind
    return "mysql"


def look_at_oceanbase(query: Query) -> Server:
    """An OceanBase server: the edition and version out of ``5.7.25-OceanBase_CE-v4.2.5.3`` and its like."""
    version, _ = _version(query, "oceanbase")
    number = match[1] if (match := re.search(r"-v(\d[\d.]*)", version)) else version
    parameters = _parameters(query, ("log_disk_size", "memory_limit", "memory_budget", "cpu_count", "datafile_size"))
    if "seekdb" in version.lower():
        durability = {"commit_log": "flushed before each acknowledgement, to one copy", **parameters}
        return Server(number, "seekdb", durability, (_SEEKDB_WARNING,))
    durability = {"commit_log": "flushed by a majority of the replicas before each acknowledgement", **parameters}
    return Server(number, "oceanbase-ce" if "_CE" in version else "oceanbase", durability)


def look_at_mysql(query: Query) -> Server:
    """A MySQL server, with the settings that decide what an acknowledged commit is worth."""
    version, comment = _version(query, "mysql")
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
    durability = _variables(query, names)
    warnings = []
    if durability.get("innodb_flush_log_at_trx_commit") != "1":
        warnings.append("innodb_flush_log_at_trx_commit is not 1: an acknowledged order can be lost in a crash")
    if durability.get("log_bin") == "ON" and durability.get("sync_binlog") != "1":
        warnings.append("sync_binlog is not 1: an acknowledged order can be lost to the replicas in a crash")
    edition = "enterprise" if "enterprise" in comment.lower() else "community"
    return Server(version, edition, durability, tuple(warnings))


def look_at_tidb(query: Query) -> Server:
    """A TiDB server, with its store: ``tikv``, or ``unistore``, the one-process stand-in."""
    version, _ = _version(query, "tidb")
    number = match[1] if (match := re.search(r"TiDB-v?([\w.\-]+)", version)) else version
    about = str(query("SELECT tidb_version()")[0][0])
    store = match[1].lower() if (match := re.search(r"Store:\s*(\w+)", about)) else "unknown"
    names = ("tidb_enable_async_commit", "tidb_enable_1pc", "tidb_guarantee_linearizability")
    warnings = (_UNISTORE_WARNING,) if store == "unistore" else ()
    return Server(number, store, {"store": store, **_variables(query, names)}, warnings)


def _version(query: Query, expected: str) -> tuple[str, str]:
    version, comment = map(str, query("SELECT VERSION(), @@version_comment")[0])
    kind = kind_of(version, comment)
    if kind != expected:
        known = {"oceanbase", "tidb", "mysql"}
        advice = f"use --engine {kind}" if kind in known else "it is not one of the engines that can be tested"
        raise ClusterError(f"--engine {expected}: the server says that it is {kind} ({version}): {advice}")
    return version, comment


def _variables(query: Query, names: tuple[str, ...]) -> dict[str, Any]:
    listed = ", ".join(f"'{name}'" for name in names)
    return {str(name): str(value) for name, value in query(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})")}


def _parameters(query: Query, names: tuple[str, ...]) -> dict[str, Any]:
    """OceanBase parameters; none of them where the user has no right to see them."""
    found: dict[str, Any] = {}
    try:
        for name in names:
            # Rows differ between versions: the value is the column after the type, wherever that is.
            for row in query(f"SHOW PARAMETERS LIKE '{name}'"):
                position = row.index(name)
                found[name] = str(row[position + 2])
    except (ClusterError, ValueError, IndexError):
        return found
    return found


OCEANBASE = Dialect(
    ask_writable=ASK_OCEANBASE,
    title="OceanBase",
    look=look_at_oceanbase,
    set_up=(
        f"SET ob_query_timeout = {_FOREVER_S * 1_000_000}, ob_trx_timeout = {_FOREVER_S * 1_000_000}, "
        f"ob_trx_idle_timeout = {_FOREVER_S * 1_000_000}, wait_timeout = {_FOREVER_S}",
    ),
    snapshot=_READ_AT_ONCE,
)
MYSQL = Dialect(
    ask_writable=ASK_MYSQL,
    title="MySQL",
    look=look_at_mysql,
    set_up=(f"SET SESSION wait_timeout = {_FOREVER_S}, net_write_timeout = 600, lock_wait_timeout = 30",),
    snapshot=_READ_AT_ONCE,
)
TIDB = Dialect(
    ask_writable=ASK_TIDB,
    title="TiDB",
    look=look_at_tidb,
    set_up=(f"SET SESSION wait_timeout = {_FOREVER_S}, max_execution_time = 0",),
    snapshot=_READ_AT_ONCE,
    processlist="information_schema.cluster_processlist",
)
