"""What a check answers: a verdict, and for every anomaly the smallest witness that proves it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from traceback import extract_tb
from typing import TypeVar

T = TypeVar("T")


class Verdict(StrEnum):
    """Valid, invalid, or unknown: nothing else, and unknown is never shown as valid."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one check to one history.

    ``anomalies`` counts the proved violations. ``witnesses`` describes the first few of them, each in one sentence with
    tokens, SKUs, versions and times. ``unknown`` says why the check could not decide, and is empty when it could.
    """

    name: str
    anomalies: int = 0
    witnesses: Sequence[str] = ()
    unknown: str = ""

    @property
    def verdict(self) -> Verdict:
        """Invalid as soon as one anomaly is proved, however much else is unknown."""
        if self.anomalies:
            return Verdict.INVALID
        return Verdict.UNKNOWN if self.unknown else Verdict.VALID


def check_safe(name: str, check: Callable[[T], Finding], subject: T) -> Finding:
    """The check's finding; unknown, with the error, if it raises: a check that breaks down has decided nothing."""
    try:
        return check(subject)
    except Exception as error:  # noqa: BLE001 - whatever a check of any workload raises
        return Finding(name, unknown=f"the check itself failed{_where(error)}: {type(error).__name__}: {error}")


def _where(error: Exception) -> str:
    """The last line outside the packages that raised: its author looks for it there."""
    frames = [frame for frame in extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    return f" in line {frames[-1].lineno} of {Path(frames[-1].filename).name}" if frames else ""


def doubted(finding: Finding, doubt: str) -> Finding:
    """The finding of a history about which there is a ``doubt``: what it does not prove is unknown."""
    if not doubt or finding.anomalies:
        return finding
    return Finding(finding.name, 0, finding.witnesses, unknown=finding.unknown or doubt)


def overall(findings: Iterable[Finding]) -> Verdict:
    """Invalid beats unknown, unknown beats valid; no finding at all is unknown."""
    verdicts = {finding.verdict for finding in findings}
    for verdict in (Verdict.INVALID, Verdict.UNKNOWN, Verdict.VALID):
        if verdict in verdicts:
            return verdict
    return Verdict.UNKNOWN
