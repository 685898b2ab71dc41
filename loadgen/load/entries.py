"""The verdict among Locust's failures, exceptions and logs, so that its page, CSV and HTML files hold it too."""

import logging
import time
from typing import Any

from locust.stats import StatsError

from loadgen.load.run_controller import Ending

logger = logging.getLogger("loadgen")

METHOD = "verdict"
"""The "method" of these entries."""
CODES = {1: "an error", 2: "set-up failed", 3: "an objective was missed"}
MOST_WITNESSES = 5


def show_ending(runner: Any, ending: Ending) -> bool:
    """Show how a run ended. True if the run is not simply valid, which Locust's own figures do not show.

    One entry for the verdict, with the reason, and one for each check that found something.
    """
    where = f"the whole of it: loadgen report {ending.run_dir}" if ending.run_dir else ""
    if ending.exit_code == 0:
        headline = " ".join(ending.report.partition("\n")[0].split())
        logger.info("%s; %s", headline, where)
        return False
    found = [f"{check['name']} {check['anomalies']:,}" for check in ending.found]
    title = ending.verdict.upper()
    reason = ", ".join(found) or ending.reason or CODES.get(ending.exit_code, "")
    headline = f"{title or 'NOT JUDGED'} (exit code {ending.exit_code}): {reason or ' '.join(ending.report.split())}"
    logger.warning("%s; %s", headline, where) if where else logger.warning("%s", headline)
    _fail(runner, ending.verdict or "not judged", headline, 1)
    _raise(runner, headline, where, 1)
    for check in ending.found:
        count = int(check["anomalies"])
        witnesses = [str(witness) for witness in check["witnesses"]]
        text = f"{count:,} found" + (f": {witnesses[0]}" if witnesses else "")
        _fail(runner, str(check["name"]), text, count)
        _raise(runner, f"{check['name']}: {count:,} found", "\n".join(witnesses[:MOST_WITNESSES]), count)
    return True


def _fail(runner: Any, name: str, text: str, count: int) -> None:
    """An entry among the failures, counted in the line of all requests as any other is."""
    now_s = time.time()
    runner.stats.get(name, METHOD).num_failures += count
    runner.stats.total.num_failures += count
    error = StatsError(METHOD, name, text, occurrences=count, first_seen=now_s, last_seen=now_s)
    runner.stats.errors[StatsError.create_key(METHOD, name, text)] = error


def _raise(runner: Any, message: str, text: str, count: int) -> None:
    """An entry among the exceptions, with ``text`` where Locust shows a traceback."""
    key = hash((message, text))
    runner.exceptions[key] = {"count": count, "msg": message, "traceback": text, "nodes": {"loadgen"}}
