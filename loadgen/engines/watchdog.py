"""The guard against a server that is frozen: connections that wait far beyond every timeout of the server are cut.

A statement has its timeouts on the server, so the hot path sets none of its own: a timer for each call would cost
more than the call's own share of the client. A frozen server keeps no timeout, and a frozen network brings no error.
So each connection counts a step when it starts to wait and another when the answer is there, and one timer for each
event loop looks at the counts now and then.
"""

import asyncio
from typing import Protocol
from weakref import WeakKeyDictionary

from loadgen.engines.engine import STATEMENT_TIMEOUT_S

LOOK_EVERY_S = 1.0
STUCK_AFTER_S = 3 * STATEMENT_TIMEOUT_S
"""How long a connection may wait for one answer: well above what the server itself allows a statement."""


class Watched(Protocol):
    """A connection under watch."""

    steps: int
    """Odd while it waits for an answer; never set back."""

    def abort(self) -> None:
        """Cut the connection at once, so that its waiters get the driver's error for a lost connection."""


class Watchdog:
    """Watches the connections of one event loop. Its timer runs only while there are any."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._seen: dict[Watched, tuple[int, float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Watched) -> None:
        """Watch ``connection`` until it is removed or aborted."""
        self._seen[connection] = (connection.steps, self._loop.time())
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)

    def remove(self, connection: Watched) -> None:
        """Watch it no longer; harmless where it was not watched."""
        self._seen.pop(connection, None)
        if not self._seen and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self._loop.time()
        for connection, (steps, since) in list(self._seen.items()):
            if connection.steps != steps:
                self._seen[connection] = (connection.steps, now)
            elif steps % 2 and now - since > STUCK_AFTER_S:
                del self._seen[connection]
                connection.abort()
        self._timer = self._loop.call_later(LOOK_EVERY_S, self._look) if self._seen else None


_watchdogs: WeakKeyDictionary[asyncio.AbstractEventLoop, Watchdog] = WeakKeyDictionary()


def watchdog() -> Watchdog:
    """The watchdog of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _watchdogs.get(loop)
    if found is None:
        found = _watchdogs[loop] = Watchdog(loop)
    return found
