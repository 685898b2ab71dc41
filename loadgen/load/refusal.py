"""The end of a process that cannot do what its user asked for."""

import sys
from typing import NoReturn


def refuse(message: str, exit_code: int = 2) -> NoReturn:
    """End with one line on stderr: what a user's mistake gets."""
    print(f"loadgen: {message}", file=sys.stderr, flush=True)  # noqa: T201
    raise SystemExit(exit_code)
