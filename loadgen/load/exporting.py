"""A sample of the ops for listeners to Locust's ``events.request``, such as exporters of metrics.

An event costs more CPU than an op may, and a listener may wait for a network. So at most some hundred ops per second
are reported, evenly picked, from a separate greenlet. The context of each says how many ops it represents.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from locust import events

from loadgen.clock import NS_PER_MS, NS_PER_S, now_ns
from loadgen.op import Completion, Outcome, Stage

logger = logging.getLogger("loadgen")

MOST_EACH_BATCH = 50
"""Ops reported per batch. There are about ten batches per second."""
MOST_WAITING = 2_000
"""Ops that wait for a slow listener: the oldest are dropped."""


class OpError(Exception):
    """Why an op did not end ok, as an event's exception."""


class RequestEvents:
    """Reports ops to the listeners. Costs nothing without listeners."""

    def __init__(self, method: str, name_of: Callable[[int, int, int], str]) -> None:
        self._method = method
        self._name_of = name_of
        self._waiting: deque[tuple[Completion, int]] = deque(maxlen=MOST_WAITING)
        self._teller: gevent.Greenlet | None = None
        self._complained = False

    def tell(self, rows: Sequence[Completion]) -> None:
        """Report some of these finished ops, soon."""
        if not _listeners():
            return
        step = -(-len(rows) // MOST_EACH_BATCH)
        self._waiting.extend((row, step) for row in rows[::step] if row.outcome != Outcome.SKIPPED)
        if self._teller is None or self._teller.ready():
            self._teller = gevent.spawn(self._run)

    def settle(self, within_s: float) -> None:
        """Wait until all are reported, at most this long."""
        if self._teller is not None:
            self._teller.join(within_s)

    def _run(self) -> None:
        while self._waiting:
            row, step = self._waiting.popleft()
            event = self._event(row, step)
            for listener in _listeners():
                try:
                    listener(**event)
                except Exception:
                    if not self._complained:
                        self._complained = True
                        logger.exception("a listener to events.request failed; this is reported once")
            gevent.sleep(0)

    def _event(self, row: Completion, step: int) -> dict[str, Any]:
        outcome = Outcome(row.outcome)
        failed = outcome != Outcome.OK
        text = f"{row.code} at {Stage(row.stage).name.lower()}: {outcome.name.lower()}"
        return {
            "request_type": self._method,
            "name": self._name_of(row.kind, row.answer, row.outcome),
            "response_time": (row.done - row.due) / NS_PER_MS,
            "response_length": 0,
            "response": None,
            "url": None,
            "context": {"one_of": step, "outcome": outcome.name.lower(), "tries": row.tries},
            "exception": OpError(text) if failed else None,
            "start_time": time.time() - (now_ns() - row.sent) / NS_PER_S,
        }


def _listeners() -> list[Callable[..., object]]:
    """All listeners except Locust, which receives the figures of all ops another way."""
    return [each for each in events.request._handlers if not _is_locusts(each)]


def _is_locusts(listener: Any) -> bool:
    return str(getattr(listener, "__module__", "")).startswith("locust.")
