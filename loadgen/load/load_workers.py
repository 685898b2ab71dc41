"""The load workers of a run as its controller sees them: one in the same process, or one in each Locust worker."""

from collections.abc import Callable
from typing import Any, Protocol

import gevent
from locust.dispatch import UsersDispatcher

from loadgen.clock import NS_PER_S, ClockOrigin, clock_origin, now_ns
from loadgen.load import messages
from loadgen.load.authentication import is_loopback
from loadgen.load.load_worker import CONNECT_LIMIT_S, LoadWorker
from loadgen.load.run_controller import RunController

LEAD_S = 0.1
"""Between "all connected" and the first instant of the schedule."""
MISSING_LIMIT_S = 8.0
"""How long a worker may say nothing, beyond Locust's own patience, before the run is refused without it."""
WAIT_S = 1.0
"""After this time, a worker that came late gets the message to wait."""
ANSWER_LIMIT_S = 4.0
"""How much longer than its own drain a worker may take to say that it has closed."""


def lost_early(gone: int, count: int) -> str:
    """What is said where load processes are gone before the load has begun."""
    return (
        f"{gone} of {count} load processes ended before the load began, and their part of it would be missing: start "
        "the run again"
    )


class LoadWorkers(Protocol):
    """All hands of one run."""

    def start_all(self, controller: RunController) -> None:
        """Make the hands, before Locust starts any user."""

    def connected(self, sessions: int) -> str:
        """Wait until all sessions are connected; else what hinders, in one line."""

    @property
    def all_lost(self) -> bool:
        """Whether no load process is left to drive the load."""

    def begin(self) -> int:
        """Begin the load; the instant at which the schedule starts."""

    def stop(self, drain_s: float, *, serve_queued: bool) -> None:
        """Stop the load and wait, bounded, until every load worker has delivered its rows."""


class LocalWorkers:
    """One load worker, in the controller's own process."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._controller: RunController | None = None
        self._load_worker: LoadWorker | None = None

    def start_all(self, controller: RunController) -> None:
        """Create the load worker."""
        controller.open("0", clock_origin(), (0, 1))
        self._controller = controller
        servers = messages.servers(controller.ready)
        self._load_worker = LoadWorker(
            controller.plan,
            controller.workload,
            *servers,
            (0, 1),
            controller.ready["run_id"],
            self,
            self._environment.stats,
            metrics=self._environment.load_metrics,
        )
        self._environment.load_worker = self._load_worker

    def connected(self, sessions: int) -> str:
        """Wait for the sessions."""
        return self._load_worker.connect(sessions) if self._load_worker is not None else "no load process"

    all_lost = False

    def begin(self) -> int:
        """Begin, a moment from now."""
        assert self._load_worker is not None
        start_ns = now_ns() + int(LEAD_S * NS_PER_S)
        self._load_worker.begin(start_ns)
        return start_ns

    def stop(self, drain_s: float, *, serve_queued: bool) -> None:
        """Stop the load worker."""
        if self._load_worker is not None:
            self._load_worker.finish(drain_s, serve_queued=serve_queued)
        self._environment.load_worker = None

    # As the hand's link: head and hand talk by plain calls.

    def want(self, count: int) -> None:
        """Ask the controller, and supply the numbers at once."""
        assert self._controller is not None
        columns = self._controller.hand_out("0", count)
        if columns is not None and self._load_worker is not None:
            self._load_worker.supply(columns)

    def rows(self, batch: Any, *, first: int, in_flight: int, queued: int) -> None:
        """Give a batch of rows."""
        assert self._controller is not None
        self._controller.record("0", batch, first=first, in_flight=in_flight, queued=queued)

    def sessions(self, count: int) -> None:
        """Say how many sessions there are."""
        assert self._controller is not None
        self._controller.sessions("0", count)

    def closed(self, facts: dict[str, Any]) -> None:
        """Say that this process has ended in order."""
        assert self._controller is not None
        self._controller.closed("0", facts)


class RemoteWorkers:
    """One load worker in each Locust worker, reached by messages through the master."""

    def __init__(self, environment: Any) -> None:
        self._runner = runner = environment.runner
        environment.dispatcher_class = self._dispatcher
        environment.events.worker_connect.add_listener(self._on_worker_connect)
        self._controller: RunController | None = None
        self._names: dict[str, str] = {}
        self._missing_since: dict[str, int] = {}
        self._connected: dict[str, str] = {}
        for name, listener in (
            (messages.MUSTERED, self._on_mustered),
            (messages.CONNECTED, self._on_connected),
            (messages.WANT, self._on_want),
            (messages.ROWS, self._on_rows),
            (messages.SESSIONS, self._on_sessions),
            (messages.CLOSED, self._on_closed),
        ):
            runner.register_message(name, listener)

    def start_all(self, controller: RunController) -> None:
        """Send every worker the plan and its share. Workers that come later take no part in this run."""
        self._controller = controller
        self._connected = {}
        clients = [client.id for client in self._runner.clients.ready]
        self._names = {client: str(index) for index, client in enumerate(clients)}
        for client, name in self._names.items():
            message = {
                "run_id": controller.ready["run_id"],
                "plan": {**controller.plan.to_json(), "dsn": ""},
                **messages.servers_to_tell(controller.ready, on_this_host=is_loopback(self._runner.master_bind_host)),
                "share": [int(name), len(clients)],
            }
            self._runner.send_message(messages.PREPARE, message, client)

    def connected(self, sessions: int) -> str:
        """Wait until every worker has said that its sessions are connected."""
        del sessions  # Each worker knows its own.
        deadline = now_ns() + int((CONNECT_LIMIT_S + ANSWER_LIMIT_S) * NS_PER_S)
        while now_ns() < deadline:
            for hindrance in self._connected.values():
                if hindrance:
                    return hindrance
            if gone := self._gone_early():
                return gone
            if all(client in self._connected for client in self._names):
                return ""
            gevent.sleep(0.02)
        return f"{len(self._connected)} of {len(self._names)} load processes connected their sessions in time"

    def _gone_early(self) -> str:
        """Which workers are gone since they were given their parts: the others would leave those undone."""
        controller, present, now = self._controller, set(self._present()), now_ns()
        gone = []
        for client, name in self._names.items():
            # On a busy host one that lives may say nothing for some seconds: Locust calls it missing, and heals it.
            missing_ns = 0 if client in present else now - self._missing_since.setdefault(client, now)
            if client in present:
                self._missing_since.pop(client, None)
            is_out = client not in self._runner.clients or (
                controller is not None and name in controller.closed_processes
            )
            if is_out or missing_ns > MISSING_LIMIT_S * NS_PER_S:
                gone.append(name)
        return lost_early(len(gone), len(self._names)) if gone else ""

    @property
    def all_lost(self) -> bool:
        """Whether every worker of this run is gone, or has ended its part."""
        controller = self._controller
        return controller is not None and not controller.open_processes(
            self._names[client] for client in self._present()
        )

    def begin(self) -> int:
        """Begin on every worker: each starts a moment after it hears of it."""
        self._send(messages.GO, {"lead_s": LEAD_S})
        return now_ns() + int(LEAD_S * NS_PER_S)

    def stop(self, drain_s: float, *, serve_queued: bool) -> None:
        """Stop every worker; one that does not answer in time has died, and its open ops are info."""
        controller = self._controller
        if controller is None:
            return
        self._send(messages.STOP, {"drain_s": drain_s, "serve_queued": serve_queued})
        deadline = now_ns() + int((drain_s + ANSWER_LIMIT_S) * NS_PER_S)
        while now_ns() < deadline:
            waited_for = [self._names[client] for client in self._present()]
            if not controller.open_processes(waited_for):
                break
            gevent.sleep(0.02)
        self._controller = None

    def _dispatcher(self, worker_nodes: list[Any], user_classes: list[Any]) -> UsersDispatcher:
        """Locust's own. Workers that come during a run get no users, because they take no part in it."""
        return _SteadyDispatcher(self._has_part, worker_nodes, user_classes)

    def _has_part(self, client: str) -> bool:
        return self._controller is None or client in self._names

    def _on_worker_connect(self, client_id: str) -> None:
        controller = self._controller
        if controller is not None and not self._has_part(client_id):
            controller.note(f"a worker came {controller.elapsed_s:.0f} s after the begin: it waits for the next run")
            told = {"after_s": round(controller.elapsed_s)}
            # A little later: it connects before it listens.
            gevent.spawn_later(WAIT_S, self._runner.send_message, messages.WAIT, told, client_id)

    def _present(self) -> list[str]:
        """The workers of this run that Locust does not know to be gone."""
        missing = {client.id for client in self._runner.clients.missing}
        return [client for client in self._names if client in self._runner.clients and client not in missing]

    def _send(self, message: str, data: dict[str, Any]) -> None:
        assert self._controller is not None
        for client in self._names:
            if client in self._runner.clients:
                self._runner.send_message(message, {"run_id": self._controller.ready["run_id"], **data}, client)

    def _speaker(self, msg: Any) -> str | None:
        """The name of the load process that sent ``msg``, if it is one of this run."""
        controller = self._controller
        ours = controller is not None and msg.data["run_id"] == controller.ready.get("run_id")
        return self._names.get(msg.node_id) if ours else None

    def _on_mustered(self, environment: Any, msg: Any) -> None:
        del environment
        name = self._speaker(msg)
        if name is not None and self._controller is not None:
            share = (int(name), len(self._names))
            self._controller.open(name, ClockOrigin(**msg.data["origin"]), share)

    def _on_connected(self, environment: Any, msg: Any) -> None:
        del environment
        if self._speaker(msg) is not None:
            self._connected[msg.node_id] = msg.data["hindrance"]

    def _on_want(self, environment: Any, msg: Any) -> None:
        del environment
        name = self._speaker(msg)
        if name is not None and self._controller is not None:
            columns = self._controller.hand_out(name, msg.data["count"])
            if columns is not None:
                first, count = int(columns["number"][0]), len(columns["number"])
                data = {"run_id": msg.data["run_id"], "first": first, "count": count}
                self._runner.send_message(messages.NUMBERS, data, msg.node_id)

    def _on_rows(self, environment: Any, msg: Any) -> None:
        del environment
        name = self._speaker(msg)
        if name is not None and self._controller is not None:
            batch = messages.unpacked(msg.data["rows"])
            counts = {count: msg.data[count] for count in ("first", "in_flight", "queued")}
            self._controller.record(name, batch, **counts)

    def _on_sessions(self, environment: Any, msg: Any) -> None:
        del environment
        name = self._speaker(msg)
        if name is not None and self._controller is not None:
            self._controller.sessions(name, msg.data["count"])

    def _on_closed(self, environment: Any, msg: Any) -> None:
        del environment
        name = self._speaker(msg)
        if name is not None and self._controller is not None:
            self._controller.closed(name, msg.data["facts"])
            if self._controller.begun and not self._controller.ending and self.all_lost:
                gevent.spawn(self._controller.on_deserted)


class _SteadyDispatcher(UsersDispatcher):
    """Spreads users over the workers that ``has_part`` in the run. Locust would take users from them for any other."""

    def __init__(self, has_part: Callable[[str], bool], worker_nodes: list[Any], user_classes: list[Any]) -> None:
        self._has_part = has_part
        super().__init__([node for node in worker_nodes if has_part(node.id)], user_classes)

    def add_worker(self, worker_node: Any) -> None:
        """Take a worker in, if it has a part in the run."""
        if self._has_part(worker_node.id):
            super().add_worker(worker_node)
