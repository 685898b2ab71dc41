"""Locust's events, its page and its signals, wired to a Hosting (standalone, master) or a Worker."""

import atexit
import contextlib
import ctypes
import os
import signal
from typing import Any, NoReturn

import gevent
import psutil
from locust import events
from locust.runners import MasterRunner, WorkerRunner

from loadgen.errors import LoadgenError, PlanError
from loadgen.load.authentication import authenticate
from loadgen.load.exit_code import leave_with_ours
from loadgen.load.exposition import Source
from loadgen.load.load_workers import lost_early
from loadgen.load.locust_host import LocustHost
from loadgen.load.locust_worker import LocustWorker
from loadgen.load.locustfile import session_class
from loadgen.load.metrics import LoadMetrics, RunMetrics
from loadgen.load.metrics_server import metrics_place, serve, worker_ports
from loadgen.load.options import add_options
from loadgen.load.output import OUT, complain
from loadgen.load.page import guard
from loadgen.load.refusal import refuse
from loadgen.load.user import loaded_workloads

_PR_SET_PDEATHSIG = 1
LIKE_TERMINATE = (signal.SIGHUP, signal.SIGQUIT)
"""Signals that end a run as SIGTERM does: a terminal that is closed, and its other key."""
TOLD_TO_END = "its process was told to end"
WATCH_S = 0.3
"""How often forked workers are looked for until the load begins."""


def wire() -> None:
    """Listen to Locust's events. Nothing is started here: ``--processes`` forks after the locustfile is loaded."""
    authenticate()
    # Registered before Locust's own, so called after them: a hook that leaves by sys.exit does not hide our exit code.
    atexit.register(leave_with_ours)
    events.init_command_line_parser.add_listener(_on_parser)  # type: ignore[no-untyped-call]
    events.init.add_listener(_on_init)  # type: ignore[no-untyped-call]


def _on_parser(parser: Any, **_: Any) -> None:
    add_options(parser, loaded_workloads())


def _on_init(environment: Any, runner: Any, web_ui: Any, **_: Any) -> None:
    options = environment.parsed_options
    try:
        environment.user_classes = [session_class(environment)]
    except LoadgenError as error:
        if options.worker and options.processes:
            raise SystemExit(2) from error  # The master, of which this is a copy, says why.
        _refuse_with_workers(str(error))
    if options.equal_weights:
        environment.assign_equal_weights()  # Locust does it, too, but after a run has been prepared.
    if isinstance(runner, WorkerRunner):
        _wire_worker(environment)
    else:
        _wire_hosting(environment, web_ui)


def _wire_hosting(environment: Any, web_ui: Any) -> None:
    locust_host = LocustHost(environment, web_ui)
    environment.locust_host = locust_host
    options = environment.parsed_options
    _serve_metrics(environment, locust_host)
    options.run_time, run_time = None, options.run_time  # The run keeps its time itself, from the first arrival.
    listen = environment.events
    listen.test_start.add_listener(lambda **_: locust_host.on_test_start())
    listen.spawning_complete.add_listener(lambda user_count, **_: locust_host.on_spawning_complete(user_count))
    listen.test_stopping.add_listener(lambda **_: locust_host.on_test_stopping())
    listen.quitting.add_listener(lambda **_: locust_host.on_quitting())
    listen.quit.add_listener(lambda **_: locust_host.on_quit())
    # The first listener is the last to be called: whoever else sets an exit code does not hide ours.
    listen.quitting._handlers.insert(0, lambda **_: locust_host.keep_exit_code())
    if options.json:
        OUT.use("stderr")  # Standard output is Locust's JSON and nothing else.
    _hear_interrupts()
    _limit_edits(locust_host, environment.runner)
    if web_ui is not None:
        try:
            guard(locust_host, web_ui, environment)
        except LoadgenError as error:
            _refuse_with_workers(str(error))
    if options.headless or options.autostart:
        _prepare_or_leave(locust_host, {"run_time": run_time})


def _serve_metrics(environment: Any, head: LocustHost | None) -> None:
    """Serve this process's metrics if asked to. Other than in a race, an obstacle was refused before."""
    environment.load_metrics = None
    options = environment.parsed_options
    try:
        place = metrics_place(vars(options))
        if place is None:
            return
        (known,) = environment.user_classes
        host, first = place
        ports = worker_ports(first, options.processes) if head is None and options.processes else (first,)
        sources: list[Source] = [] if head is None else [RunMetrics(lambda: head.controller)]
        if not isinstance(environment.runner, MasterRunner):
            environment.load_metrics = LoadMetrics(known.workload.words, tells_info=head is None)
            sources.append(environment.load_metrics)
        environment.metrics_server = serve(host, ports, sources, _who(environment, head))
    except PlanError as error:
        if head is None:
            refuse(str(error))
        _refuse_with_workers(str(error))


def _who(environment: Any, head: LocustHost | None) -> str:
    if head is None:
        return f"load process {os.getpid()}"
    return "the run" if isinstance(environment.runner, MasterRunner) else "the run and its load process"


def _limit_edits(locust_host: LocustHost, runner: Any) -> None:
    """Keep the server's limits where a key in the terminal asks for more sessions, as on the page."""
    locust_starts = runner.start

    def start(user_count: int, *rest: Any, **named: Any) -> None:
        if locust_host.busy and user_count > runner.target_user_count:
            try:
                locust_host.check_sessions(user_count)
            except LoadgenError as error:
                complain(str(error))
                return
        locust_starts(user_count, *rest, **named)

    runner.start = start


def _prepare_or_leave(locust_host: LocustHost, changes: dict[str, Any]) -> None:
    """Prepare the run that the command line asks for; what hinders it is one line, exit code 2."""
    try:
        locust_host.prepare(changes)
    except LoadgenError as error:
        _refuse_with_workers(str(error))
    except KeyboardInterrupt:
        _kill_forked_workers()
        refuse("interrupted while the run was prepared: nothing was run", 128 + signal.SIGINT)
    if locust_host.forked_workers:
        gevent.spawn(_watch_forked_workers, locust_host)


def _refuse_with_workers(message: str) -> NoReturn:
    _kill_forked_workers()
    refuse(message)


def _watch_forked_workers(locust_host: LocustHost) -> None:
    """Give up if one of them ends before the load has begun. Locust would wait for it, or continue without it."""
    while locust_host.awaits_begin:
        if len(_forked_workers()) < locust_host.forked_workers:
            locust_host.give_up(
                lost_early(locust_host.forked_workers - len(_forked_workers()), locust_host.forked_workers)
            )
            _kill_forked_workers()
            hub = gevent.get_hub()
            hub.loop.run_callback(hub.parent.throw, SystemExit(2))  # Locust's main greenlet may wait for workers.
            return
        gevent.sleep(WATCH_S)


def _forked_workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if _is_forked_worker(child)]


def _kill_forked_workers() -> None:
    """They are already running, and would keep trying to reach a master that is gone."""
    for child in _forked_workers():
        with contextlib.suppress(psutil.Error):
            child.kill()


def _is_forked_worker(child: Any) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(child.cmdline() == psutil.Process().cmdline())
    return False


def _wire_worker(environment: Any) -> None:
    options = environment.parsed_options
    # Each worker would print Locust's JSON, and write it to the one file, with its own part of the figures.
    options.json, options.json_file = False, None
    _serve_metrics(environment, None)
    worker = LocustWorker(environment, str(options.dsn or ""))
    environment.parsed_options.dsn = ""
    listen = environment.events
    # Where the master has ended the run before, there is nothing left to finish.
    listen.test_stopping.add_listener(lambda **_: worker.finish(reason=TOLD_TO_END))
    listen.quitting.add_listener(lambda **_: worker.finish(reason=TOLD_TO_END))
    if environment.parsed_options.processes:
        # A forked worker goes with its master: without it nobody records what it does.
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

        def on_signal() -> None:
            # What a terminal sends reaches the whole group. The master ends the run, and then this worker.
            if not worker.busy:
                os.kill(os.getpid(), signal.SIGTERM)

        for number in (signal.SIGINT, *LIKE_TERMINATE):
            gevent.signal_handler(number, on_signal)
    else:
        _take_as_terminate()


def _hear_interrupts() -> None:
    """Let SIGINT interrupt only Locust's main greenlet, also in a background job, where shells ignore SIGINT.

    A closed terminal ends the run as SIGTERM does, and the run is judged.

    Python raises KeyboardInterrupt in the code that runs at that time. If that is a greenlet of loadgen that has taken
    finished ops and not yet written them, these ops are lost, and their effects would look like effects that no op
    asked for.
    """

    hub = gevent.get_hub()
    # The hub's parent is the main greenlet. It waits when a callback runs, so it is interrupted where it waits.
    gevent.signal_handler(signal.SIGINT, lambda: hub.loop.run_callback(hub.parent.throw, KeyboardInterrupt))
    _take_as_terminate()


def _take_as_terminate() -> None:
    for number in LIKE_TERMINATE:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            gevent.signal_handler(number, os.kill, os.getpid(), signal.SIGTERM)
