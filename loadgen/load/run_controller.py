"""The controller of a run, in the standalone or master process. It owns the conductor and the histories.

Load workers ask it for op numbers and give it their rows. It writes both, and has the run judged at its end.
"""

import os
import resource
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import gevent
from gevent.event import AsyncResult

from loadgen.clock import NS_PER_S, ClockOrigin, clock_origin, now_ns
from loadgen.engines import engine_of
from loadgen.errors import LoadgenError, StoreError
from loadgen.history.history import HistoryWriter
from loadgen.load.conductor_process import ConductorProcess
from loadgen.load.live_view import LiveView
from loadgen.load.output import OUT
from loadgen.load.sessions import SessionCounts
from loadgen.plan import Plan
from loadgen.report.edition import engine_title
from loadgen.report.page import coloured, folded, terminal_columns
from loadgen.untrusted import printable
from loadgen.workload import Workload

PROGRESS_S = 1.0
"""How often a progress line is printed in a run of up to two minutes; longer runs print about 120 lines."""


@dataclass(slots=True)
class _Process:
    """What the controller knows about one load process."""

    writer: HistoryWriter
    closed: dict[str, Any] | None = None
    heard: int = 0
    """How many of the rows that it made have come here, as far as it counted them."""

    lost: str = ""
    """Why it ended before the run did; empty if it did not."""


@dataclass(slots=True)
class Ending:
    """How a run ended: the exit code, the text that the terminal shows last, and what the conductor found.

    ``found`` has a dict for each check that found something: ``name``, ``anomalies`` and ``witnesses``.
    """

    exit_code: int
    report: str
    verdict: str = ""
    reason: str = ""
    """Why the verdict is unknown, where it is."""
    found: Sequence[Mapping[str, Any]] = ()
    run_dir: str = ""


class Cause(Enum):
    """Who ended a run."""

    OVER = "over"
    """Its schedule."""
    STOPPED = "stopped"
    """A person, or a history that cannot be written."""
    SIGNAL = "signal"
    LEFT = "left"
    """Its load processes: none is left."""


class RunController:
    """One run, from the cluster's start to its report."""

    def __init__(self, plan: Plan, workload: Workload, file: Path | None, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.workload = workload
        self._file = file
        self.live = LiveView(plan, workload)
        self.begun = False
        self.ready: Mapping[str, Any] = {}
        self._say = say
        self._conductor = ConductorProcess(say)
        self._processes: dict[str, _Process] = {}
        self._next_number = 0
        self._start_ns = 0
        self._planned_s = 0.0
        self._sessions = SessionCounts()
        self._notes: list[str] = []
        self._error = ""
        self._shut = False
        """Whether the histories are closed: what a load process says after that comes too late."""
        self._ended: AsyncResult[Ending] | None = None
        self._progress: gevent.Greenlet | None = None
        self.on_broken: Callable[[str], None] = lambda _reason: None
        self.on_deserted: Callable[[], None] = lambda: None
        """Called when no load process is left during a run."""

    def prepare(self) -> None:
        """Bring the cluster up. Raises ClusterError with what to do; nothing is left behind then."""
        try:
            self.ready = self._conductor.start(self.plan, self.workload, self._file)
        except BaseException:
            self._conductor.close()
            raise

    @property
    def server(self) -> str:
        """The engine with version and edition, once it is prepared."""
        return engine_title({"title": engine_of(self.plan.engine).title, **self.ready["facts"]})

    def open(self, process: str, origin: ClockOrigin, share: tuple[int, int]) -> None:
        """Open the history of one load process, whose times are of the clock ``origin``. ``share`` is as in Drive."""
        directory = Path(self.ready["run_dir"]) / "history"
        facts = {name: str(value) for name, value in asdict(origin).items()}
        facts |= {"run_id": str(self.ready["run_id"]), "workload": self.workload.name}
        facts["share"] = "/".join(map(str, share))
        self._processes[process] = _Process(HistoryWriter(directory, process, self.workload.invoked_types, facts))

    def hand_out(self, process: str, count: int) -> Mapping[str, Any] | None:
        """Give ``count`` fresh numbers to a process. Their columns are written before the process gets them. None once
        broken."""
        if self._shut:
            return None
        columns = self.workload.invoked(self.plan, self._next_number, count)
        try:
            self._processes[process].writer.invoked(columns)
        except StoreError as error:
            self._broken(error)
            return None
        self._next_number += count
        return columns

    def record(self, process: str, batch: Any, *, first: int, in_flight: int, queued: int) -> None:
        """Write a load worker's batch to its history, and show it in the progress line.

        ``first`` is how many rows the worker gave before: rows that come a second time are not written again.
        """
        known = self._processes.get(process)
        if known is not None and first < known.heard:
            return
        if known is not None and known.closed is None and not self._error and not self._shut:
            try:
                known.writer.batch(batch)
                known.heard = first + batch.num_rows
            except StoreError as error:
                self._broken(error)
        self.live.observe(batch, process, in_flight=in_flight, queued=queued)
        self._sessions.hear(now_ns(), process)

    def closed(self, process: str, facts: dict[str, Any]) -> None:
        """A load process has ended; ``facts`` come from LoadWorker.finish.

        The facts are written only if the process ended in order and all its rows are here. Otherwise its open ops may
        have happened.
        """
        known = self._processes.get(process)
        if known is None or known.closed is not None or self._shut:
            return
        known.closed = facts
        if facts["made"] != known.writer.written and not self._error:
            facts["orderly"] = False
            self._notes.append(
                f"load process {process} made {facts['made']} rows, and {known.writer.written} came here"
            )
        # Its reason may come when the end has begun: of a worker that gave up while this process slept, for one.
        if self.begun and (facts.get("reason") or not self.ending):
            self.sessions(process, 0)
            known.lost = f"{facts.get('reason') or 'it ended'}, {self.elapsed_s:.1f} s after the begin"
            self._say(f"loadgen: load process {process} was lost ({known.lost}): what it leaves counts as skipped")
        if facts["orderly"] and not self._error:
            try:
                known.writer.closed(facts["next_number"])
            except StoreError as error:
                self._broken(error)

    def sessions(self, process: str, count: int) -> None:
        """A load process has so many sessions from now on. At the end they all close: that is no change."""
        if not self.ending:
            self._sessions.tell(now_ns(), process, count)

    def note(self, text: str) -> None:
        """Say ``text``, and keep it among the run's warnings."""
        self._say(f"loadgen: {text}")
        self._notes.append(text)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the begin of the load; 0 before it."""
        return (now_ns() - self._start_ns) / NS_PER_S if self.begun else 0.0

    @property
    def closed_processes(self) -> list[str]:
        """The load processes that have ended in order."""
        return [name for name, process in self._processes.items() if process.closed is not None]

    def open_processes(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that have begun and have not yet ended in order."""
        return [name for name in names if name in self._processes and self._processes[name].closed is None]

    def go(self, start_ns: int, planned_s: float) -> None:
        """The first arrival is due from now on, and the last one after ``planned_s``: progress begins."""
        self.begun = True
        self._conductor.begun()
        self._start_ns, self._planned_s = start_ns, planned_s
        self.live.begin(start_ns)
        self._progress = gevent.spawn(self._print_progress)

    @property
    def ending(self) -> bool:
        """Whether the end has begun."""
        return self._ended is not None

    @property
    def ended(self) -> Ending | None:
        """How it ended, once that is known."""
        ended: Ending | None = self._ended.value if self._ended is not None and self._ended.successful() else None
        return ended

    def end(self, reason: str, stop_workers: Callable[[], None], *, how: Cause) -> Ending:
        """End the run, once: stop the hands, judge, report. ``reason`` is empty when the schedule was served whole.

        Later calls wait for the first one and get its answer.
        """
        if self._ended is not None:
            ended: Ending = self._ended.get()
            return ended
        self._ended = AsyncResult()
        try:
            ending = self._end(reason, stop_workers, how)
        except LoadgenError as error:
            ending = Ending(1, f"loadgen: {error}")
        except BaseException as error:
            self._conductor.close()
            self._ended.set(Ending(1, f"loadgen: the run was ended before it could be judged ({type(error).__name__})"))
            raise
        self._ended.set(ending)
        return ending

    def abandon(self) -> None:
        """Stop the servers at once; nothing is judged."""
        self._conductor.abandon()

    def _end(self, reason: str, stop_workers: Callable[[], None], how: Cause) -> Ending:
        # Whoever stops a run asks for no more of its schedule; whoever leaves it has been asked for all of it.
        stopped_s = min((now_ns() - self._start_ns) / NS_PER_S, self._planned_s) if self.begun else 0.0
        offered_s = self._planned_s if how is Cause.LEFT else stopped_s
        stop_workers()
        if self._progress is not None:
            self._progress.kill(block=False)
        self._shut = True
        for process in self._processes.values():
            process.writer.close()
        closed = {name: process.closed for name, process in self._processes.items()}
        facts = [process for process in closed.values() if process is not None]
        done = self._conductor.finish(
            cut_short=self._error or reason,
            signalled=how is Cause.SIGNAL,
            client=_client(facts, whole=len(facts) == len(closed)),
            errors={code: known for process in facts for code, known in process["errors"].items()},
            died=[name for name, process in closed.items() if process is None or not process["orderly"]],
            processes={name: _told(process) for name, process in self._processes.items()},
            begun=self.begun,
            start_wall_ns=clock_origin().wall_of(self._start_ns) if self.begun else None,
            offered_s=offered_s,
            sessions=self._sessions.changes(
                self._start_ns, frozenset(name for name, process in closed.items() if process is None)
            ),
            warnings=[*self._notes, *(warning for process in facts for warning in process["warnings"])],
            error=self._error,
            streams={
                name: sealed.to_json()
                for process in self._processes.values()
                for name, sealed in process.writer.sealed.items()
            },
        )
        return Ending(
            int(done["exit_code"]),
            str(done["report"]),
            verdict=str(done["verdict"]),
            reason=str(done["reason"]),
            found=done["found"],
            run_dir=str(done["run_dir"]),
        )

    def _broken(self, error: StoreError) -> None:
        if not self._error:
            self._error = str(error)
            self._say(f"loadgen: {error}: the load stops, and what was written is judged")
            gevent.spawn(self.on_broken, str(error))

    def _print_progress(self) -> None:
        every_s = max(PROGRESS_S, round(self.plan.duration_s / 120))
        while True:
            gevent.sleep(every_s)
            self._say(self.live.line(now_ns()))


def _told(process: _Process) -> dict[str, Any]:
    """What load.json says of one load process; ``made`` and ``written`` count its rows, of ends and of tries."""
    closed = process.closed
    if closed is None:
        return {"lost": process.lost or "it died", "written": process.writer.written}
    names = ("next_number", "unnumbered", "made")
    told = {"lost": process.lost, **{name: closed[name] for name in names}, "written": process.writer.written}
    return {**told, **{name: closed.get(name) for name in ("start_ns", "unreached")}}


def _client(processes: list[dict[str, Any]], *, whole: bool) -> dict[str, Any]:
    """The client's cost over all load processes: CPU adds up, peaks are the largest one's.

    Not ``whole`` if processes died, because their cost is unknown.
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    clients = [process["client"] for process in processes]
    return {
        "cpu_seconds": sum(client["cpu_seconds"] for client in clients) if whole else None,
        "saturated_seconds": max((client["saturated_seconds"] for client in clients), default=0),
        "peak_rss_mb": max([own, *(client["peak_rss_mb"] for client in clients)]),
    }


def print_progress(text: str) -> None:
    """Print a line of progress, at once."""
    OUT.say(folded(printable(text), terminal_columns()))


def print_report(text: str) -> None:
    """Print the report, in colour where the terminal wants it."""
    wants_colour = (sys.stdout is not None and sys.stdout.isatty()) and not os.environ.get("NO_COLOR")
    OUT.say((coloured(text) if wants_colour else text).rstrip("\n"))
    OUT.flush()
