"""The options of a run on Locust's command line and web page, and the plan that they make.

Values stay strings until the plan parses them: Locust's page converts by the type of the current value and validates
nothing, so a number typed wrongly there would otherwise end in an HTTP error.
"""

import argparse
import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.databases import DATABASES, REPLICATING
from loadgen.environment import misspelt
from loadgen.errors import LoadgenError, PlanError
from loadgen.load.authentication import take_token
from loadgen.load.metrics_server import check_ports, metrics_place
from loadgen.load.output import complain
from loadgen.load.rate_file import names_a_file, read_rate_file
from loadgen.load.refusal import refuse
from loadgen.plan import (
    CLUSTERS,
    DEFAULTS,
    ENGINES,
    MAX_DURATION_S,
    READ_FROM,
    Plan,
    parse_duration,
    parse_plan,
)
from loadgen.workload import Workload
from loadgen.workload.facts import words_of
from loadgen.workload.loading import installed_workloads, load_workload

SESSIONS = DEFAULTS.sessions
MASTER_PORT = 5557
"""Locust's own, for a master whose workers are started separately."""
SPAWN_RATE = 100
"""Users a second: the most for which Locust does not warn. Sessions connect before the first arrival anyway."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One option: its plan name, its default as text, its help, and its choices for the page's drop-down."""

    name: str
    default: str
    help: str
    choices: tuple[str, ...] = ()
    on_page: bool = True


_WORDS = words_of(DEFAULTS.workload, {})
_REPLICATING = [f"1 to {most} for an embedded {name}" for name, most in REPLICATING.items()]
_DSNS = [database.example for database in DATABASES.values() if database.schemes]
OPTIONS = (
    Argument(
        "engine", "", f"the database: {', '.join(ENGINES)} (default: {DEFAULTS.engine}, or what --dsn says)", ENGINES
    ),
    Argument(
        "cluster",
        "",
        "where the database runs: embedded (a server from Python packages or a local program), container (one node in "
        "Docker), compose (a replicated cluster in Docker), or existing (the server that --dsn names). The first three "
        "are removed after the run (default: embedded, or existing with --dsn)",
        CLUSTERS,
    ),
    Argument(
        "nodes",
        "1",
        f"number of nodes: {', '.join(_REPLICATING)}, where the others are synchronous standbys of the first; a "
        "compose cluster has as many as its file says",
    ),
    Argument(
        "dsn",
        "",
        f"an existing server, {' or '.join(_DSNS)}. loadgen uses only the schema or database 'loadgen' there, and "
        "drops its tables at every start. Give the password by LOADGEN_DSN, PGPASSWORD or ~/.pgpass, not on the "
        "command line",
        on_page=False,
    ),
    Argument("isolation", "", "isolation level, such as 'read committed' (default: that of the engine)"),
    Argument(
        "read_from",
        DEFAULTS.read_from,
        "where ops with a single read go: primary, or replica (a second connection to a read-only member of the "
        "cluster, which may lag behind). With replica, the report counts stale reads with their age, and reads older "
        "than what the session itself has written or seen",
        READ_FROM,
    ),
    Argument(
        "shape",
        DEFAULTS.shape,
        "arrival rate over time: double11 (preheat, step to the peak, plateau, decay; double11:compress=60 plays 60 s "
        "of the sale in each second), constant, ramp (0 to the peak), spike:at=30s,for=5s,base=0.1 (the peak rate for "
        "5 s, 0.1 of it otherwise), steps:100,200,400@30s (arrivals per second, 30 s each), csv:FILE (lines of "
        "second,rate from production; command line only), a shape of the workload, or closed (no arrival rate: each "
        "session starts its next op when it has its answer)",
    ),
    Argument(
        "peak_rate",
        "",
        f"ops of the main kind ({_WORDS.noun}s) due per second at the peak of the shape; steps and csv have their own "
        f"(default: {DEFAULTS.peak_rate:g})",
    ),
    Argument(
        "duration",
        "",
        f"how long ops are due, such as 90s or 5m (default: {DEFAULTS.duration_s:g}s, what the shape says, or -t)",
    ),
    Argument(
        "late_limit", f"{DEFAULTS.late_limit_s:g}s", "an arrival is skipped if no session is free within this time"
    ),
    Argument(
        "think_time",
        "",
        "with --shape closed: how long a session waits after its answer before it asks with a new number, such as 2s, "
        "or 1s-3s, drawn evenly. What follows an answer keeps its own delay",
    ),
    Argument(
        "warm_up",
        "",
        "how long the run warms up, such as 10s. The figures list this phase separately from the rest, "
        "'steady', and an objective can name either",
    ),
    Argument(
        "slo",
        "",
        f"objectives, such as '{_WORDS.arrivals[0]}.p99<=200ms,{_WORDS.good}_per_second>=500'; if one is missed, the "
        "exit code is 3",
    ),
    Argument("seed", str(DEFAULTS.seed), "seed of the arrivals and of what the ops ask for"),
    Argument(
        "run_dir",
        "",
        "new or empty directory for this run (default: runs/<utc>-<engine>-<workload>)",
        on_page=False,
    ),
    Argument(
        "web_allowed_host",
        "",
        "more host names for Locust's page, for a proxy or a forwarded port: HOST or HOST:PORT, comma-separated. The "
        "page always answers for 127.0.0.1, localhost and --web-host",
        on_page=False,
    ),
    Argument(
        "metrics_port",
        "",
        "serve metrics for Prometheus at http://127.0.0.1:PORT/metrics; 0 takes a free port and prints it. "
        "With --processes, the master uses this port, and the workers use the next ones (default: off)",
        on_page=False,
    ),
    Argument(
        "metrics_host",
        "127.0.0.1",
        "the address on which metrics are served. There is no login",
        on_page=False,
    ),
)
FLAGS = {
    "keep": "keep the data of an embedded server after the run (always kept after a violation)",
    "allow_unknown_engine": "run on an untried fork of the engine, and say so beside every figure",
}
"""Options without a value."""
OPTION_NAMES = (*(option.name for option in OPTIONS), *FLAGS)
"""The options of any run. Each workload has its own beside them."""
_AFTER = "read_from"
"""The workload's own options are shown after this one."""


class _Offered(list[str]):
    """Choices for the page's drop-down that argparse does not enforce: the plan does, in one line of error."""

    def __contains__(self, value: object) -> bool:
        return True


def arguments(workloads: Sequence[Workload]) -> list[Argument]:
    """The options of any run and those of ``workloads``, each name once."""
    own: dict[str, Argument] = {}
    for option in (option for workload in workloads for option in workload.options):
        shown = str(option.default) if option.shown is None else option.shown
        choices = ("true", "false") if isinstance(option.default, bool) else option.choices
        own.setdefault(option.name, Argument(option.name, shown, option.help, choices, option.on_page))
    names = [option.name for option in OPTIONS]
    if taken := set(own) & {*OPTION_NAMES}:
        raise PlanError(f"a workload's option has the name of an option of every run: {', '.join(sorted(taken))}")
    place = names.index(_AFTER) + 1
    return [*OPTIONS[:place], *own.values(), *OPTIONS[place:]]


def add_options(parser: Any, workloads: Sequence[Workload] = ()) -> None:
    """Add the options to Locust's parser, those of ``workloads`` too, and the defaults that a database wants.

    On the parser itself, not in a group: Locust's page shows only those.
    """
    try:
        _add_arguments(parser, arguments(workloads))
    except (argparse.ArgumentError, PlanError) as error:
        refuse(f"the workload's options: {error}")
    for name, help_text in FLAGS.items():
        parser.add_argument(
            "--" + name.replace("_", "-"),
            action="store_true",
            env_var="LOADGEN_" + name.upper(),
            default=False,
            help=help_text,
            include_in_web_ui=name == "keep",
        )
    parser.set_defaults(
        num_users=SESSIONS,
        spawn_rate=SPAWN_RATE,
        only_summary=True,
        web_host="127.0.0.1",
        master_bind_host="127.0.0.1",
        master_bind_port=0,  # whether somebody named one
    )
    # Without it "--duration -5s" would be two options to argparse, and its complaint would not say what is wrong.
    parser._negative_number_matcher = re.compile(r"-\.?\d")
    _check_while_parsing(parser, workloads)


def _add_arguments(parser: Any, added: Iterable[Argument]) -> None:
    for option in added:
        action = parser.add_argument(
            "--" + option.name.replace("_", "-"),
            env_var="LOADGEN_" + option.name.upper(),
            default=option.default,
            metavar=option.name.upper(),
            help=option.help,
            include_in_web_ui=option.on_page,
        )
        if option.choices:
            action.choices = _Offered(option.choices)


def add_options_arguments(parser: argparse.ArgumentParser) -> None:
    """Fill the parser of ``loadgen options``."""
    parser.description = "Print the options of a run. Locust's own --help does not show them."
    parser.add_argument(
        "workload", nargs="?", default=DEFAULTS.workload, help="an installed workload, or a file (default: %(default)s)"
    )
    parser.set_defaults(command=show_options)


def show_options(options: argparse.Namespace) -> int:
    """``loadgen options``: 0. Raises PlanError where there is no such workload."""
    file = installed_workloads().get(options.workload, Path(options.workload))
    shown = argparse.ArgumentParser(
        usage=f"locust -f {file.parent.name}/{file.name} [options], in addition to Locust's own (locust --help)",
        epilog="Each option can also be given as an environment variable, such as LOADGEN_PEAK_RATE for --peak-rate.",
        add_help=False,
    )
    for option in arguments((load_workload(file),)):
        default = f" (default: {option.default})" if option.default else ""
        name = option.name.replace("_", "-")
        shown.add_argument(f"--{name}", metavar=option.name.upper(), help=option.help.replace("%", "%%") + default)
    for name, help_text in FLAGS.items():
        shown.add_argument("--" + name.replace("_", "-"), action="store_true", help=help_text)
    shown.print_help()
    return 0


def option_names(workload: Workload | None) -> tuple[str, ...]:
    """The names of the options of a run of ``workload``; None: those of any run."""
    return OPTION_NAMES if workload is None else (*OPTION_NAMES, *(option.name for option in workload.options))


def plan_of(
    options: Mapping[str, Any], kind_weights: Iterable[tuple[str, int]], workload: Workload | None
) -> tuple[Plan, float]:
    """The plan of ``options``, and after how many seconds ``-t`` cuts it (infinity: never).

    ``-t`` alone is the duration; beside ``--duration`` it cuts the run. Without a ``workload`` only the options of any
    run are parsed. Files of rates are in ``options["shape_files"]``: the page cannot have one read.
    """
    values = {name: options.get(name) for name in option_names(workload)}
    values |= {"sessions": options.get("num_users")}
    run_time = options.get("run_time")
    cut_s = float("inf")
    if run_time not in (None, ""):
        cut_s = parse_duration(run_time, "run-time", MAX_DURATION_S)
        if not values["duration"]:
            values["duration"], cut_s = str(run_time), float("inf")
    files = options.get("shape_files") or {}
    plan = parse_plan(values, own_shapes=files) if workload is None else workload.parse(values, files)
    return plan.with_(kind_weights=tuple(kind_weights)), cut_s


def _check_while_parsing(parser: Any, workloads: Sequence[Workload]) -> None:
    """Refuse a bad plan while Locust parses, before it forks workers or starts a server.

    Locust has no event between parsing and forking, so the parser's own method is the place.
    """
    parse_args: Callable[..., argparse.Namespace] = parser.parse_args

    def parse_and_check(args: Any = None, namespace: Any = None, **kwargs: Any) -> argparse.Namespace:
        options = parse_args(args, namespace, **kwargs)
        if args is None:
            _name_misspelt(workloads)
            try:
                if not options.worker:
                    named = str(options.shape).strip()
                    options.shape_files = {named: read_rate_file(named)} if names_a_file(named) else {}
                    plan, _ = plan_of(vars(options), (), workloads[0] if len(workloads) == 1 else None)
                    # What the page's drop-downs show at first.
                    options.engine, options.cluster = plan.engine, plan.cluster
                    _choose_master_port(options)
                if (place := metrics_place(vars(options))) is not None:
                    check_ports(*place, int(options.processes or 0))
                take_token(options)
            except LoadgenError as error:
                refuse(str(error))
        return options

    parser.parse_args = parse_and_check


def _name_misspelt(workloads: Sequence[Workload]) -> None:
    """Name the variables that look like ours and are not; one that was to name a server is refused."""
    for line in misspelt(os.environ, [*FLAGS, *(option.name for option in arguments(workloads))]):
        if "LOADGEN_DSN" in line:
            refuse(line)
        complain(line)


def _choose_master_port(options: argparse.Namespace) -> None:
    """Where master and workers meet: with --processes on a free port, so that two runs can live on one machine."""
    if not options.processes:
        options.master_bind_port = options.master_bind_port or MASTER_PORT
        return
    host = "127.0.0.1" if options.master_bind_host in ("*", "0.0.0.0") else options.master_bind_host
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), options.master_bind_port))
        except OSError as error:
            raise PlanError(
                f"--master-bind-host {host} --master-bind-port {options.master_bind_port}: {error.strerror}"
            ) from error
        options.master_bind_port = probe.getsockname()[1]
    # Where the forked workers look for it: Locust would send them to its own default, and wait for them forever.
    options.master_host, options.master_port = host, options.master_bind_port
