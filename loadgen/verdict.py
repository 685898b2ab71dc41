"""What a check answers: a verdict, and for every anomaly the smallest witness that proves it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


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


def overall(findings: Iterable[Finding]) -> Verdict:
    """Invalid beats unknown, unknown beats valid; no finding at all is unknown."""
    verdicts = {finding.verdict for finding in findings}
    for verdict in (Verdict.INVALID, Verdict.UNKNOWN, Verdict.VALID):
        if verdict in verdicts:
            return verdict
    return Verdict.UNKNOWN
