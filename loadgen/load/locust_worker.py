"""A run in a Locust worker: it creates a load worker when the master asks for it, and links it to the master."""

import logging
from dataclasses import asdict
from typing import Any

import gevent

from loadgen.clock import NS_PER_S, clock_origin, now_ns
from loadgen.errors import LoadgenError, PlanError
from loadgen.load import messages
from loadgen.load.load_worker import LoadWorker
from loadgen.plan import Plan, plan_from_json
from loadgen.workload import Workload

logger = logging.getLogger("loadgen")

MASTER_LOST_S = 10.0
"""A worker that has not heard from its master for this long starts no more ops, because nobody would record them."""
WATCH_S = 0.2
"""How often it looks, and by how much it stops too early rather than too late."""
AHEAD_S = MASTER_LOST_S + 2.0
"""For how long its numbers last: a shorter silence of its master costs nothing."""
LAST_DRAIN_S = 3.0


class LocustWorker:
    """One worker process, for all of its runs."""

    def __init__(self, environment: Any, dsn: str) -> None:
        self._environment = environment
        self._dsn = dsn
        self._runner = environment.runner
        self._run_id = ""
        self._heard_ns = now_ns()
        environment.load_worker = None
        for name, listener, concurrent in (
            (messages.PREPARE, self._on_prepare, False),
            (messages.GO, self._on_go, False),
            (messages.NUMBERS, self._on_numbers, False),
            (messages.STOP, self._on_stop, True),
            (messages.WAIT, self._on_wait, False),
        ):
            self._runner.register_message(name, listener, concurrent=concurrent)
        environment.events.heartbeat_received.add_listener(self._on_heartbeat)
        environment.events.spawning_complete.add_listener(self._on_spawning_complete)
        gevent.spawn(self._watch_master)

    @property
    def busy(self) -> bool:
        """Whether a run is on, which its master will end."""
        return self._environment.load_worker is not None

    def finish(self, drain_s: float = LAST_DRAIN_S, *, serve_queued: bool = False, reason: str = "") -> None:
        """End this worker's part of the run and inform the master, with a ``reason`` if it did not ask."""
        load_worker: LoadWorker | None = self._environment.load_worker
        if load_worker is not None:
            load_worker.finish(drain_s, serve_queued=serve_queued, reason=reason)
            self._environment.load_worker = None

    # As the hand's link

    def want(self, count: int) -> None:
        """Ask the master for numbers."""
        self._runner.send_message(messages.WANT, {"run_id": self._run_id, "count": count})

    def rows(self, batch: Any, *, first: int, in_flight: int, queued: int) -> None:
        """Send a batch of rows to the master."""
        counts = {"first": first, "in_flight": in_flight, "queued": queued}
        self._runner.send_message(messages.ROWS, {"run_id": self._run_id, "rows": messages.packed(batch), **counts})

    def sessions(self, count: int) -> None:
        """Send the master the number of sessions."""
        self._runner.send_message(messages.SESSIONS, {"run_id": self._run_id, "count": count})

    def closed(self, facts: dict[str, Any]) -> None:
        """Send the master Locust's last statistics, and then that this process has ended.

        Locust itself sends the statistics when it quits, but its master waits only half a second for them, which is too
        short on a busy host.
        """
        self._runner._send_stats()
        self._runner.send_message(messages.CLOSED, {"run_id": self._run_id, "facts": facts})

    def _on_prepare(self, environment: Any, msg: Any) -> None:
        self.finish(0.0)
        self._heard()
        self._run_id = msg.data["run_id"]
        try:
            plan = plan_from_json(msg.data["plan"])
            workload = _workload(environment, plan)
            servers = messages.servers_of_worker(msg.data, self._dsn)
        except LoadgenError as error:
            hindrance = f"worker {self._runner.client_id} cannot take part: {error}"
            self._runner.send_message(messages.CONNECTED, {"run_id": self._run_id, "hindrance": hindrance})
            return
        # Before any other word: the master opens this process's history, with the clock that its times are of.
        self._runner.send_message(messages.MUSTERED, {"run_id": self._run_id, "origin": asdict(clock_origin())})
        index, count = msg.data["share"]
        load_worker = LoadWorker(
            plan,
            workload,
            *servers,
            (index, count),
            self._run_id,
            self,
            environment.stats,
            ahead_s=AHEAD_S,
            metrics=environment.load_metrics,
        )
        environment.load_worker = load_worker
        self._heard()

    def _on_spawning_complete(self, user_count: int) -> None:
        del user_count  # The master's count is that of all workers.
        load_worker = self._environment.load_worker
        if load_worker is not None and not load_worker.begun:
            gevent.spawn(self._connect, load_worker, self._run_id)

    def _connect(self, load_worker: LoadWorker, run_id: str) -> None:
        hindrance = load_worker.connect(self._runner.user_count)
        self._runner.send_message(messages.CONNECTED, {"run_id": run_id, "hindrance": hindrance})

    def _on_go(self, environment: Any, msg: Any) -> None:
        if environment.load_worker is not None and msg.data["run_id"] == self._run_id:
            environment.load_worker.begin(now_ns() + int(msg.data["lead_s"] * NS_PER_S))

    def _on_numbers(self, environment: Any, msg: Any) -> None:
        self._heard()
        load_worker: LoadWorker | None = environment.load_worker
        if load_worker is not None and msg.data["run_id"] == self._run_id:
            load_worker.supply(load_worker.workload.invoked(load_worker.plan, msg.data["first"], msg.data["count"]))

    def _on_stop(self, environment: Any, msg: Any) -> None:
        del environment
        if msg.data["run_id"] == self._run_id:
            self.finish(msg.data["drain_s"], serve_queued=msg.data["serve_queued"])

    def _on_wait(self, environment: Any, msg: Any) -> None:
        del environment
        logger.warning("a run has begun %s s ago: this worker waits for the next one", msg.data["after_s"])

    def _on_heartbeat(self, client_id: str, timestamp: float) -> None:
        del client_id, timestamp
        self._heard()

    def _heard(self) -> None:
        """The master is alive, so this worker may continue for MASTER_LOST_S."""
        self._heard_ns = now_ns()
        load_worker: LoadWorker | None = self._environment.load_worker
        if load_worker is not None:
            load_worker.scheduler.start_until(self._heard_ns + int((MASTER_LOST_S - WATCH_S) * NS_PER_S))

    def _watch_master(self) -> None:
        while True:
            gevent.sleep(WATCH_S)
            if self.busy and now_ns() - self._heard_ns > (MASTER_LOST_S - WATCH_S) * NS_PER_S:
                self.finish(0.0, reason=f"it had no word from its master for {MASTER_LOST_S:g} s")


def _workload(environment: Any, plan: Plan) -> Workload:
    """The plan's workload as this worker's locustfile has it. Raises PlanError if it has another."""
    (known,) = environment.user_classes
    workload = known.workload
    if workload.name != plan.workload:
        raise PlanError(f"its locustfile is of {workload.name}, and the run of {plan.workload}")
    assert isinstance(workload, Workload)
    return workload
