"""Where server programs and deployment files are found: an environment variable, PATH, then our cache folder."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from loadgen.errors import ClusterError


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server program that ``loadgen install NAME`` can provide. ``program`` is its file name on PATH."""

    name: str
    title: str
    program: str
    variable: str
    """The environment variable that names the program's path, and beats everything else."""


SERVER_BINARIES = {
    "mysql": ServerBinary("mysql", "MySQL", "mysqld", "LOADGEN_MYSQLD"),
    "tidb": ServerBinary("tidb", "TiDB", "tidb-server", "LOADGEN_TIDB_SERVER"),
}

TEMPLATE = "template"
"""A fresh data directory beside an installed mysqld: copying it is some seconds faster than making one."""


def cache_folder() -> Path:
    """Where installed servers live: LOADGEN_CACHE, or ``loadgen`` in the user's cache folder. Raises ClusterError."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(os.environ.get("LOADGEN_CACHE") or f"{base}/loadgen").expanduser()
    except RuntimeError as error:  # no HOME and no entry in /etc/passwd, as in a container under any user's number
        raise ClusterError("this user has no home folder to keep servers in: name a folder by LOADGEN_CACHE") from error


def is_file(path: Path) -> bool:
    """Whether there is such a file for this user: where a folder on the way may not be entered, there is none."""
    with suppress(OSError):
        return path.is_file()
    return False


def deploy_folder() -> Path:
    """The folder of images, compose files and manifests: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "deploy", package.parent / "deploy"):
        if (folder / "images.env").is_file():
            return folder
    raise ClusterError(f"this installation of loadgen has no deploy folder (looked beside and in {package})")


def cached_binary(server: ServerBinary) -> Path:
    """Where ``loadgen install`` puts the program."""
    return cache_folder() / server.name / server.program


def find_binary(server: ServerBinary) -> Path | None:
    """The program's path, None if it is nowhere. Raises ClusterError if the variable names something else."""
    if named := os.environ.get(server.variable):
        path = Path(named).expanduser()
        if not (is_file(path) and os.access(path, os.X_OK)):
            raise ClusterError(f"{server.variable}={named} is not a program that can be run")
        return path.absolute()
    if found := shutil.which(server.program):
        return Path(found)
    cached = cached_binary(server)
    return cached if is_file(cached) else None


def need_binary(server: ServerBinary) -> Path:
    """The program's path. Raises ClusterError that says how to get it."""
    path = find_binary(server)
    if path is None:
        raise ClusterError(
            f"no {server.program} on this machine: run `loadgen install {server.name}`, or put it on PATH, or set "
            f"{server.variable}, or use --cluster container"
        )
    return path
