"""The output of a run. It never waits for a stream, which may be closed, full or unread.

A write to a suspended terminal, or to a pipe whose reader sleeps, would block the process and the load. A write to a
pipe without a reader, or to a full disk, would raise in the code that prints. The run continues in all these cases.
"""

import os
import sys
import time
from collections import deque
from contextlib import suppress
from typing import TextIO

import gevent
from gevent import monkey

from loadgen.report.page import HANDLER

CHUNK = 512
"""Bytes written at a time: a stream that is ready takes as many at once."""
MOST_WAITING = 2_000
"""Texts kept for a stream that takes none: the oldest are dropped."""
FLUSH_WITHIN_S = 5.0
POLL_S = 0.02


class Output:
    """One of the process's two streams."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._broken = False

    def use(self, name: str) -> None:
        """Print on the other stream from now on."""
        self._name = name

    def say(self, text: str) -> None:
        """Print ``text`` as a line, now or as soon as the stream takes it."""
        stream: TextIO | None = getattr(sys, self._name)
        if stream is None or self._broken:
            return
        try:
            descriptor = stream.fileno()
            stream.flush()
            self._waiting.append(f"{text}\n".encode(stream.encoding or "utf-8", HANDLER))
            self._write(descriptor)
        except OSError:
            self._give_up()
        except ValueError:  # no stream of the operating system's, or one that is closed
            with suppress(OSError, ValueError):
                stream.write(f"{text}\n")

    def flush(self, within_s: float = FLUSH_WITHIN_S) -> None:
        """Return once all is printed, or after ``within_s`` seconds."""
        deadline = time.monotonic() + within_s
        while self._waiting and not self._broken and time.monotonic() < deadline:
            gevent.sleep(POLL_S)
            try:
                self._write(getattr(sys, self._name).fileno())
            except (OSError, ValueError, AttributeError):
                self._give_up()

    def _write(self, descriptor: int) -> None:
        ready = monkey.get_original("select", "select")
        while self._waiting and ready([], [descriptor], [], 0)[1]:
            text = self._waiting.popleft()
            written = os.write(descriptor, text[:CHUNK])
            if written < len(text):
                self._waiting.appendleft(text[written:])

    def _give_up(self) -> None:
        """Nobody reads the stream, but other code may still print to it."""
        self._waiting.clear()
        self._broken = True
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, getattr(sys, self._name).fileno())
            os.close(nowhere)


OUT = Output("stdout")
"""Progress and report."""
ERRORS = Output("stderr")
"""What went wrong, a line each."""


def complain(message: str) -> None:
    """Say on standard error, in one line, what went wrong."""
    ERRORS.say(f"loadgen: {message}")
    ERRORS.flush(1.0)
