"""loadgen inside the standalone or master process of Locust: it prepares runs, begins them, and has them judged.

Locust starts and stops the users. A run is prepared before that, begun when every session is connected, and ended
when its schedule is over, or earlier by a signal, a click on Stop, or a history that cannot be written.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

import gevent
from locust.html import get_html_report, process_html_filename
from locust.runners import MasterRunner
from locust.stats import CSV_STATS_INTERVAL_SEC

from loadgen.clock import now_ns
from loadgen.errors import LoadgenError
from loadgen.load.authentication import is_loopback
from loadgen.load.entries import show_ending
from loadgen.load.exit_code import ours, set_ours
from loadgen.load.load_workers import LoadWorkers, LocalWorkers, RemoteWorkers, lost_early
from loadgen.load.options import plan_of
from loadgen.load.output import complain
from loadgen.load.run_controller import Cause, RunController, print_progress, print_report
from loadgen.load.user import SessionUser, kind_weights
from loadgen.measures.objectives import unmeasurable
from loadgen.plan import SPARE_CONNECTIONS, Plan
from loadgen.workload import Workload, is_single_statement
from loadgen.workload.loading import file_of

DRAIN_S = 8.0
"""How long ops in flight may take at the end of a whole run: longer than any statement may."""
CUT_DRAIN_S = 3.0
"""The same for a run that was cut short: it must be judged within 10 s."""
NEWS_S = 8.0
"""For how long the page shows a run that is not simply valid as still running: it asks for logs every 5 s."""


class LocustHost:
    """All runs of one Locust process, one after another."""

    def __init__(self, environment: Any, web_ui: Any) -> None:
        self.controller: RunController | None = None
        self._environment = environment
        self._runner = environment.runner
        self._web_ui = web_ui
        distributed = isinstance(self._runner, MasterRunner)
        self._workers: LoadWorkers = RemoteWorkers(environment) if distributed else LocalWorkers(environment)
        self._report = ""
        self._cut_s = float("inf")
        self._quits = 0
        self._leaving = False
        self._preparing = False
        self._runs = 0
        self._load_processes = 1
        self._news_until_s = 0.0
        # Locust sends its options to workers and renders some of them: the DSN holds a password, so it lives here.
        self._dsn = str(environment.parsed_options.dsn or "")
        environment.parsed_options.dsn = ""
        # Locust sends its options to the workers, which get the plan instead.
        self._shape_files = vars(environment.parsed_options).pop("shape_files", {})
        environment.load_worker = None

    @property
    def busy(self) -> bool:
        """Whether a run is on, or still being judged."""
        return self.controller is not None and (self.controller.begun or self.controller.ending) and not self._report

    @property
    def forked_workers(self) -> int:
        """How many workers --processes has forked."""
        return int(self._environment.parsed_options.processes or 0)

    @property
    def awaits_begin(self) -> bool:
        """Whether a run is prepared, and its load has not begun."""
        return self.controller is not None and not self.controller.begun and not self.controller.ending

    @property
    def place(self) -> str:
        """Where the load goes, with the server's edition: what the page shows as host beside its figures."""
        return f"{self.controller.server}, {self.controller.plan.cluster}" if self.controller is not None else ""

    @property
    def has_news(self) -> bool:
        """Whether a verdict other than valid has just come: an open page may not have seen it yet."""
        return time.monotonic() < self._news_until_s

    @property
    def workload(self) -> Workload:
        """What the runs are of."""
        (known,) = self._environment.user_classes
        workload: Workload = known.workload
        return workload

    @property
    def judging(self) -> bool:
        """Whether a run has ended, and has no report yet."""
        return self.controller is not None and self.controller.ending and not self._report

    def prepare(self, changes: dict[str, Any]) -> None:
        """Bring up everything that a run needs but its load; ``changes`` are the page's. Raises LoadgenError."""
        if self._preparing:
            raise LoadgenError("another run is being prepared: wait for it")
        self._preparing = True
        try:
            self._prepare(changes)
        finally:
            self._preparing = False

    def _prepare(self, changes: dict[str, Any]) -> None:
        self._environment._filter_tasks_by_tags()
        (known,) = self._environment.user_classes
        workload = known.workload
        options = {**vars(self._environment.parsed_options), **changes, "dsn": self._dsn}
        options["shape_files"] = self._shape_files
        plan, self._cut_s = plan_of(options, kind_weights(known), workload)
        _check_mix(plan, workload)
        _check_reads(plan, known)
        if (
            isinstance(self._runner, MasterRunner)
            and plan.cluster != "existing"
            and not is_loopback(self._runner.master_bind_host)
        ):
            raise LoadgenError(
                f"workers on other hosts cannot reach --cluster {plan.cluster}, which accepts connections from "
                "this host only: leave --master-bind-host out, or name a server by --dsn"
            )
        duration_s = min(plan.duration_s, self._cut_s)
        if problem := unmeasurable(plan, workload.arrivals, duration_s, workload.words, workload.followed):
            raise LoadgenError(problem)
        # Of workers that are started by hand, as many as are awaited, or are there already.
        own = self._environment.parsed_options
        awaited = own.expect_workers if own.headless or own.autostart else 1
        self._load_processes = max(awaited, self._worker_count)
        if plan.sessions < self._load_processes:
            raise LoadgenError(
                f"-u {plan.sessions} leaves some of the {self._load_processes} load processes without a session: use "
                "more"
            )
        if self.controller is not None:
            self.controller.abandon()
        controller = RunController(self._numbered(plan), workload, file_of(known), print_progress)
        controller.prepare()
        controller.on_broken = self._break_off
        controller.on_deserted = self._on_deserted
        self.controller = controller
        self._report = ""
        self._runs += 1

    def check_sessions(self, sessions: int) -> None:
        """Refuse to edit the run to more sessions than its server had room for. Raises LoadgenError."""
        free = self.controller.ready["facts"].get("connections_free") if self.controller is not None else None
        if free is not None and sessions + SPARE_CONNECTIONS > free:
            raise LoadgenError(
                f"-u {sessions} needs {sessions + SPARE_CONNECTIONS} connections ({SPARE_CONNECTIONS} to spare), and "
                f"the server had {free} free when this run was prepared"
            )

    def drop(self) -> None:
        """Stop the servers of a run that was prepared, and that Locust did not start."""
        if self.controller is not None and not self.controller.begun and not self.controller.ending:
            self.controller.abandon()
            self.controller = None

    def on_test_start(self) -> None:
        """Locust is about to start users: the hands come first."""
        if self.controller is None or self.controller.begun or self.controller.ending:
            self.prepare({})
        assert self.controller is not None
        missing = self._load_processes - self._worker_count
        if missing > 0:
            self.give_up(lost_early(missing, self._load_processes))
            return
        self._workers.start_all(self.controller)

    def on_spawning_complete(self, user_count: int) -> None:
        """All users are there: begin when their sessions are connected. Later calls come of edits on the page."""
        if self.controller is not None and not self.controller.begun and not self.controller.ending:
            gevent.spawn(self._begin, self.controller, user_count)

    def _begin(self, controller: RunController, user_count: int) -> None:
        hindrance = self._workers.connected(user_count)
        if controller.ending or controller.begun:
            return
        if hindrance:
            self.give_up(hindrance)
            return
        start_ns = self._workers.begin()
        whole_s = controller.plan.duration_s
        planned_s = min(whole_s, self._cut_s)
        controller.go(start_ns, planned_s)
        gevent.sleep(max(0.0, (start_ns - now_ns()) / 1e9 + planned_s))
        if not controller.ending:
            self.end("" if whole_s <= self._cut_s else f"cut by -t after {self._cut_s:g} s", Cause.OVER)
            self._leave()

    def end(self, reason: str, how: Cause = Cause.STOPPED) -> None:
        """End the run, if there is one, and have it judged once. Every caller waits for that."""
        controller = self.controller
        if controller is None:
            return
        if not controller.begun:
            reason = reason or "stopped before the first arrival"
        ending = controller.end(reason, lambda: self._stop_load(cut_short=bool(reason)), how=how)
        self._set_exit_code(ending.exit_code)
        if not self._report:
            self._report = ending.report
            if show_ending(self._runner, ending):
                self._news_until_s = time.monotonic() + NEWS_S
            if self._web_ui is not None:
                print_report(self._report)

    def _break_off(self, reason: str) -> None:
        self.end(reason)
        self._leave()

    def _on_deserted(self) -> None:
        self.end("no load process was left", Cause.LEFT)
        self._leave()

    def give_up(self, message: str) -> None:
        """The set-up failed before any load: one line, exit code 2, nothing judged."""
        complain(message)
        self._set_exit_code(2)
        if self.controller is not None:
            controller, self.controller = self.controller, None
            self._workers.stop(0.0, serve_queued=False)
            controller.abandon()
        self._leave()

    def on_test_stopping(self) -> None:
        """Locust stops the run: by a click on Stop, because it is leaving, or because the last worker is gone."""
        if self.busy and self._workers.all_lost:
            self.end("no load process was left", Cause.LEFT)
        else:
            self.end("stopped")
        if self._environment.parsed_options.headless and not self._leaving:
            self._leave()

    def on_quitting(self) -> None:
        """Locust is leaving: by a signal, or because the run is over. A second signal ends at once."""
        self._leaving = True
        self._quits += 1
        if self._quits > 1 and self.busy and self.controller is not None:
            self.controller.abandon()
            os._exit(128 + signal.SIGTERM)
        try:
            self.end("stopped by a signal", Cause.SIGNAL)
        except KeyboardInterrupt:
            if self.controller is not None:
                self.controller.abandon()
            complain("interrupted again: the run was not judged")
            os._exit(128 + signal.SIGINT)

    def keep_exit_code(self) -> None:
        """Set the exit code again: a hook may add its own to a run that ends with 0, and to no other."""
        if code := ours():
            self._environment.process_exit_code = code

    def _set_exit_code(self, exit_code: int) -> None:
        self._environment.process_exit_code = exit_code
        set_ours(exit_code)

    def on_quit(self) -> None:
        """The last thing on the terminal is our summary, below Locust's own tables."""
        options = self._environment.parsed_options
        if options.html_file and self.controller is not None:
            # Locust wrote it before the verdict where a signal ended the run, or not at all.
            _write_html(self._environment, options)
        if options.csv_prefix:
            # Locust writes its files once a second, and not at the end: without this they would lack the last ops.
            gevent.sleep(CSV_STATS_INTERVAL_SEC + 0.1)
        if self._report and self._web_ui is None:
            print_report(self._report)

    @property
    def _worker_count(self) -> int:
        """How many load processes are there: this one, or its workers."""
        return int(getattr(self._runner, "worker_count", 1))

    def _stop_load(self, *, cut_short: bool) -> None:
        self._workers.stop(CUT_DRAIN_S if cut_short else DRAIN_S, serve_queued=not cut_short)

    def _leave(self) -> None:
        options = self._environment.parsed_options
        if options.headless:
            self._leaving = True
            gevent.spawn(self._runner.quit)
            return
        gevent.spawn(self._runner.stop)
        if options.autostart and options.autoquit != -1:
            gevent.sleep(options.autoquit)
            self._runner.quit()
            self._web_ui.stop()

    def _numbered(self, plan: Plan) -> Plan:
        """With --run-dir, the page's later runs go to DIR-2, DIR-3 and so on."""
        if plan.run_dir and self._runs:
            return plan.with_(run_dir=f"{plan.run_dir.rstrip('/')}-{self._runs + 1}")
        return plan


def _write_html(environment: Any, options: Any) -> None:
    """Write Locust's HTML report, as Locust itself does."""
    process_html_filename(options)
    try:
        path = Path(options.html_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        report: str = get_html_report(environment, show_download_link=False)  # type: ignore[no-untyped-call]
        path.write_text(report, encoding="utf-8")
    except OSError as error:
        complain(f"cannot write {options.html_file}: {error.strerror}")


def _check_reads(plan: Plan, user: type[SessionUser]) -> None:
    """Refuse to read from replicas where the mix has no read for them. Raises LoadgenError."""
    if plan.read_from == "replica" and not any(
        is_single_statement(getattr(user, kind)) for kind, _ in plan.kind_weights
    ):
        raise LoadgenError(
            f"--read-from replica: no op of this run of {plan.workload} is a single read, and only those go to replicas"
        )


def _check_mix(plan: Plan, workload: Workload) -> None:
    """Refuse a mix in which nothing arrives. Raises LoadgenError."""
    kinds = dict(plan.kind_weights)
    if not kinds:
        raise LoadgenError("no task is left: --tags or --exclude-tags exclude all of them")
    if not any(kind in kinds for kind in workload.arrivals):
        raise LoadgenError(
            f"nothing would arrive: --tags or --exclude-tags leave {', '.join(kinds)}, which only follow "
            f"{workload.arrivals[0]}s; leave {' or '.join(workload.arrivals)} in"
        )
