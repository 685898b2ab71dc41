"""What an isolation check finds: named anomalies, counted, each with a witness in words."""

from collections.abc import Iterable
from dataclasses import dataclass, field

KEPT = 5
"""How many witnesses of one anomaly are kept; all are counted."""


@dataclass(slots=True)
class Anomalies:
    """The anomalies of one history by name."""

    count: dict[str, int] = field(default_factory=dict)
    witnesses: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, witness: str, count: int = 1) -> None:
        """Add ``count`` anomalies; ``witness`` describes one of them."""
        self.count[name] = self.count.get(name, 0) + count
        told = self.witnesses.setdefault(name, [])
        if len(told) < KEPT and witness not in told:
            told.append(witness)

    def add_all(self, name: str, witnesses: Iterable[str], count: int) -> None:
        """Note ``count`` anomalies; ``witnesses`` are asked for as many as are kept."""
        if count:
            self.count[name] = self.count.get(name, 0) + count
            told = self.witnesses.setdefault(name, [])
            for witness in witnesses:
                if len(told) >= KEPT:
                    break
                told.append(witness)

    def names(self) -> list[str]:
        """The names found, sorted."""
        return sorted(self.count)

    def merge(self, other: "Anomalies") -> None:
        """Take what the other found."""
        for name, count in other.count.items():
            self.add_all(name, other.witnesses.get(name, ()), count)
