"""The beat of a run's lock: a thread that renews the row which says whose run the server serves.

It has a control connection of its own, opened again whenever it is lost: the lock is a row, so no connection has to
stay open for it, and a proxy's or a server's time-out for idle ones never meets it.
"""

import threading
from collections.abc import Callable
from contextlib import suppress

from loadgen.engines.engine import Control
from loadgen.errors import ClusterError, LockLost

BEAT_S = 2.0
"""The pause between two beats: a few of them may be missed before the lock no longer counts as held."""
STOP_WITHIN_S = 8.0
"""How long ``stop`` waits for a beat under way."""


class Heartbeat:
    """Beats from its making until ``stop``. ``opened`` opens a control connection; ``say`` hears of what goes wrong."""

    def __init__(self, opened: Callable[[], Control], say: Callable[[str], None]) -> None:
        self.lost = ""
        """Why the lock is no longer this run's; empty while it is, as far as is known."""
        self._opened = opened
        self._say = say
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop beating. Idempotent."""
        self._stopping.set()
        self._thread.join(STOP_WITHIN_S)

    def _beat(self) -> None:
        control: Control | None = None
        while not self._stopping.wait(BEAT_S):
            try:
                control = control or self._opened()
                control.beat()
            except LockLost as lost:
                self.lost = str(lost)
                self._say(self.lost)
                break
            except ClusterError as error:
                # Whether the row is still ours is asked again by the next beat, on a new connection.
                self._say(f"the lock was not renewed: {error}")
                _close(control)
                control = None
        _close(control)


def _close(control: Control | None) -> None:
    if control is not None:
        with suppress(ClusterError):
            control.close()
