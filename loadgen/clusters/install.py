"""``loadgen install mysql|tidb``: server programs for a machine that has none, put into a cache folder of ours.

MySQL comes as Debian packages, unpacked into a root of its own with its own C library, so that it runs on any Linux
of this kind of processor and changes nothing of the system: neither root nor debootstrap is needed. TiDB is built
from its Go module.
"""

import contextlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from loadgen.clusters.binaries import SERVER_BINARIES, TEMPLATE, cached_binary, deploy_folder, described
from loadgen.databases.database import resolved
from loadgen.errors import ClusterError

Say = Callable[[str], None]

SUITE = "sid"
"""The one suite of Debian that carries MySQL's server; its C library is newer than a stable system's."""
KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
)
PACKAGES = (
    "mysql-server-core",
    "mysql-client-core",
    # What the images that are made of this root (deploy/images) need to run a shell script.
    "bash",
    "dash",
    "coreutils",
    "grep",
    "sed",
    "hostname",
    "libc-bin",
    "procps",
    "util-linux",
)
TRIPLETS = {
    "x86_64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
    "aarch64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
}
TIDB_PACKAGE = "github.com/pingcap/tidb/cmd/tidb-server"
TIDB_MODULE = re.compile(r"github\.com/pingcap/tidb v\S+?[-.](\d{8})\d{6}-([0-9a-f]{12})")
TELL_EVERY_S = 10.0
LAST_LINES = 3


def install(name: str, say: Say) -> Path:
    """Install the server ``name`` into the cache folder, with progress messages by ``say``. Returns the program's path.

    An existing installation is replaced only when the new one is complete. Raises ClusterError, which says what is
    missing and what to do.
    """
    if name not in SERVER_BINARIES:
        raise ClusterError(f"install {name!r}: can install {', '.join(SERVER_BINARIES)}")
    server = SERVER_BINARIES[name]
    target = cached_binary(server).parent
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    except OSError as error:
        raise ClusterError(f"cannot write to the cache folder {target.parent}: {error} (set LOADGEN_CACHE)") from error
    started_s = time.monotonic()
    try:
        resolved(server.install)(fresh, target, say)
        fresh.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
        if server.template:
            resolved(server.template)(target, say)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    path = cached_binary(server)
    say(f"{described(server, path)[0]} is in {path} ({time.monotonic() - started_s:.0f} s)")
    return path


def add_install_arguments(parser: ArgumentParser) -> None:
    """Fill the parser of ``loadgen install``."""
    parser.description = "Install a server program into loadgen's cache folder (LOADGEN_CACHE, or ~/.cache/loadgen)."
    parser.add_argument("server", choices=sorted(SERVER_BINARIES), nargs="+", help="the server to install")
    parser.set_defaults(command=run_install)


def run_install(options: Namespace) -> int:
    """``loadgen install``: the exit code."""
    for name in options.server:
        install(name, tell)
    return 0


def tell(text: str) -> None:
    """Write a line of progress at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def install_mysql(fresh: Path, target: Path, say: Say) -> None:
    """Put MySQL into ``fresh``, which becomes ``target``."""
    triplet, loader = _triplet()
    _need(("apt-get", "dpkg-deb"), "MySQL is taken from Debian's packages, so this works on Debian and its kin")
    keyring = next((path for path in KEYRINGS if Path(path).is_file()), None)
    if keyring is None:
        raise ClusterError(
            "the keyring to check Debian's packages is missing: run `apt-get install debian-archive-keyring`"
        )
    with tempfile.TemporaryDirectory(prefix="loadgen-apt-") as folder:
        environment = _private_apt(Path(folder), keyring)
        say(f"fetching the package list of Debian {SUITE}")
        _run(["apt-get", "-q", "update"], "fetching Debian's package list", environment)
        say("fetching MySQL and what it needs: about 80 packages")
        command = ["apt-get", "-q", "-y", "--download-only", "install", *PACKAGES]
        _run(command, "fetching Debian's packages", environment)
        archives = sorted((Path(folder) / "archives").glob("*.deb"))
        megabytes = sum(archive.stat().st_size for archive in archives) / 1e6
        say(f"unpacking {len(archives)} packages, {megabytes:.0f} MB")
        for archive in archives:
            _run(["dpkg-deb", "-x", archive, fresh / "root"], f"unpacking {archive.name}")
    for spare in ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale"):
        shutil.rmtree(fresh / "root" / spare, ignore_errors=True)
    for program, folder_name in (("mysqld", "sbin"), ("mysql", "bin")):
        _write_wrapper(fresh / program, target / "root", triplet, loader, f"usr/{folder_name}/{program}")


def make_template(target: Path, say: Say) -> None:
    """A data directory made once, beside the program. Raises ClusterError."""
    say("making an empty data directory")
    making = target / f"{TEMPLATE}.new"
    options = ["--no-defaults", "--initialize-insecure", "--skip-log-bin", f"--datadir={making}"]
    if os.geteuid() == 0:
        options.append("--user=root")
    _run([target / SERVER_BINARIES["mysql"].program, *options], "making MySQL's data directory")
    (making / "auto.cnf").unlink(missing_ok=True)  # a server's identity: each copy makes its own
    making.rename(target / TEMPLATE)


def _write_wrapper(path: Path, root: Path, triplet: str, loader: str, program: str) -> None:
    """A program of the root, run by the root's own loader and C library: without chroot, so root is not needed."""
    libraries = root / "usr/lib" / triplet
    # --no-defaults, where it is given, must stay the server's first argument, so ours go
    # last.
    ours = [f"--plugin-dir={root}/usr/lib/mysql/plugin"]
    if program.endswith("mysqld"):
        ours.append(f"--basedir={root}/usr")
    loading = [libraries / loader, "--library-path", libraries, root / program]
    words = [*(shlex.quote(str(word)) for word in loading), '"$@"', *map(shlex.quote, ours)]
    path.write_text(f"#!/bin/sh\n# Written by `loadgen install mysql`.\nexec {' '.join(words)}\n")
    path.chmod(0o755)


def _private_apt(folder: Path, keyring: str) -> Mapping[str, str]:
    """An apt that knows nothing of this system and touches nothing of it: so it fetches every package needed."""
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb [signed-by={keyring}] {_mirror()} {SUITE} main\n")
    settings = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
        "Dir::Cache::Archives": folder / "archives",
        "APT::Install-Recommends": "0",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
        "Acquire::Retries": "3",
        "Acquire::Languages": "none",
    }
    (folder / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    return {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}


def _mirror() -> str:
    """The mirror that this system's own apt is set up with: it is the one that can be reached."""
    answer = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], "asking apt for its Debian mirror")
    for uri in answer.split():
        if uri.rstrip("/").endswith("/debian"):
            return uri
    raise ClusterError("MySQL comes from Debian's packages, and apt here is set up with no Debian mirror")


def install_tidb(fresh: Path, _target: Path, say: Say) -> None:
    """Build TiDB into ``fresh``."""
    _need(("go",), "TiDB is built from its Go module: install Go 1.26 or newer (https://go.dev/dl)")
    module = deploy_folder() / "images" / "tidb"
    found = TIDB_MODULE.search((module / "go.mod").read_text())
    assert found, "deploy/images/tidb/go.mod names no version of TiDB"
    day, commit = found.groups()
    say("building TiDB from its Go module: 5 minutes and 4 GB of Go's own caches the first time")
    packages = len(_run(["go", "list", "-deps", TIDB_PACKAGE], "fetching TiDB's modules", cwd=module).splitlines())
    flags = (
        "-s -w "
        f"-X github.com/pingcap/tidb/pkg/parser/mysql.TiDBReleaseVersion=master-{day}-{commit} "
        f"-X github.com/pingcap/tidb/pkg/util/versioninfo.TiDBGitHash={commit}"
    )
    program = fresh / SERVER_BINARIES["tidb"].program
    command: list[str | Path] = ["go", "build", "-v", "-ldflags", flags, "-o", program, TIDB_PACKAGE]
    lines: list[str] = []
    told_s = time.monotonic()
    for line in _lines(command, "building TiDB", cwd=module):
        lines.append(line)
        if time.monotonic() - told_s > TELL_EVERY_S:
            told_s = time.monotonic()
            say(f"compiled {len(lines)} of at most {packages} packages")


def _triplet() -> tuple[str, str]:
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in TRIPLETS:
        raise ClusterError(f"no MySQL packages for {platform.system()} on {machine}: use --cluster container")
    return TRIPLETS[machine]


def _need(programs: Sequence[str], what: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise ClusterError(f"{what}; not found here: {', '.join(missing)}. Or use --cluster container")


def _run(
    command: Sequence[str | Path],
    doing: str,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    return "\n".join(_lines(command, doing, environment, cwd))


def _lines(
    command: Sequence[str | Path],
    doing: str,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[str]:
    """The lines that a command prints, as they come. Raises ClusterError, with the last of them, if it fails."""
    try:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            cwd=cwd,
            preexec_fn=_step_back,
        )
    except OSError as error:
        raise ClusterError(f"{doing}: {error}") from error
    last: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            last = [*last, line.rstrip()][-LAST_LINES:]
            yield line.rstrip()
        if process.wait():
            raise ClusterError(f"{doing} failed: {' | '.join(last)}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _step_back() -> None:
    with contextlib.suppress(OSError):
        os.nice(10)
