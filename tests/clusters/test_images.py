"""Images are pinned in one place, and the environment overrides each."""

import re

import pytest

from loadgen.clusters.binaries import deploy_folder
from loadgen.clusters.compose import TOPOLOGIES, image_environment, topology_of
from loadgen.clusters.images import image_of, image_variables
from loadgen.errors import ClusterError


@pytest.fixture(autouse=True)
def no_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with the pins alone."""
    for name in image_variables():
        monkeypatch.delenv(name, raising=False)


def test_official_images_are_the_default() -> None:
    """Who sets nothing gets the official images."""
    assert image_of("postgres").startswith("postgres:")
    assert image_of("mysql").startswith("mysql:")
    assert image_of("tidb").startswith("pingcap/tidb:v")
    assert image_of("oceanbase").startswith("oceanbase/oceanbase-ce:")


def test_environment_overrides_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """An override changes its image and no other."""
    monkeypatch.setenv("LOADGEN_IMAGE_MYSQL", "mysql:9.7")
    assert image_of("mysql") == "mysql:9.7"
    assert image_of("postgres").startswith("postgres:")


def test_image_with_a_space_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be an image's name is refused before Docker sees it."""
    monkeypatch.setenv("LOADGEN_IMAGE_MYSQL", "mysql 9")
    with pytest.raises(ClusterError, match="LOADGEN_IMAGE_MYSQL"):
        image_of("mysql")


def test_tidb_tikv_and_pd_are_of_one_version() -> None:
    """Components of different versions fail with wire errors."""
    assert len({image_of(name).rpartition(":")[2] for name in ("tidb", "tikv", "pd")}) == 1


@pytest.mark.parametrize("folder", sorted(TOPOLOGIES))
def test_compose_file_uses_pinned_images_only(folder: str) -> None:
    """Every image of a compose file is one of the pins, and plain docker compose finds them beside it."""
    directory = deploy_folder() / TOPOLOGIES[folder].folder
    images = re.findall(r"^\s*image: (.+)$", (directory / "compose.yaml").read_text(), re.MULTILINE)

    assert images
    for image in images:
        match = re.fullmatch(r"\$\{(LOADGEN_IMAGE_\w+)\}", image)
        assert match and match[1] in image_variables(), image
    assert (directory / ".env").read_text() == (deploy_folder() / "images.env").read_text()


@pytest.mark.parametrize("folder", sorted(TOPOLOGIES))
def test_compose_file_publishes_on_loopback_only(folder: str) -> None:
    """No port of a compose file is open to other machines."""
    text = (deploy_folder() / TOPOLOGIES[folder].folder / "compose.yaml").read_text()
    published = re.findall(r"^\s*ports: \[(.+)\]$", text, re.MULTILINE)

    assert published and all(port.startswith('"127.0.0.1:') for port in published)


def test_seekdb_image_makes_oceanbase_the_pair_of_seekdb(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image's name decides between one OceanBase server and seekdb's primary and standby."""
    assert topology_of("oceanbase").folder == "oceanbase"

    monkeypatch.setenv("LOADGEN_IMAGE_OCEANBASE", "registry:5000/my/seekdb:1")

    assert topology_of("oceanbase").folder == "seekdb"
    assert image_environment("oceanbase")["LOADGEN_IMAGE_SEEKDB"] == "registry:5000/my/seekdb:1"
