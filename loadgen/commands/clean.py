"""``loadgen clean``: remove from a server what runs left there, which is our marked schema and nothing else."""

import os
import re
import time
from argparse import ArgumentParser, Namespace
from contextlib import closing, suppress

from loadgen.clusters.install import Say, tell
from loadgen.databases import WIRES
from loadgen.dsn import given_dsn
from loadgen.engines import engine_of
from loadgen.engines.address import hosts_of, parse_dsn
from loadgen.engines.engine import LOCK_TABLE, META_TABLE, SCHEMA, Address, Control
from loadgen.errors import ClusterError, PlanError
from loadgen.plan import ENGINES, engine_for_dsn

_TABLES = f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{SCHEMA}'"
_ROUTINES = f"SELECT routine_name FROM information_schema.routines WHERE routine_schema = '{SCHEMA}'"


def add_clean_arguments(parser: ArgumentParser) -> None:
    """Fill the parser of ``loadgen clean``."""
    parser.description = (
        f"Remove the schema or database {SCHEMA!r} that runs left on a server. It is not changed if loadgen did not "
        "create it, if it holds anything else, or if a run is using it."
    )
    parser.add_argument(
        "dsn",
        nargs="?",
        default="",
        metavar="DSN",
        help="the server (default: LOADGEN_DSN, which keeps passwords off the command line)",
    )
    parser.add_argument("--dsn", dest="named", default="", metavar="DSN", help="the server, as an option")
    parser.add_argument("--engine", choices=ENGINES, help="its engine (default: that of the DSN's scheme)")
    parser.set_defaults(command=run_clean)


def run_clean(options: Namespace) -> int:
    """``loadgen clean``: 0, also where there was nothing. Raises PlanError and ClusterError."""
    dsn = given_dsn(options.named or options.dsn, os.environ)
    if not dsn:
        raise PlanError("clean needs a server: set LOADGEN_DSN, or give a DSN as the argument")
    address = parse_dsn(dsn, os.environ)
    clean(address, engine_for_dsn(dsn, options.engine or os.environ.get("LOADGEN_ENGINE", "")), say=tell)
    return 0


def clean(address: Address, engine: str, *, say: Say) -> None:
    """Remove what runs left at ``address``. Raises ClusterError with what hinders, or if a run is using it."""
    dialect = engine_of(engine)
    quote, kind = WIRES[dialect.wire].quote, WIRES[dialect.wire].schema_is
    with closing(dialect.control(address, f"clean-{time.time_ns()}")) as control:
        place = ", ".join(address.socket or f"{host}:{port}" for host, port in hosts_of(address))
        where = f"{dialect.title} at {place}"
        if META_TABLE not in _names(control, _TABLES):
            say(f"nothing of loadgen's is in {where}" + (f", database {address.database}" if kind == "schema" else ""))
            return
        # It refuses where a run is alive, and where there are tables or views that none of ours made.
        control.lock()
        try:
            if kind == "database" and (routines := _names(control, _ROUTINES)):
                raise ClusterError(f"{where}: database {SCHEMA} holds routines that no run created ({routines[0]})")
            tables = _names(control, _TABLES)
        except BaseException:
            with suppress(ClusterError):
                control.unlock()
            raise
        # The mark goes last: whatever ends this halfway, the next one knows what is left as ours.
        for name in sorted(tables, key=lambda name: (name == META_TABLE, name == LOCK_TABLE, name)):
            control.query(f"DROP TABLE {SCHEMA}.{quote}{name}{quote}")
        say(f"removed from {where}: {', '.join(sorted(tables))}")
        try:
            control.query(f"DROP SCHEMA {SCHEMA}")
            say(f"removed from {where}: the {kind} {SCHEMA}")
        except ClusterError as error:
            say(f"the empty {SCHEMA} stays: {error}")


def _names(control: Control, sql: str) -> list[str]:
    # Whoever made a name that needs quotes inside quotes, it was no run.
    return [str(row[0]) for row in control.query(sql) if re.fullmatch(r"[^\"`]+", str(row[0]))]
