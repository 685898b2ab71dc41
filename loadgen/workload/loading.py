"""Finding and importing workload files: by their path, and those that are installed by their name.

A file is imported with neither Locust nor gevent: ``loadgen.load`` gives it stand-ins of what it imports from there,
unless Locust is there already (``locust -f``).
"""

import hashlib
import importlib.util
import os
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from loadgen.errors import LoadgenError, PlanError
from loadgen.workload.statement import is_single_statement
from loadgen.workload.workload import Workload

_PACKAGE = Path(__file__).resolve().parent.parent
INSTALLED = (_PACKAGE / "workloads", _PACKAGE.parent / "workloads")
"""Where workloads are: inside the package of a wheel, beside it in a checkout."""
UNPATCHED = "LOCUST_SKIP_MONKEY_PATCH"
"""Locust's variable: set, it leaves the interpreter alone when it is imported."""
MOST_BYTES = 1 << 20
"""A larger file is no workload."""


def installed_workloads() -> dict[str, Path]:
    """The files of the installed workloads by their names, sorted."""
    files = [path for folder in INSTALLED for path in folder.glob("*.py") if not path.stem.startswith("_")]
    return {path.stem: path for path in sorted(files, key=lambda path: path.stem)}


def load_workload(path: Path) -> Workload:
    """The workload that the file at ``path`` holds. Runs the file, once in a process while it stays as it is.

    Raises PlanError, in one line, if it holds none.
    """
    try:
        stat = path.stat()
    except OSError:
        raise PlanError(f"{path}: there is no such workload file") from None
    return _loaded(path, (path.resolve(), stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=64)
def _loaded(path: Path, _state: tuple[Path, int, int]) -> Workload:
    module = _imported(path)
    found: list[Workload] = []
    users: list[Any] = []
    for value in vars(module).values():
        workload = value if isinstance(value, Workload) else getattr(value, "workload", None)
        if isinstance(workload, Workload) and not any(workload is each for each in found):
            found.append(workload)
        if isinstance(workload, Workload) and workload is not value:
            users.append(value)
    if len(found) != 1:
        names = ", ".join(workload.name for workload in found) or "none"
        raise PlanError(f"{path} must hold one workload, and it holds {names}")
    bodies = {kind: [getattr(user, kind) for user in users if hasattr(user, kind)] for kind in found[0].kinds}
    single = tuple(kind for kind, each in bodies.items() if each and all(map(is_single_statement, each)))
    return replace(found[0], single_statements=single or found[0].single_statements)


def file_of(user_class: type) -> Path | None:
    """The file that defines the workload of a class of users; None if it was made without one."""
    owner = next((each for each in user_class.__mro__ if "workload" in vars(each)), user_class)
    file = getattr(sys.modules.get(owner.__module__), "__file__", None)
    return Path(file).resolve() if file else None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a workload file, in hexadecimal. Raises PlanError if it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(content) > MOST_BYTES:
        raise PlanError(f"{path} is larger than {MOST_BYTES:,} bytes, which is too large for a workload")
    return hashlib.sha256(content).hexdigest()


def _imported(path: Path) -> ModuleType:
    if not path.is_file():
        raise PlanError(f"{path}: there is no such workload file")
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and _same(getattr(known, "__file__", None), path):
        return known
    folder = str(path.resolve().parent)
    spec = importlib.util.spec_from_file_location(f"loadgen_workload_{name}", path)
    if spec is None or spec.loader is None:
        raise PlanError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, folder)
    # A file that imports Locust itself must not patch this interpreter. Only while it is imported: a process that is
    # started later and inherits the variable would be a Locust without its patches, which hangs.
    before = os.environ.get(UNPATCHED)
    os.environ[UNPATCHED] = "1"
    try:
        # Classes of data look their module up while they are made.
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    except LoadgenError:
        raise
    except Exception as error:
        raise PlanError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
        if before is None:
            del os.environ[UNPATCHED]
        else:
            os.environ[UNPATCHED] = before
    return module


def _same(file: Any, path: Path) -> bool:
    try:
        return bool(file) and path.samefile(file)
    except OSError:
        return False
