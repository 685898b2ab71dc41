"""The exit code of a run. No other code's hook may hide it."""

import contextlib
import logging
import os
import sys

_ours: int | None = None


def set_ours(exit_code: int) -> None:
    """The latest run's."""
    global _ours
    _ours = exit_code


def ours() -> int | None:
    """The latest run's; None while there is none that has ended."""
    return _ours


def leave_with_ours() -> None:
    """Runs last in the interpreter if the latest run did not end with 0; another hook's exit code is kept then."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            # Python would try again, and change the exit code when it fails.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if _ours:
        logging.shutdown()
        os._exit(_ours)
