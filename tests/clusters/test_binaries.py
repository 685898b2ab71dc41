"""Where a server's program is found: the variable, PATH, then the cache folder."""

import os
import re
from pathlib import Path

import pytest

from loadgen.clusters.binaries import SERVER_BINARIES, cache_folder, cached_binary, deploy_folder, find_binary
from loadgen.clusters.binaries import need_binary as need
from loadgen.errors import ClusterError

TIDB, MYSQL = SERVER_BINARIES["tidb"], SERVER_BINARIES["mysql"]
MYSQLD = "mysqld  Ver 8.4.3 for Linux on x86_64 (MySQL Community Server - GPL)"
OTHERS = {
    "MariaDB 10.11.19": "mysqld  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)",
    "MariaDB 11.4.2": "/usr/sbin/mysqld  Ver 11.4.2-MariaDB-log for Linux on x86_64 (MariaDB Server)",
    "Percona Server 8.0.36-28": "mysqld  Ver 8.0.36-28 for Linux on x86_64 (Percona Server (GPL), Release 28)",
    "Percona XtraDB Cluster 8.0.36-28": "mysqld  Ver 8.0.36-28.1 for Linux on x86_64 (Percona XtraDB Cluster (GPL))",
    "GreatSQL 8.0.32-25": "mysqld  Ver 8.0.32-25 for Linux on x86_64 (GreatSQL, Release 25, Revision 79f57097e3f)",
    "tidb 8.0.11-TiDB-v8.5.0": "mysqld  Ver 8.0.11-TiDB-v8.5.0 for Linux on x86_64",
    "something that says 'hello'": "hello",
    "something that says nothing of itself": "",
}


def program(path: Path, says: str = "Release Version: v8.5.0") -> Path:
    """A program that says ``says`` of itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any server; its directory."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("LOADGEN_CACHE", str(tmp_path / "cache"))
    for server in SERVER_BINARIES.values():
        monkeypatch.delenv(server.variable, raising=False)
    return tmp_path


def test_nothing_installed_is_said_with_every_remedy(nothing: Path) -> None:
    """A missing program names the command, the variable and the way without it."""
    assert find_binary(TIDB) is None
    with pytest.raises(ClusterError, match=r"loadgen install tidb.*LOADGEN_TIDB_SERVER.*--cluster container"):
        need(TIDB)


def test_each_place_beats_the_next(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PATH is looked through, what was installed beats it, and the variable beats both."""
    on_path = program(nothing / "bin" / "tidb-server")
    assert find_binary(TIDB) == on_path
    cached = program(cached_binary(TIDB))
    assert find_binary(TIDB) == cached
    named = program(nothing / "elsewhere" / "server")
    monkeypatch.setenv(TIDB.variable, str(named))
    assert find_binary(TIDB) == named


def test_variable_that_names_no_program_is_refused(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong variable is an error, not a reason to take another program."""
    program(cached_binary(TIDB))
    monkeypatch.setenv(TIDB.variable, str(nothing / "nowhere"))
    with pytest.raises(ClusterError, match=r"LOADGEN_TIDB_SERVER=.*nowhere is not a program"):
        find_binary(TIDB)


@pytest.mark.parametrize("what", OTHERS)
def test_program_of_the_name_that_is_something_else_is_passed_over(
    nothing: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A fork's ``mysqld``, or anything's: the next one on PATH is taken, or its name is told; chosen, it is refused."""
    other = program(nothing / "bin" / "mysqld", OTHERS[what])
    assert find_binary(MYSQL) is None
    with pytest.raises(ClusterError, match=rf"no mysqld of MySQL.*mysqld is {re.escape(what)}\): run"):
        need(MYSQL)
    genuine = program(nothing / "more" / "mysqld", MYSQLD)
    monkeypatch.setenv("PATH", f"{nothing / 'bin'}{os.pathsep}{nothing / 'more'}")
    assert find_binary(MYSQL) == genuine

    monkeypatch.setenv(MYSQL.variable, str(other))
    with pytest.raises(ClusterError, match=rf"is {re.escape(what)}, not MySQL.*--allow-unknown-engine"):
        find_binary(MYSQL)
    assert find_binary(MYSQL, forks=True) == other


def test_program_that_cannot_be_run_is_passed_over(nothing: Path) -> None:
    """One for another processor, say."""
    broken = program(nothing / "bin" / "mysqld")
    broken.write_bytes(b"\x7fELF not for this machine")
    assert find_binary(MYSQL) is None


def test_user_without_a_home_folder_is_told_which_variable_names_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number that its /etc/passwd does not know."""
    for name in ("HOME", "XDG_CACHE_HOME", "LOADGEN_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54_321)
    with pytest.raises(ClusterError, match=r"no home folder.*LOADGEN_CACHE"):
        cache_folder()


def test_cache_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a variable of ours the cache is where the desktop's rule puts it."""
    monkeypatch.delenv("LOADGEN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "loadgen"


def test_deploy_folder_has_what_the_providers_need() -> None:
    """The compose file of every cluster is in it."""
    for name in ("postgres", "mysql", "tidb", "oceanbase", "seekdb"):
        assert (deploy_folder() / name / "compose.yaml").is_file()
