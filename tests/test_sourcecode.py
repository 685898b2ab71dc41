"""The rules that the source keeps: lint, format, types, who may import whom, and how long a thing may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "loadgen").rglob("*.py")) + sorted((ROOT / "workloads").rglob("*.py"))
FUNCTION_LINES = 45
FILE_LINES = 400
LONG_FUNCTIONS: dict[str, str] = {"loadgen/plan.py::parse_plan": "one line for each option, in one place"}
"""Functions that may be longer, as ``path::name``, and why."""
LONG_FILES: dict[str, str] = {
    "loadgen/conduct/conductor.py": "a run's steps in their order: cut in two, neither half could be followed"
}
"""Files that may be longer, and why: nothing is cut in two for its length alone."""

VALUES = {
    "clock",
    "databases",
    "draws",
    "dsn",
    "environment",
    "errors",
    "op",
    "percentiles",
    "plan",
    "schedule",
    "shapes",
    "untrusted",
    "verdict",
}
LAYERS = {
    **dict.fromkeys(VALUES, 0),
    **dict.fromkeys(("history", "statistics"), 1),
    "workload": 2,
    **dict.fromkeys(("isolation", "measures", "engines"), 3),
    **dict.fromkeys(("formats", "judge", "clusters"), 4),
    **dict.fromkeys(("shop", "report"), 5),
    "probes": 6,
    **dict.fromkeys(("load", "conduct", "hermitage"), 7),
    "campaign": 8,
    "commands": 9,
    "__main__": 10,
}
"""Each room's height: an import goes to a lower room, or stays in its own; the values may import each other."""
JUDGING = {"shop", "isolation", "formats", "measures", "judge", "report"}
NOT_FOR_JUDGING = {"engines", "clusters", "load", "conduct", "hermitage", "campaign", "commands"}
DRIVERS = {"asyncpg", "asyncmy", "pymysql", "uvloop", "locust", "gevent", "pandas"}


def _room(path: Path) -> str:
    parts = path.relative_to(ROOT / "loadgen").parts
    return parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that ``path`` imports, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            # ``from loadgen import sale`` imports a module, not a name.
            names = (
                [f"loadgen.{alias.name}" for alias in node.names] if node.module == "loadgen" else [node.module or ""]
            )
            yield from ((name, node.lineno) for name in names)


def _loadgen_rooms(path: Path) -> Iterator[tuple[str, int]]:
    for module, line in _imports(path):
        parts = module.split(".")
        if parts[0] == "loadgen" and len(parts) > 1:
            yield parts[1], line


def _program() -> list[Path]:
    return [path for path in SOURCES if path.is_relative_to(ROOT / "loadgen") and _room(path) != "__init__"]


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=["check", "format"])
def test_ruff_on_the_whole_project_finds_nothing(command: tuple[str, ...]) -> None:
    """Ruff has nothing to say."""
    run = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)

    assert run.returncode == 0, run.stdout + run.stderr


def test_mypy_on_the_whole_program_finds_nothing() -> None:
    """The program is typed, strictly."""
    run = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)

    assert run.returncode == 0, run.stdout + run.stderr


def test_every_room_has_a_height() -> None:
    """A new room must say where it stands."""
    assert {_room(path) for path in _program()} - set(LAYERS) == set()


def test_imports_go_downwards_only() -> None:
    """No room imports a higher one."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports loadgen.{room}"
        for path in _program()
        for room, line in _loadgen_rooms(path)
        if room != _room(path) and LAYERS.get(room, 0) >= max(LAYERS.get(_room(path), 0), 1)
    ]

    assert wrong == []


def test_judging_never_imports_what_drives() -> None:
    """Checks, measures, judge and report know the history and nothing of how it came about."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports loadgen.{room}"
        for path in _program()
        if _room(path) in JUDGING
        for room, line in _loadgen_rooms(path)
        if room in NOT_FOR_JUDGING
    ]

    assert wrong == []


def test_locust_and_gevent_are_imported_in_the_load_room_only() -> None:
    """Nothing but the load side meets gevent's patching."""
    rooms = {
        _room(path)
        for path in _program()
        for module, _ in _imports(path)
        if module.split(".")[0] in ("locust", "gevent")
    }

    assert rooms <= {"load"}


@pytest.mark.parametrize("driver", ["asyncpg", "pymysql", "asyncmy", "pandas"])
def test_a_driver_is_imported_in_one_file(driver: str) -> None:
    """Each driver, and pandas, has one file that knows it."""
    files = {path.name for path in _program() for module, _ in _imports(path) if module.split(".")[0] == driver}

    assert len(files) <= 1


@pytest.mark.parametrize("module", ["loadgen.commands.main", "loadgen.judge.judge"])
def test_judging_a_stored_run_loads_nothing_heavy(module: str) -> None:
    """``loadgen check`` answers at once: no pandas, no Locust, no driver on its way."""
    heavy = sorted(DRIVERS | {"importlib.metadata", "loadgen.engines", "loadgen.clusters", "asyncio"})
    code = f"import sys, {module}; print(' '.join(name for name in {heavy!r} if name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert loaded.split() == []


def test_functions_and_files_are_short() -> None:
    """What can't be read at one glance gets split, or a reason in the list."""
    long = [
        f"{path.relative_to(ROOT)}: {count} lines"
        for path in SOURCES
        if (count := _lines(path)) > FILE_LINES and str(path.relative_to(ROOT)) not in LONG_FILES
    ]
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{path.relative_to(ROOT)}::{node.name}"
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES and name not in LONG_FUNCTIONS:
                    long.append(f"{name}: {length} lines")

    assert long == []


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())
