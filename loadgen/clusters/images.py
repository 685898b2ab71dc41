"""Which image each server comes from: ``deploy/images.env`` pins them all, the environment overrides any of them."""

import os

from loadgen.clusters.binaries import deploy_folder
from loadgen.databases import DATABASES
from loadgen.databases.database import Image
from loadgen.errors import ClusterError

PREFIX = "LOADGEN_IMAGE_"
PINS = "images.env"


def image_of(server: str) -> str:
    """The image of ``server`` (postgres, mysql, tidb, tikv, pd, oceanbase, seekdb, haproxy)."""
    return image_variables()[PREFIX + server.upper()]


def server_image(engine: str) -> tuple[Image, str]:
    """How ``engine`` is run in a container, and from which image: its own, or that of an edition by the name's end."""
    first, *others = DATABASES[engine].images
    chosen = image_of(first.name)
    return next((other for other in others if other.name in chosen.rsplit("/", 1)[-1]), first), chosen


def image_variables() -> dict[str, str]:
    """Every ``LOADGEN_IMAGE_*`` as the compose files want them: the pins, overridden by the environment."""
    pins = deploy_folder() / PINS
    lines = [line.strip() for line in pins.read_text().splitlines()]
    images = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    for name in images:
        if chosen := os.environ.get(name):
            if any(character.isspace() for character in chosen):
                raise ClusterError(f"{name}={chosen!r} is not the name of an image")
            images[name] = chosen
    return images
