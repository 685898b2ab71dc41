"""What judging costs: all checks of a large run, and the start-up of ``loadgen check`` on a small one.

    python -m tests.bench.ledger [--ops 5000000] [--repeats 5]

The large run is made once (big_sale.py) and judged in a fresh process each time: reading its history, joining it,
every check, and nothing else; then the whole judge, with all figures. Seconds are of the wall, memory is the peak
resident set of that process, memory-mapped pages of the history included.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.measured import median

SMALL_OPS = 2_000
ROOT = Path(__file__).parents[2]


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--judge", choices=("checks", "whole"), help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.judge:
        print(json.dumps(_checks(options.run) if options.judge == "checks" else _whole(options.run)))
        return
    with tempfile.TemporaryDirectory(prefix="loadgen-bench-") as directory:
        _measure(Path(directory), options.ops, options.repeats)


def _measure(directory: Path, wanted: int, repeats: int) -> None:
    made = subprocess.run(
        [sys.executable, "-c", _MAKE, str(directory), str(wanted), str(SMALL_OPS)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    ops = int(made.stdout)
    print(f"ledger: {ops:,} ops, {repeats} repeats, each in a fresh process")
    checks, wholes, starts = [], [], []
    for _ in range(repeats):
        checks.append(_fresh("checks", directory / "large"))
        wholes.append(_fresh("whole", directory / "large"))
        starts.append(_check_command(directory / "small"))
        parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in checks[-1]["parts"].items())
        print(
            f"  checks {checks[-1]['seconds']:.2f} s ({parts}), {checks[-1]['peak_mb']:.0f} MB; "
            f"whole judge {wholes[-1]['seconds']:.2f} s, {wholes[-1]['peak_mb']:.0f} MB; "
            f"loadgen check on {SMALL_OPS:,} ops {starts[-1]:.2f} s"
        )
    figures = {
        "ops": ops,
        "seconds": median([check["seconds"] for check in checks]),
        "peak_mb": median([check["peak_mb"] for check in checks]),
        "whole_judge_seconds": median([whole["seconds"] for whole in wholes]),
        "whole_judge_peak_mb": median([whole["peak_mb"] for whole in wholes]),
        "check_command_seconds": median(starts),
        "verdict": checks[0]["verdict"],
        "repeats": repeats,
    }
    print(json.dumps({"name": "ledger", **figures}))


_MAKE = """
import sys
from pathlib import Path
from tests.bench.big_sale import write_run
directory, large, small = sys.argv[1:]
print(write_run(Path(directory) / "large", int(large)))
write_run(Path(directory) / "small", int(small))
"""


def _fresh(what: str, run: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.ledger", "--judge", what, "--run", str(run)]
    answer = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(answer.splitlines()[-1]))


def _checks(run: Path) -> dict[str, Any]:
    """Read, join and check, in this process."""
    from loadgen.history.history import read_history
    from loadgen.plan import plan_from_json
    from loadgen.shop.books import open_books
    from loadgen.shop.catalogue import CHECKS, check_safe
    from loadgen.verdict import overall

    begun = at = time.perf_counter()
    parts = {}
    history = read_history(run / "history")
    parts["read"], at = time.perf_counter() - at, time.perf_counter()
    books = open_books(history, plan_from_json(json.loads((run / "plan.json").read_text())["plan"]))
    parts["join"], at = time.perf_counter() - at, time.perf_counter()
    findings = []
    for name, check in CHECKS.items():
        findings.append(check_safe(name, check, books))
        parts[name], at = time.perf_counter() - at, time.perf_counter()
    slow = {name: seconds for name, seconds in parts.items() if seconds >= 0.2}
    return {"seconds": at - begun, "parts": slow, "verdict": overall(findings), "peak_mb": _peak_mb()}


def _whole(run: Path) -> dict[str, Any]:
    """Judge, in this process."""
    from loadgen.judge.judge import judge

    begun = time.perf_counter()
    verdict = judge(run)["verdict"]
    return {"seconds": time.perf_counter() - begun, "verdict": verdict, "peak_mb": _peak_mb()}


def _check_command(run: Path) -> float:
    """Seconds of ``loadgen check`` on a run, from its start to its end."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "loadgen.commands.main", "check", str(run)], cwd=ROOT, check=True, capture_output=True
    )
    return time.perf_counter() - begun


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
