"""What a person reads about a sale in the report: units that were left, and what browses of replicas saw."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loadgen.untrusted import mapping


def lines(summary: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    """The sections of the report that only a sale has, each as ``(label, text, ...)``."""
    return [section for section in (_undersell(summary), _replica_reads(summary)) if section]


def _undersell(summary: Mapping[str, Any]) -> tuple[str, ...]:
    left = mapping(summary.get("undersell"))
    if not left.get("units"):
        return ()
    causes = ", ".join(f"{cause} {units:,}" for cause, units in mapping(left.get("causes")).items() if units)
    return ("Undersell", f"{_plural(left['units'], 'unit')} left although buyers were refused: {causes}")


def _replica_reads(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """How stale reads from replicas were: no violation, for a replica is documented to lag."""
    return tuple(_told(reads)) if (reads := mapping(summary.get("replica_reads"))) else ()


def _told(reads: Mapping[str, Any]) -> Iterator[str]:
    share = f" ({reads['stale_percent']:.1f} %)" if reads["reads"] else ""
    times = ", ".join(f"{name} {_ms(value)}" for name, value in reads["staleness_ms"].items())
    yield "Replicas"
    yield (
        f"{_plural(reads['reads'], 'read')} from {_plural(len(reads['by_replica']), 'replica')}: "
        f"stale {reads['stale']:,}{share}{f', by ms: {times}' if reads['stale'] else ''}; older than the "
        f"session's own writes {reads['read_your_writes']:,}, than its earlier reads {reads['monotonic_reads']:,}"
    )
    for name, witness in reads["witnesses"].items():
        yield f"{name.replace('_', '-')}: {witness}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"
