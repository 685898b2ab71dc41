"""The conductor's part of a run: everything that is not the load itself. ``loadgen.run`` is the process it lives in."""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from loadgen import clusters, engines
from loadgen.clock import clock_origin
from loadgen.clusters.cluster import Cluster, Place
from loadgen.conduct.host import hardware, versions
from loadgen.conduct.verification import await_replica, check_server, verified_session
from loadgen.databases import REPLICATING
from loadgen.engines.address import members_of
from loadgen.engines.engine import (
    Address,
    Control,
    Engine,
    FinalReads,
    Level,
    level_of,
)
from loadgen.engines.heartbeat import Heartbeat, SilentError
from loadgen.errors import ClusterError, LoadgenError, LockLost, PlanError, StoreError
from loadgen.history.history import write_json
from loadgen.history.run_directory import (
    RUN_FORMAT,
    RunDirectory,
    discard,
    make_run_directory,
    new_run_id,
    point_latest,
    utc_text,
)
from loadgen.plan import Plan, plan_from_json
from loadgen.verdict import Verdict
from loadgen.workload import Table, Workload
from loadgen.workload.loading import load_workload, sha256_of

QUIESCE_S = 20.0
"""How long the run's sessions may take to end."""
RECONNECT_S = 5.0
"""How long a server that does not answer after the load is asked again."""
FAILOVER_S = 30.0
"""The same where another member may take over: MySQL's group needs 21 s to elect a primary, by default."""
QUIESCE_CUT_SHORT_S, RECONNECT_CUT_SHORT_S = 6.0, 2.0
"""The same if a person cut the run short and waits for the verdict."""
SILENT_S, SILENT_CUT_SHORT_S = 90.0, 5.0
"""How long the server may leave the lock's heartbeats unanswered. There is one every two seconds."""
GOODBYE_S = 1.0
"""How long closing the control connection may take."""
REPLICATED_S = 30.0
"""How long a replica may take to have the tables as they were prepared."""
END_AFTER_S, END_CUT_SHORT_AFTER_S = 5.0, 1.0
"""When the server ends sessions of the load that are still in a transaction, because their clients are gone."""
TELL_AFTER_S = 1.5
"""How long the lock may take before a message explains the wait."""
POLL_S = 0.1


class Conductor:
    """One run, from its plan to its report. Every method may raise LoadgenError; ``close`` stops what is up."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._tell = say
        self._log: IO[str] | None = None
        self._engine: Engine
        self._level: Level
        self._plan: Plan
        self._workload: Workload
        self._tables: tuple[Table, ...] = ()
        self._run: RunDirectory | None = None
        self._cluster: Cluster | None = None
        self._replicas: tuple[Address, ...] = ()
        self._control: Control | None = None
        self._heartbeat: Heartbeat | None = None
        self._run_id = ""
        self._unused = False
        """Whether all is ready and the load has not begun: what was made for it goes again, if it never does."""

    def start(self, message: dict[str, Any]) -> dict[str, Any]:
        """Bring up and prepare what the load will go to; the ``ready`` message."""
        self._plan = plan = plan_from_json(message["plan"])
        self._engine = engines.engine_of(plan.engine)
        self._level = level_of(self._engine, plan.isolation)
        file = Path(str(message["workload"]["file"]))
        self._workload = workload = load_workload(file)
        if workload.name != plan.workload:
            raise PlanError(f"{file} holds the workload {workload.name}, and the plan is for {plan.workload}")
        self._tables = workload.tables(plan)
        started_s = time.time()
        self._run = make_run_directory(plan, started_s)
        self._run_id = new_run_id(self._run.path.name)
        self._log = (self._run.logs / "conductor.log").open("a", buffering=1, errors="replace")
        try:
            copied = {"file": str(file), "sha256": self._keep_workload(file)}
            ready = self._prepare({**workload.facts(plan, self._tables), **copied}, started_s)
            self._unused = True
            return {"ready": ready}
        except BaseException as error:
            self.log(f"not started: {error or type(error).__name__}")
            self._unlock()
            self.close()
            # Our own errors leave their traceback there.
            if isinstance(error, LoadgenError) or not isinstance(error, Exception):
                discard(self._run, keep_itself=bool(plan.run_dir), but_logs=isinstance(error, LoadgenError))
            raise

    def begun(self) -> None:
        """The load begins."""
        self._unused = False
        assert self._run is not None, "begun before start"
        if problem := point_latest(self._run):
            self.say(problem)

    def finish(self, message: dict[str, Any]) -> dict[str, Any]:
        """Settle, judge, report and stop; the ``done`` message."""
        # Here rather than above: the judge is not needed before, and a start would wait for its import.
        from loadgen.conduct.conclusion import Conclusion

        assert self._run is not None, "finish before start"
        if self._unused:
            self.begun()
        conclusion = Conclusion(self._run, message, self.log, self._workload)
        cut_short = bool(message.get("cut_short"))
        conclusion.final_reads(self._tables, lambda: self._unless_silent(cut_short=cut_short))
        conclusion.interfered(self._unlock())
        self._close_control()
        self.say("judging")
        verdict = conclusion.judge()
        keep = self._plan.keep or (verdict == Verdict.INVALID and self._plan.cluster == "embedded")
        conclusion.stopped(lambda: self._stop(keep=keep))
        done = conclusion.done()
        self.log(f"verdict {done['verdict']}, exit code {done['exit_code']}")
        return {"done": done}

    def close(self) -> None:
        """Stop everything that runs. Idempotent. A server that does not stop ends with this process.

        A run whose load never began leaves nothing. A run that was abandoned during the load keeps its lock until the
        lock is stale, because a load process may still be running.
        """
        unused, self._unused = self._unused, False
        try:
            if unused:
                self._unlock()
            self._stop_heartbeat()
            self._close_control()
            self._stop(keep=False)
        except LoadgenError as error:
            self.log(str(error))
        if unused and self._run is not None:
            discard(self._run, keep_itself=bool(self._plan.run_dir), but_logs=False)

    def say(self, text: str) -> None:
        """Print a progress message."""
        self.log(text)
        self._tell(text)

    def log(self, text: str) -> None:
        """Append to ``logs/conductor.log``; a disk that is full loses this line and nothing else."""
        if self._log is not None and not self._log.closed:
            try:
                self._log.write(f"{utc_text(time.time())} {text}\n")
            except OSError:
                self._log = None

    def stop_servers(self) -> None:
        """Stop the servers and nothing else: the one method for another thread. Idempotent."""
        self._stop(keep=False)

    def where(self) -> str:
        """Where to read more about an error."""
        return f" (see {self._run.logs / 'conductor.log'})" if self._run is not None and self._run.logs.is_dir() else ""

    def _prepare(self, workload: dict[str, Any], started_s: float) -> dict[str, Any]:
        assert self._run is not None
        plan, engine = self._plan, self._engine
        self._cluster = cluster = clusters.start(plan, Place(logs=self._run.logs, say=self.say))
        self._replicas = replicas = self._read_from()
        self._control = control = engine.control(cluster.address, self._run_id)
        facts = control.facts()
        check_server(facts, plan, engine.title)
        self._lock(control)
        self._heartbeat = Heartbeat(lambda: engine.control(cluster.address, self._run_id), self.log)
        self.say(f"preparing {sum(len(table.rows) + table.about for table in self._tables):,} rows in {engine.title}")
        filled = control.prepare(self._tables, plan, self.say)
        for replica in replicas:
            await_replica(engine, replica, self._run_id, filled)
        who = (self._level, self._run_id)
        verified = {
            "control": facts.pop("verified", {}),
            "session": verified_session(engine, cluster.address, *who),
            "replicas": [verified_session(engine, replica, *who, reader=True) for replica in replicas],
        }
        if self._heartbeat.lost:
            raise ClusterError(self._heartbeat.lost)
        write_json(self._run.plan, {**self._resolved(workload, facts, started_s), "verified": verified})
        return {
            "address": cluster.address.to_json(),
            "replicas": [replica.to_json() for replica in replicas],
            "run_dir": str(self._run.path),
            "run_id": self._run_id,
            "level": self._level.name,
            "facts": facts,
        }

    def _keep_workload(self, file: Path) -> str:
        """Keep the workload's file in the run's directory; its SHA-256. Raises LoadgenError."""
        assert self._run is not None
        checksum = sha256_of(file)
        try:
            self._run.workload.write_bytes(file.read_bytes())
        except OSError as error:
            raise StoreError(f"{self._run.workload} cannot be written: {error.strerror or error}") from error
        return checksum

    def _lock(self, control: Control) -> None:
        """Take the run's lock, and print a message if that takes long."""
        waiting = threading.Timer(TELL_AFTER_S, self.say, ["waiting for what an earlier run left open on this server"])
        waiting.daemon = True
        waiting.start()
        try:
            control.lock()
        finally:
            waiting.cancel()

    def _read_from(self) -> tuple[Address, ...]:
        """Where the plan's reads go beside the writable node. Raises PlanError where they can't."""
        assert self._cluster is not None
        if self._plan.read_from == "primary":
            return ()
        if not self._level.on_replicas:
            raise PlanError(
                f"--read-from replica: a replica of {self._engine.title} does not run --isolation {self._level.name!r}"
            )
        replicas = self._cluster.replicas
        if not replicas:
            raise PlanError(
                f"--read-from replica: this cluster ({self._plan.cluster} {self._engine.title}) has no read-only "
                f"member; --nodes 3 with an embedded {' or '.join(REPLICATING)} has, and --cluster compose"
            )
        return replicas

    def _resolved(self, workload: dict[str, Any], facts: dict[str, Any], started_s: float) -> dict[str, Any]:
        assert self._run is not None and self._cluster is not None
        cluster = self._cluster.facts()
        data = Path(str(cluster.get("data") or self._run.path))
        origin = clock_origin()
        return {
            "format": RUN_FORMAT,
            "plan": self._plan.to_json(),
            "run_id": self._run_id,
            "started_utc": utc_text(started_s),
            "engine": {
                "name": self._engine.name,
                "title": self._engine.title,
                "version": facts.get("version", ""),
                "edition": facts.get("edition", ""),
                "fork": facts.get("fork", ""),
                "level": self._level.name,
                "means": self._level.means,
                "level_sql": self._level.set_sql,
                "statement_snapshot": self._level.statement_snapshot,
            },
            "cluster": cluster,
            "address": self._cluster.address.masked(),
            "replicas": [replica.masked() for replica in self._replicas],
            "workload": {
                **workload,
                "tables": [table.name for table in self._tables],
            },
            "durability": facts.get("durability", {}),
            "hardware": hardware(data if data.is_dir() else self._run.path),
            "clock": {"boot_id": origin.boot_id, "wall_ns": origin.wall_ns, "monotonic_ns": origin.monotonic_ns},
            "versions": versions(),
            "warnings": list(facts.get("warnings", ())),
        }

    def _unless_silent(self, *, cut_short: bool) -> FinalReads:
        """The final reads, for as long as the server answers at all."""
        assert self._heartbeat is not None
        limit_s = SILENT_CUT_SHORT_S if cut_short else SILENT_S
        try:
            return self._heartbeat.unless_silent(lambda: self._final_reads(cut_short=cut_short), limit_s)
        except BaseException as error:
            if isinstance(error, SilentError) or not isinstance(error, Exception):
                # The reads go on, and closing their connection would wait for a goodbye: it ends with this process.
                self._heartbeat.stop(0.0)
                self._control = self._heartbeat = None
            raise

    def _final_reads(self, *, cut_short: bool) -> FinalReads:
        """The tables as they are once every session of the run is gone. Raises ClusterError if that never comes."""
        self.say("waiting for the last sessions to end")
        limit_s, reconnect_s, end_after_s = QUIESCE_S, RECONNECT_S, END_AFTER_S
        # It is to the node that took the writes at the begin: what that one has now may be old. And it has been silent
        # since: a network that dropped it would not say so.
        self._close_control()
        if self._several:
            reconnect_s = FAILOVER_S
        if cut_short:
            limit_s, reconnect_s, end_after_s = QUIESCE_CUT_SHORT_S, RECONNECT_CUT_SHORT_S, END_CUT_SHORT_AFTER_S
        began = time.monotonic()
        while (left := self._sessions(reconnect_s)) and time.monotonic() < began + limit_s:
            if time.monotonic() > began + end_after_s and self._control is not None:
                with suppress(ClusterError):
                    self._control.end_sessions()
            time.sleep(POLL_S)
        if left:
            raise ClusterError(f"{left} sessions of the run were still open {limit_s:g} s after the load")
        self.say("reading the tables")
        return self._connected(reconnect_s).final_reads(self._tables)

    def _sessions(self, reconnect_s: float) -> int:
        if self._control is not None:
            try:
                return self._control.sessions()
            except ClusterError as error:
                self.log(f"the control connection was lost: {error}")
                self._close_control()
        return self._connected(reconnect_s).sessions()

    def _connected(self, within_s: float) -> Control:
        """The control connection, opened again if it was lost. Raises ClusterError if that takes too long."""
        deadline = time.monotonic() + within_s
        while self._control is None:
            try:
                self._control = self._opened()
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)
        return self._control

    def _opened(self) -> Control:
        """A control connection; of several members to the first that commits a write. Raises the last one's error."""
        assert self._cluster is not None
        problem: ClusterError | None = None
        for member in members_of(self._cluster.address):
            try:
                control = self._engine.control(member, self._run_id)
                try:
                    if self._several:
                        control.prove_writable()
                    return control
                except ClusterError:
                    control.close()
                    raise
            except ClusterError as error:
                problem = error
        assert problem is not None
        raise problem

    @property
    def _several(self) -> bool:
        """Whether another member may take the writes over."""
        return self._cluster is not None and len(members_of(self._cluster.address)) > 1

    def _unlock(self) -> str:
        """Stop beating and give the lock back; why it was not this run's any more, or an empty string."""
        heartbeat = self._heartbeat
        self._stop_heartbeat()
        if heartbeat is None or self._control is None or heartbeat.lost:
            return heartbeat.lost if heartbeat is not None else ""
        try:
            self._control.beat()
        except LockLost as lost:
            return str(lost)
        except ClusterError as error:
            self.log(f"the lock was not given back: {error}")
        else:
            with suppress(ClusterError):
                self._control.unlock()
        return ""

    def _stop_heartbeat(self) -> None:
        heartbeat, self._heartbeat = self._heartbeat, None
        if heartbeat is not None:
            heartbeat.stop()

    def _close_control(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            # A server that is frozen hears no goodbye, and a process that ends needs none.
            closing_it = threading.Thread(target=control.close, name="goodbye", daemon=True)
            closing_it.start()
            closing_it.join(GOODBYE_S)

    def _stop(self, *, keep: bool) -> str:
        if self._cluster is None:
            return ""
        # An interruption halfway would leave a half-stopped server: it waits until the stop is done.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            return self._cluster.stop(keep=keep)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
