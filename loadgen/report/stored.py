"""A stored summary, read again: refused where it contradicts itself."""

from pathlib import Path
from typing import Any

from loadgen.errors import StoreError
from loadgen.untrusted import mapping, read_json
from loadgen.verdict import Verdict


def read_summary(path: Path) -> dict[str, Any]:
    """The summary in ``path``. Raises StoreError if it is none, or calls valid what its checks do not."""
    summary = read_json(path)
    verdict, checks = summary.get("verdict"), summary.get("checks")
    if not isinstance(verdict, str) or verdict not in list(Verdict):
        raise StoreError(f"{path} holds no verdict")
    verdicts = [mapping(check).get("verdict") for check in checks] if isinstance(checks, list) else []
    if verdict == Verdict.VALID and not (verdicts and all(each == Verdict.VALID for each in verdicts)):
        raise StoreError(f"{path} contradicts itself: its verdict is valid, and its checks say otherwise")
    return summary
