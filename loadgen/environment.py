"""The environment's variables that are loadgen's, and those that only look so: a misspelt one would change nothing."""

import difflib
import re
from collections.abc import Iterable, Mapping

from loadgen.databases import SERVER_BINARIES

PREFIX = "LOADGEN_"
KNOWN = (
    *("CACHE", "CONNECTIONS", "DSN", "EXPEL_TIMEOUT", "KEEP", "MEMORY", "PASSWORD", "REQUIRE_CONTAINERS"),
    *("REQUIRE_ENGINES", "REQUIRE_JUDGES", "REQUIRE_SERVERS", "RUN", "SABOTAGE_ALONE", "SABOTAGE_TRIES"),
    "TOKEN",
    *(server.variable.removeprefix(PREFIX) for server in SERVER_BINARIES.values()),
)
"""Without the prefix, those that are no option of a run."""
_OTHERS = re.compile(r"IMAGE_[A-Z]+|PORT_\d+|TRIALS?_\w+|PORT(_\d+_TCP(_\w+)?)?|SERVICE_(HOST|PORT)(_\w+)?")
"""Of images and of compose files, of trials, and what Kubernetes gives to a pod beside a service called loadgen."""
CLOSE = 0.86


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
        # With the prefix, so that a short name with two letters exchanged is close, too.
        whole = sorted(PREFIX + one for one in known)
        close = difflib.get_close_matches(variable.upper(), whole, 1, CLOSE)
        if "://" in environ[variable]:
            close = [f"{PREFIX}DSN"]
        hint = f"did you mean {close[0]}?" if close else "it changes nothing"
        lines.append(f"{variable} is no variable of loadgen: {hint}")
    return lines
