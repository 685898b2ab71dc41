"""The name that stands beside every figure: engine, version and edition, a lesser edition never as the whole."""

from collections.abc import Mapping
from typing import Any

NOT_THE_CLUSTER = {
    "seekdb": "seekdb is OceanBase's single-node edition: no figure here is one of an OceanBase cluster",
    "unistore": "unistore is TiDB's store in one process, for trying out: no figure here is one of TiDB on TiKV",
}
"""Editions whose figures must never stand as their big sister's."""


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
