"""``loadgen run WORKLOAD``: what ``locust -f`` is, for who has the package and no checkout; ``loadgen workloads``."""

import argparse
import ast
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from loadgen.errors import PlanError
from loadgen.untrusted import one_line
from loadgen.workload.loading import installed_workloads

USAGE = """\
usage: loadgen run WORKLOAD [options of Locust and of a run]

Run a workload, as `locust -f` does. WORKLOAD is the name of an installed workload or the path of a .py file.

workloads: {names}

  loadgen run flashsale --headless        embedded PostgreSQL, about a minute
  loadgen run flashsale                   Locust's web page
  loadgen run ./tickets.py --headless     a workload of your own
  loadgen run flashsale --help            Locust's options
  loadgen options                         the options of a run
  loadgen workloads                       all workloads, one line each
"""


def run_workload(words: Sequence[str]) -> int:
    """Become ``locust -f`` on an installed workload, or on a file of the user's. Raises PlanError."""
    known = installed_workloads()
    if not words or words[0] in ("-h", "--help"):
        print(USAGE.format(names=", ".join(known) or "none; this installation lacks them"), end="")
        return 0
    file = known.get(words[0]) or _file_of(words[0], known)
    sys.stdout.flush()
    return os.execv(sys.executable, [sys.executable, "-m", "locust", "-f", str(file), *words[1:]])


def _file_of(word: str, known: dict[str, Path]) -> Path:
    """The file that a user named by its path. Raises PlanError."""
    path = Path(word)
    names = ", ".join(known) or "missing from this installation"
    if word.startswith("-"):
        raise PlanError(f"run {word}: name the workload before the options; the workloads are {names}")
    if path.suffix == ".py" and path.is_file():
        return path
    what = "there is no such file" if path.suffix == ".py" else "there is no such workload"
    raise PlanError(
        f"run {word!r}: {what}; the workloads are {names} (see `loadgen workloads`), or name a .py file of your own"
    )


def add_workloads_arguments(parser: argparse.ArgumentParser) -> None:
    """Fill the parser of ``loadgen workloads``."""
    parser.description = "List the installed workloads: name, description and file."
    parser.set_defaults(command=list_workloads)


def list_workloads(_: argparse.Namespace) -> int:
    """Print one line for each installed workload."""
    known = installed_workloads()
    if not known:
        raise PlanError("this installation has no workloads: reinstall the package")
    width = max(map(len, known))
    texts = {name: first_sentence(path) for name, path in known.items()}
    wide = max(map(len, texts.values()))
    for name, path in known.items():
        print(f"{name:{width}}  {texts[name]:{wide}}  {path}")
    return 0


def first_sentence(path: Path) -> str:
    """The first sentence of a Python file's docstring. The file is parsed and not run."""
    try:
        told = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except (OSError, SyntaxError, ValueError):
        return "(cannot be read)"
    return one_line(told.split("\n", 1)[0].partition(". ")[0].removesuffix("."))
