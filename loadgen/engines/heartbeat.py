"""The beat of a run's lock: a thread that renews the row which says whose run the server serves.

It has a control connection of its own, opened again whenever it is lost: the lock is a row, so no connection has to
stay open for it, and a proxy's or a server's time-out for idle ones never meets it.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from loadgen.engines.engine import Control
from loadgen.errors import ClusterError, LockLost

BEAT_S = 2.0
"""The pause between two beats: a few of them may be missed before the lock no longer counts as held."""
LOOK_EVERY_S = 0.05
STOP_WITHIN_S = 1.0
"""How long ``stop`` waits for a beat under way. One that hangs longer ends by itself, and changes nothing any more."""

T = TypeVar("T")


class SilentError(ClusterError):
    """The server gives no answer at all."""


class Heartbeat:
    """Beats from its making until ``stop``. ``opened`` opens a control connection; ``say`` hears of what goes wrong.

    The first connection is there before anything else needs one: ClusterError if it can't be had.
    """

    def __init__(self, opened: Callable[[], Control], say: Callable[[str], None]) -> None:
        self.lost = ""
        """Why the lock is no longer this run's; empty while it is, as far as is known."""
        self._answered_s = time.monotonic()
        self._opened = opened
        self._say = say
        self._stopping = threading.Event()
        self._control: Control | None = opened()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat that the server answered."""
        return time.monotonic() - self._answered_s

    def unless_silent(self, step: Callable[[], T], limit_s: float) -> T:
        """What ``step`` returns, or raises. SilentError after ``limit_s`` seconds without an answer.

        A frozen server would block the step until its own timeouts. The step then continues in a separate thread, which
        ends with the process. Nothing that it uses may be used any more.
        """
        results: list[T] = []
        errors: list[BaseException] = []

        def take() -> None:
            try:
                results.append(step())
            except BaseException as error:  # noqa: BLE001 - it is raised again by whoever waits
                errors.append(error)

        thread = threading.Thread(target=take, name="bounded step", daemon=True)
        began_s = time.monotonic()
        thread.start()
        while thread.is_alive():
            thread.join(LOOK_EVERY_S)
            # Of a server that was only busy a beat comes back as soon as the load is over.
            if self.silent_s > limit_s and time.monotonic() - began_s > BEAT_S:
                raise SilentError(f"the server has given no answer for {self.silent_s:.0f} s")
        if errors:
            raise errors[0]
        return results[0]

    def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        """Stop beating, and wait at most ``within_s`` seconds for a beat under way. Idempotent."""
        self._stopping.set()
        self._thread.join(within_s)

    def _beat(self) -> None:
        control = self._control
        while not self._stopping.wait(BEAT_S):
            try:
                control = control or self._opened()
                control.beat()
                self._answered_s = time.monotonic()
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
