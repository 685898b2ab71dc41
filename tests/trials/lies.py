"""A proxy between the load and a correct server lies about COMMITs. Each lie that can be found is found, and counted.

    python -m tests.trials.lies [--engines postgres,mysql,tidb,oceanbase] [--seeds 5] [--only NAME]

For each engine, kind of lie and workload it runs the load through the proxy on an embedded server, and compares the
number of lies that the proxy told with the number that the judge found under the expected name.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loadgen.clusters.cluster import Cluster
from tests.sale_runs import EndedRun, sale
from tests.trials.proxies import Deceit, Lie, proxy
from tests.trials.servers import WIRES, proxied_dsn, server

DURATION_S = 5
OPTIONS = ("--headless", "--duration", f"{DURATION_S}s", "--shape", "constant", "-u", "8")
SALE = ("--peak-rate", "150", "--skus", "20", "--stock", "1000", "--skew", "uniform", "--strategy", "atomic")
PROBE = ("--peak-rate", "100", "--skus", "8")


@dataclass(frozen=True)
class Trial:
    """One lie in one workload. ``found_by``: the names of which one must be found; empty where none has to be.

    ``exact``: the check whose count must equal the number of lies that were told.
    """

    name: str
    workload: str
    lie: Lie
    marked: str
    one_in: int
    found_by: tuple[str, ...]
    exact: str = ""
    options: tuple[str, ...] = ()


EARLY_SIGNS = ("false-refusal", "real-time-order", "lost-update", "fractured-read")
"""What an early acknowledgement can look like to somebody who comes within its time. It need not look like anything."""

TRIALS = (
    Trial("orders-lost", "flashsale", Lie.ROLLED_BACK, "INSERT INTO orders", 40, ("lost-order",), "lost-order"),
    Trial(
        "orders-lost-late", "flashsale", Lie.ROLLED_BACK_LATE, "INSERT INTO orders", 40, ("lost-order",), "lost-order"
    ),
    Trial("orders-refused", "flashsale", Lie.ERROR, "INSERT INTO orders", 40, ("ghost",), "ghost"),
    Trial("orders-early", "flashsale", Lie.EARLY, "INSERT INTO orders", 10, ()),
    Trial("payments-lost", "flashsale", Lie.ROLLED_BACK, "INSERT INTO payments", 40, ("lost-payment",), "lost-payment"),
    Trial("payments-refused", "flashsale", Lie.ERROR, "INSERT INTO payments", 40, ("ghost",), "ghost"),
    Trial("register-lost", "register", Lie.ROLLED_BACK, "UPDATE register", 30, ("lost-write", "rw-register")),
    Trial("append-lost", "append", Lie.ROLLED_BACK, "INSERT INTO", 30, ("lost-write", "list-append")),
    Trial(
        "bank-lost",
        "bank",
        Lie.ROLLED_BACK,
        "UPDATE accounts",
        30,
        ("lost-write", "bank"),
        options=("--strategy", "atomic"),
    ),
    Trial("register-refused", "register", Lie.ERROR, "UPDATE register", 30, ("phantom-write", "rw-register", "ghost")),
)


@dataclass(frozen=True)
class Result:
    """What was told and what was found."""

    trial: str
    engine: str
    seed: int
    told: int
    verdict: str
    found: Mapping[str, int]
    wrong: str


def play(trial: Trial, engine: str, cluster: Cluster, seed: int, place: Path) -> Result:
    """Run one trial on ``cluster``; the run's files are left under ``place``."""
    deceit = Deceit(trial.lie, trial.marked, trial.one_in, seed)
    options = (*OPTIONS, *(SALE if trial.workload == "flashsale" else PROBE), *trial.options, "--seed", str(seed))
    with proxy(WIRES[engine], cluster.address, deceit) as between:
        environment = {"LOADGEN_DSN": proxied_dsn(engine, cluster, between.port)}
        with sale(place, *options, "--engine", engine, environment=environment, workload=trial.workload) as running:
            run = running.end()
    return judged(trial, engine, seed, deceit.told, run)


def judged(trial: Trial, engine: str, seed: int, told: int, run: EndedRun) -> Result:
    """Compare what was told with what was found."""
    verdict = str(run.summary.get("verdict", f"exit code {run.exit_code}: {run.stderr[-300:]}"))
    found = {name: int(count) for name, count in run.summary.get("violations", {}).items() if count}
    wrong = ""
    if not run.summary:
        wrong = f"there is no summary: {run.told[-500:]}"
    elif not told and (found or verdict != "valid"):
        wrong = "nothing was told, and it is not valid"
    elif told and trial.found_by and not set(found) & set(trial.found_by):
        wrong = f"none of {', '.join(trial.found_by)} was found"
    elif trial.exact and found.get(trial.exact, 0) != told:
        wrong = f"{told} lies were told and {found.get(trial.exact, 0)} found as {trial.exact}"
    elif not trial.found_by and not set(found) <= set(EARLY_SIGNS):
        wrong = "it was called by another name"
    elif verdict == "unknown":
        wrong = f"unknown: {run.summary.get('unknown')}"
    return Result(trial.name, engine, seed, told, verdict, found, wrong)


def main() -> int:
    """Play all trials; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="postgres,mysql,tidb,oceanbase", help="which engines, with commas")
    parser.add_argument("--seeds", type=int, default=1, help="how often each trial is played (1)")
    parser.add_argument("--only", default="", help="play only the trials with this in their name")
    options = parser.parse_args()
    results = []
    for engine in options.engines.split(","):
        with server(engine) as cluster:
            for trial in (trial for trial in TRIALS if options.only in trial.name):
                for seed in range(1, options.seeds + 1):
                    with tempfile.TemporaryDirectory(prefix="trial-") as place:
                        result = play(trial, engine, cluster, seed, Path(place))
                    results.append(result)
                    found = ", ".join(f"{name} {count}" for name, count in result.found.items()) or "nothing"
                    verdict = f"WRONG: {result.wrong}" if result.wrong else "right"
                    print(f"{engine:10} {trial.name:18} seed {seed}: told {result.told:4}, found {found}: {verdict}")
    wrong = [result for result in results if result.wrong]
    told = sum(result.told for result in results)
    print(json.dumps({"name": "lies", "trials": len(results), "told": told, "wrong": len(wrong)}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
