"""PostgreSQL as people have it: odd settings of a role, a database or a server, and odd things in it, under a run.

    python -m tests.trials.postgres_settings [--only NAME]

Each one is tried with the sale and with ``append`` at serializable: such a run is ``valid``, or refused in one line.
It is judged wrongly if it is ``invalid``, or ``unknown``, or if it is refused though it was to be valid.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from loadgen.clusters.cluster import Cluster
from loadgen.engines.engine import Address
from loadgen.engines.postgres import ENGINE
from tests.sale_runs import ROOT, dsn_of
from tests.trials.servers import server

NAME = "odd"
"""The role, and the database, that the settings are of. The role is no superuser."""
PASSWORD = "odd"
WITHIN_S = 60.0
SHORT = ("--shape", "constant", "--peak-rate", "60", "--duration", "1s", "-u", "4")


_AS_NEW = (
    f"ALTER ROLE {NAME} RESET ALL",
    f"ALTER ROLE {NAME} CONNECTION LIMIT -1",
    f"ALTER DATABASE {NAME} RESET ALL",
    f"ALTER DATABASE {NAME} CONNECTION LIMIT -1",
    f"ALTER DATABASE {NAME} OWNER TO {NAME}",
    "DROP SCHEMA IF EXISTS loadgen CASCADE",
    "DROP SCHEMA IF EXISTS public CASCADE",
    "CREATE SCHEMA public",
    "GRANT USAGE ON SCHEMA public TO PUBLIC",
    f"REVOKE ALL ON DATABASE {NAME} FROM odd_owner",
    f"ALTER DEFAULT PRIVILEGES FOR ROLE {NAME} GRANT ALL ON TABLES TO {NAME}",
)


@dataclass(frozen=True)
class Odd:
    """One oddity: how it comes, how it goes, and what the refusal says, if there must be one."""

    name: str
    come: tuple[str, ...]
    go: tuple[str, ...] = ()
    refused: str = ""


def _role(setting: str, value: str, refused: str = "") -> Odd:
    return Odd(f"role: {setting} = {value}", (f"ALTER ROLE {NAME} SET {setting} = {value}",), refused=refused)


def _database(setting: str, value: str) -> Odd:
    return Odd(f"database: {setting} = {value}", (f"ALTER DATABASE {NAME} SET {setting} = {value}",))


def _server(setting: str, value: str) -> Odd:
    reload = "SELECT pg_reload_conf()"
    come = (f"ALTER SYSTEM SET {setting} = {value}", reload, "SELECT pg_sleep(0.1)")
    return Odd(f"server: {setting} = {value}", come, (f"ALTER SYSTEM RESET {setting}", reload))


def _event_trigger(what: str, body: str, refused: str, when: str = "ddl_command_end") -> Odd:
    function = f"CREATE FUNCTION public.odd() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$"
    create = f"CREATE EVENT TRIGGER odd ON {when} WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.odd()"
    return Odd(f"event trigger: {what}", (function, create), ("DROP EVENT TRIGGER odd",), refused)


_ON_EACH = (
    "IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity = 'loadgen.{0}') THEN {1} END IF;"
)
_AUDIT = (
    "CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
    "GRANT CREATE ON SCHEMA public TO PUBLIC",
)


def _on_table(what: str, sql: str, refused: str) -> Odd:
    """Something that comes with each table of ours, of either workload."""
    tables = ("releases", "append_0")
    odd = _event_trigger(what, " ".join(_ON_EACH.format(name, sql.format(name)) for name in tables), refused)
    return replace(odd, come=(*_AUDIT, *odd.come))


ODDITIES: Sequence[Odd] = (
    _role("default_transaction_read_only", "on"),
    _role("default_transaction_isolation", "'read uncommitted'"),
    _role("default_transaction_isolation", "'serializable'"),
    _role("default_transaction_deferrable", "on"),
    _role("statement_timeout", "'1ms'"),
    _role("lock_timeout", "'1ms'"),
    _role("idle_session_timeout", "'300ms'"),
    _role("idle_in_transaction_session_timeout", "'1ms'"),
    _role("transaction_timeout", "'100ms'"),
    _role("search_path", "public"),
    _role("search_path", "''"),
    _role("search_path", "pg_temp, pg_catalog, loadgen"),
    _role("row_security", "off"),
    _role("session_replication_role", "replica", "session_replication_role"),
    _role("synchronous_commit", "off"),
    _role("DateStyle", "'SQL, DMY'"),
    _role("IntervalStyle", "iso_8601"),
    _role("TimeZone", "'Pacific/Apia'"),
    _role("bytea_output", "escape"),
    _role("extra_float_digits", "-15"),
    _role("standard_conforming_strings", "off"),
    _role("client_encoding", "LATIN1"),
    _role("client_min_messages", "error"),
    _role("client_min_messages", "debug5"),
    _role("transform_null_equals", "on"),
    _role("array_nulls", "off"),
    _role("exit_on_error", "on"),
    _role("gin_fuzzy_search_limit", "1"),
    _role("plan_cache_mode", "force_generic_plan"),
    _role("plan_cache_mode", "force_custom_plan"),
    _role("jit_above_cost", "0"),
    _role("work_mem", "'64kB'"),
    _role("temp_file_limit", "0"),
    _role("enable_indexscan", "off"),
    _role("debug_parallel_query", "on"),
    _role("default_statistics_target", "1"),
    _role("log_statement", "'all'"),
    _role("log_min_messages", "debug5"),
    _role("track_activities", "off"),
    _role("application_name", "'loadgen-load'"),
    Odd("role: role", (f"GRANT CREATE ON DATABASE {NAME} TO odd_owner", f"ALTER ROLE {NAME} SET role = odd_owner")),
    _database("default_transaction_read_only", "on"),
    _database("default_transaction_isolation", "'repeatable read'"),
    _database("statement_timeout", "'1ms'"),
    _database("search_path", "public"),
    _database("TimeZone", "'Asia/Kathmandu'"),
    _server("default_transaction_read_only", "on"),
    _server("default_transaction_isolation", "'serializable'"),
    _server("statement_timeout", "'1ms'"),
    _server("idle_session_timeout", "'300ms'"),
    _server("transaction_timeout", "'100ms'"),
    _server("deadlock_timeout", "'10ms'"),
    _server("track_activities", "off"),
    _server("track_counts", "off"),
    _server("autovacuum_naptime", "'1s'"),
    _server("log_min_duration_statement", "0"),
    Odd("role: connection limit", (f"ALTER ROLE {NAME} CONNECTION LIMIT 4",), (), "connections free"),
    Odd("database: connection limit", (f"ALTER DATABASE {NAME} CONNECTION LIMIT 4",), (), "connections free"),
    Odd("no right to make a schema", (f"ALTER DATABASE {NAME} OWNER TO postgres",), (), "GRANT CREATE ON DATABASE"),
    Odd(
        "our schema is another's", ("CREATE SCHEMA loadgen", "CREATE TABLE loadgen.payroll ()"), (), "no right|payroll"
    ),
    Odd(
        "another table access method",
        (
            "CREATE ACCESS METHOD odd_heap TYPE TABLE HANDLER heap_tableam_handler",
            f"ALTER ROLE {NAME} SET default_table_access_method = odd_heap",
        ),
        ("DROP ACCESS METHOD odd_heap CASCADE",),
    ),
    Odd(
        "table of orders in public", ("CREATE TABLE public.orders (id text)", "CREATE TABLE public.append_0 (id text)")
    ),
    Odd(
        "privileges revoked by default", (f"ALTER DEFAULT PRIVILEGES FOR ROLE {NAME} REVOKE ALL ON TABLES FROM {NAME}",)
    ),
    _event_trigger("no tables", "RAISE EXCEPTION 'no tables today';", "no tables today", "ddl_command_start"),
    _event_trigger("only a notice", "RAISE NOTICE 'a table';", ""),
    _on_table(
        "a trigger on each table",
        "CREATE TRIGGER audit BEFORE INSERT ON loadgen.{0} FOR EACH ROW EXECUTE FUNCTION public.audit();",
        "the trigger audit",
    ),
    _on_table("row-level security", "ALTER TABLE loadgen.{0} ENABLE ROW LEVEL SECURITY;", "row-level security"),
    _on_table("a rule", "CREATE RULE odd AS ON DELETE TO loadgen.{0} DO INSTEAD NOTHING;", "a rule"),
    _on_table("tables that are not logged", "ALTER TABLE loadgen.{0} SET UNLOGGED;", "not the plain table"),
)


@contextmanager
def under(odd: Odd, cluster: Cluster) -> Iterator[Address]:
    """The address of the role and database, with ``odd`` in force, and gone afterwards."""
    address = replace(cluster.address, user=NAME, password=PASSWORD, database=NAME)
    with closing(ENGINE.control(cluster.address, "odd")) as control:
        if not control.query(f"SELECT FROM pg_database WHERE datname = '{NAME}'"):
            control.query("CREATE ROLE odd_owner")
            control.query(f"CREATE ROLE {NAME} LOGIN PASSWORD '{PASSWORD}' IN ROLE odd_owner")
            control.query(f"CREATE DATABASE {NAME}")
        with closing(ENGINE.control(replace(cluster.address, database=NAME), "odd")) as inside:
            for sql in (*_AS_NEW, *odd.come):
                inside.query(sql)
            try:
                yield address
            finally:
                for sql in odd.go:
                    inside.query(sql)


def play(odd: Odd, workload: str, cluster: Cluster, directory: Path) -> tuple[int, str]:
    """Run ``workload`` under ``odd``: its exit code, and what was wrong with that, or nothing."""
    with under(odd, cluster) as address:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("LOADGEN_", "PG"))}
        file = ROOT / "workloads" / f"{workload}.py"
        options = (*SHORT, *(("--isolation", "serializable") if workload == "append" else ()))
        run = subprocess.run(
            [sys.executable, "-m", "locust", "-f", str(file), "--headless", *options],
            cwd=directory,
            env={**environment, "LOADGEN_DSN": dsn_of(address, "postgres")},
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
    told = run.stdout + run.stderr
    if run.returncode == 2:
        lines = [line for line in run.stderr.splitlines() if line.startswith("loadgen:")]
        fits = odd.refused and any(part in lines[0] for part in odd.refused.split("|")) if len(lines) == 1 else False
        return 2, "" if fits else told
    return run.returncode, "" if run.returncode == 0 and not odd.refused else told


def main() -> int:
    """Try all of them, or those that ``--only`` names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of the names of those to try")
    chosen = [odd for odd in ODDITIES if parser.parse_args().only in odd.name]
    wrong: list[str] = []
    with server("postgres") as cluster:
        for odd in chosen:
            for workload in ("flashsale", "append"):
                with tempfile.TemporaryDirectory() as directory:
                    code, problem = play(odd, workload, cluster, Path(directory))
                print(f"{odd.name:60} {workload:10} exit {code} {'WRONG' if problem else 'ok'}", flush=True)
                if problem:
                    wrong.append(f"{odd.name}, {workload}")
                    print(problem, flush=True)
    print(json.dumps({"name": "postgres_settings", "runs": 2 * len(chosen), "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
