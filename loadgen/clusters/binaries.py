"""Where server programs and deployment files are found: an environment variable, our cache folder, then PATH.

A program is taken by what it says it is, not by its file's name: MariaDB has a ``mysqld`` too.
"""

import os
import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from loadgen.databases import SERVER_BINARIES as SERVER_BINARIES
from loadgen.databases.database import ServerBinary, resolved
from loadgen.engines.identity import ALLOW, on_mysql_wire
from loadgen.errors import ClusterError

ANSWERS_WITHIN_S = 15.0
"""How long a program may take to say its version."""
LAST_LINES = 3


TEMPLATE = "template"
"""A fresh data directory beside an installed mysqld: copying it is some seconds faster than making one."""


def cache_folder() -> Path:
    """Where installed servers live: LOADGEN_CACHE, or ``loadgen`` in the user's cache folder. Raises ClusterError."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(os.environ.get("LOADGEN_CACHE") or f"{base}/loadgen").expanduser()
    except RuntimeError as error:  # no HOME and no entry in /etc/passwd, as in a container under any user's number
        raise ClusterError("this user has no home folder for server programs: set LOADGEN_CACHE to a folder") from error


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


def find_binary(server: ServerBinary, *, forks: bool = False) -> Path | None:
    """The program's path, None if it is nowhere: the variable's, the installed one, the first on PATH that is it.

    Raises ClusterError if the variable names something else; ``forks``: a fork will do there, since a person chose it.
    """
    if named := os.environ.get(server.variable):
        path = Path(named).expanduser()
        if not _can_run(path):
            raise ClusterError(f"{server.variable}={named} is not a program that can be run")
        what, is_it = described(server, path)
        if not is_it and not forks:
            raise ClusterError(
                f"{server.variable}={named} is {what}, not {server.title}: name a {server.program} of {server.title}, "
                f"or add {ALLOW}"
            )
        return path.absolute()
    if is_file(cached := cached_binary(server)):
        return cached
    return next((path for path in _on_path(server) if _is(server, path)), None)


def need_binary(server: ServerBinary, *, forks: bool = False) -> Path:
    """The program's path. Raises ClusterError that says how to get it."""
    path = find_binary(server, forks=forks)
    if path is None:
        passed = passed_over(server)
        raise ClusterError(
            f"no {server.program} of {server.title} on this machine{f' ({passed})' if passed else ''}: run `loadgen "
            f"install {server.name}`, or put it on PATH, or set {server.variable}, or use --cluster container"
        )
    return path


def passed_over(server: ServerBinary) -> str:
    """The programs on PATH that have the name and are something else, with what they say; often an empty text."""
    found = []
    for path in _on_path(server):
        with suppress(ClusterError):
            what, is_it = described(server, path)
            found += [] if is_it else [f"{path} is {what}"]
    return "; ".join(found)


def described(server: ServerBinary, path: Path) -> tuple[str, bool]:
    """What the program at ``path`` says it is, on one line, and whether that is ``server``.

    Raises ClusterError if it cannot be run.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise ClusterError(f"{path} cannot be run: {error.strerror}") from error
    return _described(server, path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=64)
def _described(server: ServerBinary, path: Path, _changed_ns: int, _size: int) -> tuple[str, bool]:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    try:
        answer = subprocess.run(
            [path, "-V"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=ANSWERS_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"{path} cannot be run: {error}") from error
    said, errors = (text.decode(errors="replace") for text in (answer.stdout, answer.stderr))
    if answer.returncode:
        raise ClusterError(f"{path} cannot be run: {' | '.join((said + errors).strip().splitlines()[-LAST_LINES:])}")
    answer_of: Callable[[str], tuple[str, bool]] = resolved(server.described)
    return answer_of(said)


def described_tidb(said: str) -> tuple[str, bool]:
    """What a ``tidb-server`` says it is, and whether that is TiDB."""
    fields = dict(re.findall(r"^(.+?): (.*)$", said, re.MULTILINE))
    if "Release Version" in fields:
        return f"TiDB {fields['Release Version']} ({fields.get('Store', 'unistore')})", True
    return _something(said), False


def described_mysqld(said: str) -> tuple[str, bool]:
    """What a ``mysqld`` says it is, and whether that is MySQL."""
    match = re.search(r"\bVer (\S+)(?: for \S+ on \S+)?[ \t]*(?:\((.*)\))?", said)
    if match is None:
        return _something(said), False
    identity = on_mysql_wire(match[1], match[2] or "")
    is_it = identity.engine == "mysql" and not identity.fork
    return f"{'MySQL' if is_it else identity.fork or identity.engine} {identity.version}", is_it


def _something(said: str) -> str:
    first = " ".join("".join(letter if letter.isprintable() else " " for letter in said[:200]).split())[:60]
    return f"something that says {first!r}" if first else "something that says nothing of itself"


def _is(server: ServerBinary, path: Path) -> bool:
    with suppress(ClusterError):
        return described(server, path)[1]
    return False


def _on_path(server: ServerBinary) -> list[Path]:
    folders = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    return [path for folder in dict.fromkeys(folders) if _can_run(path := Path(folder, server.program).absolute())]


def _can_run(path: Path) -> bool:
    return is_file(path) and os.access(path, os.X_OK)
