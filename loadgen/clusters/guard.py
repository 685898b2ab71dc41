"""``python -m loadgen.clusters.guard RUN LOGS``: removes a run's containers when the run is gone, however it went.

A small process beside the one that started the containers. It waits for a line: "done" ends it; the end of its
standard input, which comes with any death of its parent, SIGKILL too, makes it remove what carries the run's label.
"""

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ENDS_WITHIN_S = 30.0


class Guard:
    """The guard of one run, as its parent holds it."""

    def __init__(self, run: str, logs: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadgen.clusters.guard", run, str(logs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Everything is removed already, or stays on purpose: the guard ends and does nothing. Idempotent."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with suppress(OSError):
                self._process.stdin.write(b"done\n")
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDS_WITHIN_S)


def main() -> None:
    """Wait for the run's end, and remove what it left."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    run, logs = sys.argv[1:]
    if sys.stdin.readline().strip() == "done":
        return
    from loadgen.clusters.daemon import docker_client, remove_run, save_logs

    client = docker_client()
    save_logs(client, run, Path(logs))
    remove_run(client, run)


if __name__ == "__main__":
    main()
