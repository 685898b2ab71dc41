"""Where a server's program is found: the variable, PATH, then the cache folder."""

import os
from pathlib import Path

import pytest

from loadgen.clusters.binaries import SERVER_BINARIES, cache_folder, cached_binary, deploy_folder, find_binary
from loadgen.clusters.binaries import need_binary as need
from loadgen.errors import ClusterError

TIDB = SERVER_BINARIES["tidb"]


def program(path: Path) -> Path:
    """A program that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any server; its directory."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("LOADGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(TIDB.variable, raising=False)
    return tmp_path


def test_nothing_installed_is_said_with_every_remedy(nothing: Path) -> None:
    """A missing program names the command, the variable and the way without it."""
    assert find_binary(TIDB) is None
    with pytest.raises(ClusterError, match=r"loadgen install tidb.*LOADGEN_TIDB_SERVER.*--cluster container"):
        need(TIDB)


def test_each_place_beats_the_next(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is found, PATH beats it, and the variable beats both."""
    cached = program(cached_binary(TIDB))
    assert find_binary(TIDB) == cached
    on_path = program(nothing / "bin" / "tidb-server")
    assert find_binary(TIDB) == on_path
    named = program(nothing / "elsewhere" / "server")
    monkeypatch.setenv(TIDB.variable, str(named))
    assert find_binary(TIDB) == named


def test_variable_that_names_no_program_is_refused(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong variable is an error, not a reason to take another program."""
    program(cached_binary(TIDB))
    monkeypatch.setenv(TIDB.variable, str(nothing / "nowhere"))
    with pytest.raises(ClusterError, match=r"LOADGEN_TIDB_SERVER=.*nowhere is not a program"):
        find_binary(TIDB)


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
