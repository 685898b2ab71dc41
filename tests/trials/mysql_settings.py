"""Servers of the MySQL wire with other people's settings: every run is valid, or refused in one line.

    python -m tests.trials.mysql_settings [--engines mysql,tidb,oceanbase] [--only NAME]

One server for each engine; each setting is made server-wide, or the account's, and taken back. The load comes as a user
with rights on its own database alone, so that init_connect runs for it and nothing is hidden by a superuser's rights.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from loadgen.clusters.cluster import Cluster
from loadgen.engines import engine_of
from loadgen.engines.engine import Address, Control
from loadgen.errors import ClusterError
from tests.sale_runs import run_sale
from tests.trials.servers import server

USER, PASSWORD = "stranger", "stranger-Secret-1"
VALID, REFUSED = "valid", "refused"
OPTIONS = ("--shape", "constant", "--peak-rate", "60", "--duration", "2s", "-u", "4")
PROBES = ("append", "register", "bank", "longfork")


@dataclass(frozen=True)
class Trial:
    """Global variables by name, or any statements with those that undo them; and how a run has to end."""

    name: str
    variables: dict[str, str] = field(default_factory=dict)
    do: Sequence[str] = ()
    undo: Sequence[str] = ()
    ends: str = VALID
    options: Sequence[str] = ()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def of(ends: str = VALID, options: Sequence[str] = (), **variables: str | int) -> Trial:
    """A trial of global variables."""
    literals = {name: str(value) if isinstance(value, int) else _quoted(value) for name, value in variables.items()}
    name = ",".join(f"{name}={value}" for name, value in variables.items())
    return Trial(name[:90], literals, ends=ends, options=options)


def account(clause: str, ends: str = VALID) -> Trial:
    """A trial of a limit of the account."""
    none = clause.rsplit(" ", 1)[0] + " 0"
    return Trial(clause, do=(f"ALTER USER {USER} WITH {clause}",), undo=(f"ALTER USER {USER} WITH {none}",), ends=ends)


def connects_with(sql: str, ends: str = VALID) -> Trial:
    """A trial of what the server does in each session of its own accord."""
    return replace(of(init_connect=sql, ends=ends), name=f"init_connect: {sql}")


_OTHERS = ("ANSI_QUOTES", "PIPES_AS_CONCAT", "NO_BACKSLASH_ESCAPES", "NO_AUTO_VALUE_ON_ZERO", "ANSI", "TRADITIONAL", "")
EVERY = (
    of(sql_select_limit=50),
    of(sql_select_limit=1),
    of(sql_select_limit=0),
    *(of(sql_mode=mode) for mode in _OTHERS),
    of(autocommit=0),
    of(max_execution_time=1),
    of(wait_timeout=1, interactive_timeout=1),
    of(time_zone="+13:00"),
    of(group_concat_max_len=4),
    of(foreign_key_checks=0, unique_checks=0),
    of(sql_safe_updates=1),
)
"""For every engine of this wire."""
MYSQL = (
    *EVERY,
    of(completion_type=1),
    of(completion_type=2),
    of(transaction_read_only=1),
    of(transaction_isolation="READ-UNCOMMITTED"),
    of(transaction_isolation="SERIALIZABLE"),
    of(sql_auto_is_null=1),
    of(innodb_lock_wait_timeout=1, lock_wait_timeout=1),
    of(net_read_timeout=1, net_write_timeout=1),
    of(character_set_server="latin1", collation_server="latin1_swedish_ci"),
    of(character_set_client="latin1", character_set_results="latin1", character_set_connection="latin1"),
    of(collation_connection="utf8mb4_tr_0900_ai_ci"),
    of(character_set_server="utf16", collation_server="utf16_bin"),
    of(max_join_size=1, sql_big_selects=0),
    of(div_precision_increment=0),
    of(big_tables=1),
    of(default_storage_engine="MyISAM"),
    of(default_storage_engine="MEMORY"),
    of(default_storage_engine="BLACKHOLE"),
    of(binlog_format="STATEMENT", ends=REFUSED, options=("--isolation", "read committed")),
    of(binlog_format="STATEMENT"),
    of(binlog_format="MIXED", options=("--isolation", "read committed")),
    of(sql_require_primary_key=1),
    of(sql_generate_invisible_primary_key=1),
    of(read_only=1, ends=REFUSED),
    of(read_only=1, super_read_only=1, ends=REFUSED),
    of(offline_mode=1, ends=REFUSED),
    of(max_connections=3, ends=REFUSED),
    of(max_user_connections=3, ends=REFUSED),
    of(max_user_connections=30),
    of(max_allowed_packet=1024, ends=REFUSED),
    of(max_allowed_packet=524288),
    connects_with("SET use_secondary_engine = FORCED"),
    connects_with("SET SESSION max_execution_time = 1, innodb_lock_wait_timeout = 1, wait_timeout = 1"),
    connects_with("SET @@SESSION.unique_checks = 0, @@SESSION.foreign_key_checks = 0, @@SESSION.sql_safe_updates = 1"),
    of(low_priority_updates=1),
    of(auto_increment_increment=7),
    of(innodb_deadlock_detect=0),
    of(optimizer_switch="index_merge=off,mrr=off,index_condition_pushdown=off,use_invisible_indexes=on"),
    of(range_optimizer_max_mem_size=1),
    of(max_sort_length=4),
    of(sort_buffer_size=32768, join_buffer_size=128, read_buffer_size=8192),
    of(max_error_count=0),
    of(sql_buffer_result=1),
    of(max_prepared_stmt_count=0),
    of(require_secure_transport=1),
    of(session_track_gtids="OWN_GTID", session_track_transaction_info="CHARACTERISTICS", session_track_state_change=1),
    of(binlog_row_image="MINIMAL"),
    of(binlog_order_commits=0),
    of(default_table_encryption=0, innodb_default_row_format="redundant"),
    connects_with("BEGIN"),
    connects_with("SET autocommit = 0"),
    connects_with("SET sql_select_limit = 3"),
    connects_with("SET NAMES gbk"),
    connects_with("USE information_schema"),
    connects_with("SET SESSION TRANSACTION READ ONLY"),
    connects_with("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED"),
    connects_with("SET timestamp = 1"),
    connects_with("SET completion_type = 2"),
    connects_with("SET SESSION sql_mode = NO_BACKSLASH_ESCAPES"),
    connects_with("this is no SQL", ends=REFUSED),
    account("MAX_USER_CONNECTIONS 3", ends=REFUSED),
    account("MAX_USER_CONNECTIONS 40"),
    account("MAX_QUERIES_PER_HOUR 500", ends=REFUSED),
    account("MAX_UPDATES_PER_HOUR 500", ends=REFUSED),
    account("MAX_CONNECTIONS_PER_HOUR 500", ends=REFUSED),
    Trial(
        "no right to update",
        do=(f"REVOKE UPDATE ON loadgen.* FROM {USER}",),
        undo=(f"GRANT UPDATE ON loadgen.* TO {USER}",),
        ends=REFUSED,
    ),
    Trial(
        "an expired password",
        do=(f"ALTER USER {USER} PASSWORD EXPIRE",),
        undo=(f"ALTER USER {USER} IDENTIFIED BY '{PASSWORD}' PASSWORD EXPIRE DEFAULT",),
        ends=REFUSED,
    ),
)
TIDB = (
    *(trial for trial in EVERY if "sql_safe_updates" not in trial.name),
    of(tidb_txn_mode="optimistic"),
    of(tidb_disable_txn_auto_retry=0, tidb_retry_limit=10),
    of(tidb_replica_read="follower"),
    of(tidb_replica_read="closest-replicas"),
    of(tidb_constraint_check_in_place=1),
    of(tidb_constraint_check_in_place_pessimistic=0),
    of(tidb_read_staleness="-5"),
    of(tidb_low_resolution_tso=1),
    of(tidb_read_consistency="weak"),
    of(tidb_mem_quota_query=128),
    connects_with("SET tidb_isolation_read_engines = 'tidb'"),
    of(tidb_enable_noop_functions=1),
    of(tidb_enable_noop_functions=1, transaction_read_only=1),
    connects_with("SET tidb_batch_insert = 1, tidb_batch_commit = 1, tidb_dml_batch_size = 1"),
    connects_with("SET tidb_dml_type = bulk"),
    connects_with("SET tidb_read_staleness = -3"),
    connects_with("SET tidb_txn_mode = optimistic, tidb_constraint_check_in_place = 1"),
    of(tidb_idle_transaction_timeout=1),
    of(tidb_guarantee_linearizability=0),
    of(tidb_enable_async_commit=1, tidb_enable_1pc=1),
    of(tidb_rc_read_check_ts=1, options=("--isolation", "read committed")),
    connects_with("SET tidb_skip_isolation_level_check = 1, transaction_isolation = 'SERIALIZABLE'"),
    connects_with("SET tidb_enforce_mpp = 1"),
    of(tidb_enable_metadata_lock=0),
    of(tidb_super_read_only=1, tidb_restricted_read_only=1, ends=REFUSED),
    of(tidb_super_read_only=1, ends=REFUSED),
    of(tidb_enable_external_ts_read=1),
    of(tikv_client_read_timeout=1),
    of(innodb_lock_wait_timeout=1),
    connects_with("SET sql_select_limit = 3"),
    connects_with("SET autocommit = 0"),
    account("MAX_USER_CONNECTIONS 3"),  # which this version keeps in its catalogue, and does not enforce
)
OCEANBASE = (
    *EVERY,
    of(ob_query_timeout=1000),
    of(ob_trx_timeout=1000),
    of(ob_trx_idle_timeout=100_000),
    of(ob_trx_lock_timeout=1000),
    of(ob_read_consistency="WEAK"),
    of(recyclebin=1),
    of(tx_read_only=1),
    of(tx_isolation="SERIALIZABLE"),
    of(ob_max_read_stale_time=5_000_000),
    of(ob_enable_plan_cache=0),
    of(ob_enable_transformation=0),
    of(character_set_server="latin1"),
    of(collation_connection="utf8mb4_general_ci"),
    of(max_allowed_packet=1024, ends=REFUSED),
    of(completion_type=1),
    of(binlog_row_image="MINIMAL"),
    of(ob_enable_truncate_flashback=1),
    of(net_read_timeout=1, net_write_timeout=1),
)
TRIALS = {"mysql": MYSQL, "tidb": TIDB, "oceanbase": OCEANBASE}


@dataclass(frozen=True)
class Result:
    """``wrong``: what is not as it has to be; ``ended``: how the run did end."""

    ended: str
    wrong: str = ""


def play(trial: Trial, engine: str, workload: str, cluster: Cluster, place: Path) -> Result:
    """One run on a server with the trial's settings."""
    with closing(engine_of(engine).control(cluster.address, "trial")) as root:
        _make_user(root)
        try:
            with _set(trial, root):
                return _judged(trial, engine, workload, _of_user(cluster.address), place)
        except ClusterError as error:
            return Result("not tried", "" if _cannot_be_set(error) else f"the setting could not be made: {error}")


def dsn(address: Address) -> str:
    """The user's DSN, by the server's socket."""
    return f"mysql://{address.user}:{address.password}@/?socket={address.socket}"


def sample(count: int, seed: int) -> list[tuple[str, Trial, str]]:
    """``count`` trials in turn of each engine, each with a workload."""
    draw = random.Random(f"mysql settings {seed}")
    chosen = {engine: draw.sample(trials, len(trials)) for engine, trials in TRIALS.items()}
    weights = ("mysql", "mysql", "tidb", "oceanbase")
    engines = [weights[index % len(weights)] for index in range(count)]
    return [(engine, chosen[engine].pop(), draw.choice(("flashsale", *PROBES))) for engine in engines]


def _judged(trial: Trial, engine: str, workload: str, address: Address, place: Path) -> Result:
    environment = {"LOADGEN_DSN": dsn(address)}
    run = run_sale(place, "--engine", engine, *OPTIONS, *trial.options, environment=environment, workload=workload)
    told = [line for line in run.stderr.splitlines() if line.startswith("loadgen:")]
    line = told[-1] if told else ""
    if "Traceback" in run.told:
        return Result("traceback", run.told[-600:])
    if run.exit_code == 2 and len(told) == 1:
        return Result(f"refused: {line}", "" if trial.ends == REFUSED else f"refused, and need not be: {line}")
    verdict = run.summary.get("verdict", "")
    if run.exit_code == 0 and verdict == "valid":
        placed = (run.summary.get("orders") or run.summary["transactions"])["ok"]
        wrong = "" if placed else "nothing was acknowledged"
        return Result("valid", wrong if trial.ends == VALID else "valid, where it had to be refused")
    told_of = run.summary.get("unknown") or run.summary.get("warnings") or run.told[-600:]
    return Result(f"exit {run.exit_code} {verdict}", f"exit {run.exit_code} {verdict}: {told_of}")


def _make_user(root: Control) -> None:
    root.query("CREATE DATABASE IF NOT EXISTS loadgen")
    root.query(f"CREATE USER IF NOT EXISTS {USER} IDENTIFIED BY '{PASSWORD}'")
    root.query(f"GRANT ALL PRIVILEGES ON loadgen.* TO {USER}")


def _of_user(address: Address) -> Address:
    return replace(address, user=USER, password=PASSWORD)


@contextmanager
def _set(trial: Trial, root: Control) -> Iterator[None]:
    """The trial's settings, for the block."""
    before = {name: root.query(f"SELECT @@GLOBAL.{name}")[0][0] for name in trial.variables}
    try:
        for name, literal in trial.variables.items():
            root.query(f"SET GLOBAL {name} = {literal}")
        for sql in trial.do:
            root.query(sql)
        yield
    finally:
        for sql in trial.undo:
            root.query(sql)
        for name, value in reversed(before.items()):
            with suppress(ClusterError):
                literal = _quoted(value) if isinstance(value, str) else "''" if value is None else str(value)
                root.query(f"SET GLOBAL {name} = {literal}")


def _cannot_be_set(error: ClusterError) -> bool:
    """Whether this version has no such setting, or takes no such value."""
    cause = error.__cause__
    return bool(
        cause is not None and cause.args and cause.args[0] in (1115, 1193, 1231, 1229, 1238, 1235, 1064, 8047, 1286)
    )


def main() -> int:
    """Play all trials; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="mysql,tidb,oceanbase", help="which engines, with commas")
    parser.add_argument("--only", default="", help="play only the trials with this in their name")
    parser.add_argument("--workloads", default="", help="which workloads, with commas (the sale and one probe in turn)")
    options = parser.parse_args()
    wrong, played, refused = 0, 0, 0
    for engine in options.engines.split(","):
        with server(engine) as cluster:
            for number, trial in enumerate(trial for trial in TRIALS[engine] if options.only in trial.name):
                workloads = options.workloads.split(",") if options.workloads else ("flashsale", PROBES[number % 4])
                for workload in workloads:
                    with tempfile.TemporaryDirectory(prefix="trial-") as place:
                        result = play(trial, engine, workload, cluster, Path(place))
                    played += result.ended != "not tried"
                    refused += result.ended.startswith("refused")
                    wrong += bool(result.wrong)
                    told = f"WRONG: {result.wrong}" if result.wrong else result.ended
                    print(f"{engine:9} {workload:9} {trial.name}: {told}", flush=True)
    print(json.dumps({"name": "mysql_settings", "runs": played, "refused": refused, "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
