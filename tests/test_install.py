"""``loadgen install``: what is missing is said in one line, and nothing is left of a try that failed."""

from pathlib import Path

import pytest

from loadgen.clusters.binaries import deploy_folder
from loadgen.clusters.install import TIDB_MODULE, install
from loadgen.errors import ClusterError


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without Go, apt and servers; its cache folder."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("LOADGEN_CACHE", str(cache))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    return cache


@pytest.mark.parametrize(("name", "missing"), [("mysql", "apt-get, dpkg-deb"), ("tidb", "go")])
def test_missing_tools_are_named_and_nothing_is_left(name: str, missing: str, bare: Path) -> None:
    """Which tools are missing, and the way without them."""
    with pytest.raises(ClusterError, match=f"not found here: {missing}.*--cluster container"):
        install(name, lambda _: None)
    assert list(bare.iterdir()) == []


def test_unknown_server_is_refused() -> None:
    """Only what has a recipe can be installed."""
    with pytest.raises(ClusterError, match="mysql, tidb"):
        install("oracle", lambda _: None)


def test_cache_folder_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variable that names another folder is in the message."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("LOADGEN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ClusterError, match="LOADGEN_CACHE"):
        install("tidb", lambda _: None)


def test_tidb_module_names_its_version() -> None:
    """The version that the server is stamped with is read from the module."""
    found = TIDB_MODULE.search((deploy_folder() / "images" / "tidb" / "go.mod").read_text())
    assert found and len(found[1]) == 8 and len(found[2]) == 12
