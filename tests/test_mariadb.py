"""MariaDB, which has a ``mysqld`` and MySQL's wire, is never taken for MySQL: on PATH, by doctor, and by a DSN.

Its packages are fetched by Debian's own tools into loadgen's cache folder and unpacked there: nothing is installed.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadgen.clusters.binaries import SERVER_BINARIES, cache_folder, described
from loadgen.clusters.process import ServerProcess, fresh_directory
from loadgen.engines.engine import Address
from loadgen.engines.mysql import ENGINE
from loadgen.errors import ClusterError
from tests.sale_runs import run_sale
from tests.test_doctor import doctor

PACKAGES = ("mariadb-server-core", "liburing2", "libaio1")
FETCHED_WITHIN_S = 60


@pytest.fixture(scope="session")
def mysqld(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MariaDB's ``mysqld``, as a script that finds its libraries."""
    root = cache_folder() / "mariadb-of-tests"
    server = root / "usr/sbin/mariadbd"
    if not server.is_file():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            pytest.skip("MariaDB comes from Debian's packages, and this is no Debian")
        folder = tmp_path_factory.mktemp("packages")
        fetching = ["apt-get", "download", "-q", *PACKAGES]
        try:
            subprocess.run(fetching, cwd=folder, capture_output=True, timeout=FETCHED_WITHIN_S, check=True)
            for package in folder.glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, root], capture_output=True, timeout=FETCHED_WITHIN_S, check=True)
        except subprocess.SubprocessError as error:
            pytest.skip(f"MariaDB's packages can't be fetched: {error}")
    libraries = ":".join(str(path.parent) for path in root.rglob("lib*.so.*"))
    script = tmp_path_factory.mktemp("mariadb") / "mysqld"
    options = f"--basedir={root}/usr --lc-messages-dir={root}/usr/share/mysql"
    script.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {server} "$@" {options}\n')
    script.chmod(0o755)
    try:
        described(SERVER_BINARIES["mysql"], script)
    except ClusterError as error:
        pytest.skip(f"MariaDB's packages do not run here: {error}")
    return script


@pytest.fixture(scope="session")
def mariadb(mysqld: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A server of it on a private socket."""
    directory = fresh_directory("loadgen-mariadb")
    data, socket = directory.path / "data", directory.path / "sql.sock"
    (data / "mysql").mkdir(parents=True)
    options = ["--no-defaults", f"--datadir={data}", "--skip-grant-tables", "--skip-networking", f"--socket={socket}"]
    if os.geteuid() == 0:
        options.append("--user=root")
    log = tmp_path_factory.mktemp("mariadb-logs") / "log"
    server = ServerProcess([mysqld, *options], title="MariaDB", log=log, cwd=directory.path)
    try:
        server.wait_until(socket.is_socket, within_s=30)
        yield Address(socket=str(socket), user="root")
    finally:
        server.stop()
        directory.remove()


def test_doctor_names_it(mysqld: Path, tmp_path: Path) -> None:
    """On PATH it is no MySQL, and a MySQL that was installed is preferred to it."""
    told = doctor(tmp_path, PATH=f"{mysqld.parent}:/usr/bin:/bin").stdout

    assert f"{mysqld} is MariaDB 10" in told or f"{mysqld} is MariaDB 11" in told
    assert "no  mysql, embedded" in told


@pytest.mark.server("mysql")
def test_it_does_not_win_over_an_installed_mysql(mysqld: Path, tmp_path: Path) -> None:
    """The first on PATH, and no run starts on it."""
    run = run_sale(
        tmp_path,
        *("--engine", "mysql", "--duration", "1s", "-u", "4"),
        environment={"PATH": f"{mysqld.parent}:{os.environ['PATH']}"},
    )

    assert run.exit_code == 0, run
    assert "fork" not in run.summary["engine"] and run.plan["cluster"]["program"] != str(mysqld)


def test_server_is_refused_by_its_name_unless_it_is_allowed(mariadb: Address, tmp_path: Path) -> None:
    """In one line with the way on; on which it is named beside every figure."""
    options = ("--engine", "mysql", "--duration", "1s", "--peak-rate", "50", "-u", "4")
    environment = {"LOADGEN_DSN": f"mysql://root@/?socket={mariadb.socket}"}
    refused = run_sale(tmp_path, *options, environment=environment)
    assert refused.exit_code == 2, refused
    assert "the server says that it is MariaDB 1" in refused.stderr and "--allow-unknown-engine" in refused.stderr
    assert "Traceback" not in refused.told

    run = run_sale(tmp_path, *options, "--allow-unknown-engine", environment=environment)
    assert run.exit_code == 0, run
    assert run.summary["engine"]["fork"] == run.plan["engine"]["fork"] == "MariaDB"
    told = " ".join(run.stdout.split())
    assert "(as MySQL: never tried)" in told and "no figure is one of MySQL" in told


def test_control_names_it(mariadb: Address) -> None:
    """As what it is, with its own version."""
    control = ENGINE.control(mariadb, "test")
    try:
        facts = control.facts()
    finally:
        control.close()
    assert facts["fork"] == facts["edition"] == "MariaDB"
    assert facts["version"].startswith(("10.", "11."))
