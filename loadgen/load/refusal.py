"""The end of a process that cannot do what its user asked for."""

from typing import NoReturn

from loadgen.load.output import complain


def refuse(message: str, exit_code: int = 2) -> NoReturn:
    """End with one line on stderr: what a user's mistake gets."""
    complain(message)
    raise SystemExit(exit_code)
