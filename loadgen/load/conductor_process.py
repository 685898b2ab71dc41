"""The conductor process as the load side uses it: start it, send commands, receive answers.

The conductor owns the servers and the control connection. It is a child of this process and stops everything as soon as
the pipe between them closes, so a crash of Locust leaves no server running.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from gevent.queue import Empty, Queue

from loadgen.errors import ClusterError
from loadgen.plan import Plan
from loadgen.report.page import columns
from loadgen.workload import Workload

START_LIMIT_S = 900.0
"""How long the conductor may be silent while it brings a cluster up: containers may be pulled first."""
FINISH_LIMIT_S = 900.0
"""And while it reads and judges a long run."""


class ConductorProcess:
    """One conductor process, for one run."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._answers: Queue[dict[str, Any]] = Queue()
        self._heard = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadgen.conduct.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if _is_open(2) else subprocess.DEVNULL,
            text=True,
            # It makes the report, and has no terminal to ask.
            env={**os.environ, "COLUMNS": str(columns())},
            start_new_session=True,  # Ctrl-C reaches the terminal's whole group; this one must outlive it to judge.
        )
        self._reader = gevent.spawn(self._read)

    def start(self, plan: Plan, workload: Workload, file: Path | None) -> dict[str, Any]:
        """Bring the plan's cluster up, with the tables of the workload in ``file``.

        Raises ClusterError in the conductor's own words.
        """
        if file is None:
            raise ClusterError(f"the workload {workload.name} is not in a file that the judge can import")
        values = {**plan.to_json(), "dsn": plan.dsn}
        self._send({"start": {"plan": values, "workload": {"name": workload.name, "file": str(file)}}})
        return self._wait("ready", START_LIMIT_S)

    def begun(self) -> None:
        """Tell the conductor that the load begins."""
        with contextlib.suppress(ClusterError):
            self._send({"begun": {}})

    def finish(self, **facts: Any) -> dict[str, Any]:
        """Wait for quiet, read, judge, report, and stop the servers. Raises ClusterError if the conductor is gone."""
        self._send({"finish": facts})
        done = self._wait("done", FINISH_LIMIT_S)
        self.close()
        return done

    def abandon(self) -> None:
        """Tell the conductor to stop its servers now, and do not wait for it."""
        with contextlib.suppress(ClusterError):
            self._send({"abandon": {}})

    def close(self) -> None:
        """Close the pipe: the conductor stops every server that it started, and ends."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.kill(block=False)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise ClusterError("the conductor process ended; its last output, if any, is above") from error

    def _wait(self, wanted: str, silence_s: float) -> dict[str, Any]:
        message: dict[str, Any] | None = None
        while message is None:
            heard = self._heard
            try:
                message = self._answers.get(timeout=silence_s)
            except Empty:
                # Whoever fills a large table says so, and takes as long as it takes.
                if heard == self._heard:
                    raise ClusterError(f"the conductor process sent nothing for {silence_s:g} s") from None
        if wanted in message:
            return dict(message[wanted])
        raise ClusterError(str(message.get("error", "the conductor process ended without an answer")))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard += 1
            try:
                message = json.loads(line)
            except ValueError:
                self._say(line.rstrip())
                continue
            if "say" in message:
                self._say(message["say"])
            else:
                self._answers.put(message)
        self._answers.put({"error": "the conductor process ended without an answer"})


def _is_open(descriptor: int) -> bool:
    """Whether a child can inherit it: of a closed one it would make another file of its own."""
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False
