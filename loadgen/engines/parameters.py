"""The connection settings that loadgen understands, from a DSN, the environment or a file.

Each setting is understood, or refused by its name and source. No setting is ignored, and none is sent to a server that
would misunderstand it. A message never holds a value.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from loadgen.errors import PlanError


class Given(NamedTuple):
    """One setting: its value, and where it comes from as a message says it."""

    value: str
    source: str


def from_dsn(settings: Mapping[str, str]) -> dict[str, Given]:
    """The settings of a DSN."""
    return {name: Given(value, _of_dsn(name)) for name, value in settings.items()}


def from_environment(environ: Mapping[str, str], names: Mapping[str, str]) -> dict[str, Given]:
    """The settings that variables give: ``names`` has the setting of each. An empty variable is none."""
    return {name: Given(environ[variable], variable) for variable, name in names.items() if environ.get(variable)}


def understood(
    given: Mapping[str, Given], kept: Mapping[str, Sequence[str]], met: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Those of ``given`` that mean something to a connection.

    ``kept`` are the names of these, each with the values that it may have; ``met`` are those whose values ask for what
    holds anyway. Neither's empty list takes any. Raises PlanError for all else.
    """
    found = {}
    for name, (value, source) in given.items():
        choices = kept.get(name, met.get(name))
        if choices is None:
            raise PlanError(f"{source} is not a parameter that loadgen understands: leave it out")
        if choices is NUMBER:
            if not (value.isascii() and value.isdecimal() and len(value) < 8):
                raise PlanError(f"{source} is not a whole number")
        elif choices and value.lower() not in choices:
            raise PlanError(f"{source} can't be kept: loadgen knows {name} as {', '.join(choices)} only")
        if name in kept:
            found[name] = value.lower() if choices and choices is not NUMBER else value
    return found


def _of_dsn(name: str) -> str:
    if name.startswith("parameter "):
        return f"{name} of the DSN"
    # A name that is none may be a piece of a password.
    return f"the DSN's {name}" if re.fullmatch(r"(?a)[A-Za-z][\w.-]{0,40}", name) else "a parameter of the DSN"


NUMBER = ("a whole number",)
"""Means any whole number among the values of a setting."""
