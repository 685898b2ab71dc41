"""The conductor, ``python -m loadgen.run``: everything of a run that is not the load itself, in a plain process.

The load side starts it in its own process session and exchanges JSON lines with it: ``start`` brings the cluster up and
prepares it (answered by ``ready`` or ``error``), ``begun`` says that the load begins, ``finish`` waits for quiet,
reads, judges, reports and stops (answered by ``done``). ``say`` lines report progress. On ``abandon``, on SIGTERM, and
when its standard input ends because the load side died, it stops every server at once.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import IO, Any

from loadgen.conduct.conductor import Conductor
from loadgen.errors import LoadgenError

EXIT_OWN_ERROR = 1
EXIT_SET_UP = 2
LOOK_EVERY_S = 0.2
"""How often the main thread looks for a signal while it waits for a message."""
STOP_GRACE_S = 1.0
"""How long the main thread may take to notice that the load side is gone, before this process stops without it."""
STOPPING_S = 10.0
"""How long stopping the servers may take then, before this process ends and takes them with it."""


class Abandoned(BaseException):
    """The load side is gone, or wants no verdict: stop. Not an Exception: no handler of errors may swallow it."""


def main() -> int:
    """Conduct one run over standard input and output. All other output goes to standard error."""
    lines_in, lines_out = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    line = Line(lines_in, lines_out)
    line.conductor = conductor = Conductor(lambda text: line.send({"say": text}))
    last: dict[str, Any] = {"error": "the run was abandoned", "exit_code": EXIT_OWN_ERROR}
    try:
        try:
            line.listen()
            last = converse(line, conductor)
        finally:
            # Past this line nothing interrupts any more, so the servers are stopped for certain.
            line.leave()
    except Abandoned:
        pass
    finally:
        conductor.close()
        line.stopped()
    with contextlib.suppress(Abandoned):
        line.send(last)
    return EXIT_OWN_ERROR if "error" in last else 0


def converse(line: "Line", conductor: Conductor) -> dict[str, Any]:
    """One run's conversation; its last message, which is sent once the servers are stopped."""
    try:
        while True:
            message = line.receive()
            if "start" in message:
                line.send(conductor.start(message["start"]))
            elif "begun" in message:
                conductor.begun()
            elif "finish" in message:
                return conductor.finish(message["finish"])
    except LoadgenError as error:
        return {"error": _one_line(str(error)), "exit_code": EXIT_SET_UP}
    except Exception as error:  # noqa: BLE001 - our own mistake: told in one line, its traceback in the log
        conductor.log(traceback.format_exc())
        text = f"loadgen's own error, {type(error).__name__}: {error}{conductor.where()}"
        return {"error": _one_line(text), "exit_code": EXIT_OWN_ERROR}


class Line:
    """The two pipes to the load side, and what happens to the conductor when they break."""

    def __init__(self, lines_in: IO[str], lines_out: IO[str]) -> None:
        self._in = lines_in
        self._out = lines_out
        self._inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._leaving = threading.Event()
        self._stopped = threading.Event()
        self.conductor: Conductor | None = None

    def listen(self) -> None:
        """Let SIGTERM, or the end of the input, interrupt the main thread at any time. Call it in the main thread."""
        # Handlers, not SIG_IGN: that would be passed on to the servers.
        for ignored in (signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, _ignore)
        signal.signal(signal.SIGTERM, self._interrupt)
        threading.Thread(target=self._read, name="input", daemon=True).start()

    def receive(self) -> dict[str, Any]:
        """The next message."""
        # A signal that comes just before the wait, or goes to the other thread, does not end it: so it ends by itself.
        while True:
            with contextlib.suppress(queue.Empty):
                return self._inbox.get(timeout=LOOK_EVERY_S)

    def send(self, message: dict[str, Any]) -> None:
        """Send one message. Raises Abandoned if the load side is gone."""
        try:
            self._out.write(json.dumps(message, default=str) + "\n")
            self._out.flush()
        except OSError as error:
            raise Abandoned from error

    def leave(self) -> None:
        """From here on nothing interrupts the main thread: it stops the servers and ends."""
        self._leaving.set()

    def stopped(self) -> None:
        """The servers are stopped: nothing is left to watch."""
        self._stopped.set()

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        if not self._leaving.is_set():
            self._leaving.set()
            raise Abandoned

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for text in self._in:
                message = json.loads(text)
                if "abandon" in message:
                    break
                self._inbox.put(message)
        # To the main thread itself: only then does a call that it waits in return.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        if self._leaving.wait(STOP_GRACE_S):
            if self._stopped.wait(STOPPING_S):
                return
        elif self.conductor is not None:
            # Deep in one call of numpy or of a driver, the main thread sees no signal: so the servers are stopped here.
            self.conductor.stop_servers()
        os._exit(EXIT_OWN_ERROR)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """Ctrl-C and a closed terminal are the load side's to answer."""


if __name__ == "__main__":
    sys.exit(main())
