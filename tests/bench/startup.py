"""How long a person waits: from ``locust -f workloads/flashsale.py --headless ...`` to the first op that is sent.

    python -m tests.bench.startup [--engine postgres|mysql|tidb|oceanbase] [--cluster embedded|container] [--repeats 5]

Each repeat is a run of its own, closed, for one second, to its verdict. All instants are read from its run directory
afterwards, so that nothing is measured that a user's run does not do. Images and server programs must be here already.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np

from loadgen.clock import NS_PER_S
from loadgen.history.history import read_history
from loadgen.op import Outcome
from loadgen.plan import ENGINES
from tests.bench.measured import median

ROOT = Path(__file__).parents[2]
RUN_LIMIT_S = 180.0
PARTS = {
    "imports": "until the conductor begins: Python, Locust, the locustfile, then the conductor's own imports",
    "server": "until the server has answered a login",
    "schema": "until the tables are made and filled, and plan.json is written",
    "users": "until Locust starts its users",
    "sessions": "until all sessions are connected and the first op is sent",
}
"""What a start consists of, in order."""


def main() -> None:
    """Run the benchmark and print its figures; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, default="postgres")
    parser.add_argument("--cluster", choices=("embedded", "container"), default="embedded")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"from exec to the first op sent, {options.engine}, {options.cluster}; its parts in seconds:")
    for part, meaning in PARTS.items():
        print(f"  {part:9} {meaning}")
    starts = []
    for _ in range(options.repeats):
        starts.append(start_once(options.engine, options.cluster))
        parts = "  ".join(f"{part} {seconds:.2f}" for part, seconds in starts[-1].items())
        print(f"{sum(starts[-1].values()):6.2f} s = {parts}", flush=True)
    wholes = [sum(start.values()) for start in starts]
    figures = {"seconds": median(wholes), "seconds_max": round(max(wholes), 2), "seconds_min": round(min(wholes), 2)}
    figures |= {f"{part}_s": median([start[part] for start in starts]) for part in PARTS}
    place = {"engine": options.engine, "cluster": options.cluster, "repeats": options.repeats}
    print(json.dumps({"name": "startup", **figures, **place}))


def start_once(engine: str, cluster: str) -> dict[str, float]:
    """The seconds of each part of one start. Raises SystemExit with the run's last words if the run failed."""
    with tempfile.TemporaryDirectory(prefix="loadgen-bench-") as directory:
        run = Path(directory) / "run"
        command = [Path(sys.executable).with_name("locust"), "-f", ROOT / "workloads" / "flashsale.py", "--headless"]
        command += ["--engine", engine, "--cluster", cluster, "--shape", "closed", "--duration", "1s"]
        begun_ns = time.time_ns()
        ended = subprocess.run(
            [*map(str, command), "--run-dir", str(run)],
            cwd=directory,
            check=False,
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT_S,
        )
        if ended.returncode:
            raise SystemExit(f"the run ended with {ended.returncode}: {(ended.stdout + ended.stderr)[-2000:]}")
        instants = [begun_ns, *_instants(run)]
    return {part: (instants[i + 1] - instants[i]) / NS_PER_S for i, part in enumerate(PARTS)}


def _instants(run: Path) -> list[int]:
    """When each part of a start was over, in wall nanoseconds."""
    told = [line.split(" ", 1) for line in (run / "logs" / "conductor.log").read_text().splitlines()]
    preparing = next(at for at, words in told if words.startswith("preparing "))
    (process,) = read_history(run / "history").processes
    started = process.ops["outcome"] != Outcome.SKIPPED
    return [
        _wall_ns(told[0][0]),
        _wall_ns(preparing),
        (run / "plan.json").stat().st_mtime_ns,
        process.origin.wall_ns,
        process.origin.wall_of(int(np.min(process.ops["sent"][started]))),
    ]


def _wall_ns(utc: str) -> int:
    return int(datetime.fromisoformat(utc).timestamp() * NS_PER_S)


if __name__ == "__main__":
    main()
