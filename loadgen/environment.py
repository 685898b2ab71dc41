"""The environment's variables that are loadgen's, and those that only look so: a misspelt one would change nothing."""

import difflib
import re
from collections.abc import Iterable, Mapping

PREFIX = "LOADGEN_"
KNOWN = (
    *("CACHE", "CONNECTIONS", "DSN", "EXPEL_TIMEOUT", "KEEP", "MEMORY", "MYSQLD", "PASSWORD", "REQUIRE_CONTAINERS"),
    *("REQUIRE_ENGINES", "REQUIRE_JUDGES", "REQUIRE_SERVERS", "RUN", "SABOTAGE_ALONE", "SABOTAGE_TRIES"),
    *("TIDB_SERVER", "TOKEN"),
)
"""Without the prefix, those that are no option of a run."""
_OTHERS = re.compile(r"IMAGE_[A-Z]+|PORT_\d+|TRIALS?_\w+|PORT(_\d+_TCP(_\w+)?)?|SERVICE_(HOST|PORT)(_\w+)?")
"""Of images and of compose files, of trials, and what Kubernetes gives to a pod beside a service called loadgen."""
CLOSE = 0.8


def misspelt(environ: Mapping[str, str], options: Iterable[str]) -> list[str]:
    """A line for each variable that no part of loadgen reads; ``options`` are the names of a run's, in lower case."""
    known = {*KNOWN, *(name.upper() for name in options)}
    lines = []
    for variable in sorted(environ):
        name = variable[len(PREFIX) :]
        if not variable.upper().startswith(PREFIX) or name in known or _OTHERS.fullmatch(name):
            continue
        if not re.fullmatch(r"(?a)\w{1,60}", name):
            continue
        close = difflib.get_close_matches(name.upper(), sorted(known), 1, CLOSE)
        hint = f"did you mean {PREFIX}{close[0]}?" if close else "it changes nothing"
        lines.append(f"{variable} is no variable of loadgen: {hint}")
    return lines
