"""The name beside every figure: engine, version and edition. A lesser edition is never shown as the whole database."""

from collections.abc import Mapping
from typing import Any

from loadgen.databases import DATABASES

NOT_THE_CLUSTER: Mapping[str, str] = {
    edition: sentence for database in DATABASES.values() for edition, sentence in database.lesser_editions.items()
}
"""Editions whose figures must never be shown as those of the whole database."""


def engine_title(engine: Mapping[str, Any]) -> str:
    """Its name, by its ``title`` or ``name``, ``version``, ``edition`` and ``fork``, if it has them."""
    title = str(engine.get("title") or engine.get("name") or "unknown engine")
    edition, version = str(engine.get("edition") or ""), str(engine.get("version") or "")
    if fork := engine.get("fork"):
        return f"{fork} {version} (as {title}: never tried)"
    if edition in NOT_THE_CLUSTER:
        return f"{edition} {version} ({title}'s dialect)"
    if edition and edition.lower() not in title.lower():
        return f"{title} {version} ({edition})"
    return f"{title} {version}".rstrip()
