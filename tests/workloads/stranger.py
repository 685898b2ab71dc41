"""Running a workload of somebody else's in a directory of its own, with its seeded bug or without."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.sale_runs import FORGOTTEN, KEPT

LIMIT_S = 150
LEVEL = ("--shape", "closed", "--duration", "3s", "--isolation", "read committed")


def run_words(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command of the package, in ``cwd``."""
    environment = {name: value for name, value in os.environ.items() if name in KEPT or not name.startswith(FORGOTTEN)}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=LIMIT_S
    )


def run_file(
    file: Path, directory: Path, engine: str, *options: str, careful: bool
) -> tuple[subprocess.CompletedProcess[str], Mapping[str, Any]]:
    """Copy the file to ``directory``, run it there for three seconds at read committed, and read its summary."""
    text = file.read_text()
    assert "CAREFUL = True" in text
    (directory / file.name).write_text(text.replace("CAREFUL = True", f"CAREFUL = {careful}"))
    words = ["locust", "-f", file.name, "--headless", "--engine", engine, "--run-dir", "run"]
    run = run_words([*words, *LEVEL, *options], directory)
    summary = directory / "run" / "summary.json"
    return run, json.loads(summary.read_text()) if summary.exists() else {}
