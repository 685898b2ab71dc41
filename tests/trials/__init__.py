"""Long trials of the whole product on real servers, as commands; the suite runs a sample of each.

``python -m tests.trials.NAME --help`` says what each one tries. Each ends with one line of JSON, and with exit code 1
if anything was judged wrongly. ``TRIALS_SEED`` chooses the suite's sample; without it the day does.
"""

import importlib
import os
import time

# Imported as it is, Locust patches threads for gevent, and a trial's proxies run on a thread of their own.
if "LOCUST_SKIP_MONKEY_PATCH" not in os.environ:
    os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"
    importlib.import_module("locust")
    del os.environ["LOCUST_SKIP_MONKEY_PATCH"]  # not for the runs that a trial starts

SECONDS_PER_DAY = 86_400


def rotating_seed() -> int:
    """The seed of the suite's sample: of one's choice, or another one each day."""
    return int(os.environ.get("TRIALS_SEED") or time.time() // SECONDS_PER_DAY)
