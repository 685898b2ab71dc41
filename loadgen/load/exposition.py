"""Metrics as Prometheus reads them: a family is a value here, and becomes text or protocol buffers when it is scraped.

The text formats are prometheus_client's. It has no protocol buffers, and only those carry native histograms to every
Prometheus that knows them (2.40 and later), so they are written here: io.prometheus.client.MetricFamily, delimited.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

PROTOBUF = "application/vnd.google.protobuf"
PROTOBUF_TYPE = f"{PROTOBUF}; proto=io.prometheus.client.MetricFamily; encoding=delimited"


@dataclass(frozen=True, slots=True)
class Histogram:
    """Times in seconds, counted twice: in classic buckets and in those of a native histogram.

    ``counts`` has one number more than ``bounds``: the last is of what lies above them. Native bucket ``first + i`` of
    ``schema`` holds ``native[i]`` of them: those above ``2 ** ((first + i - 1) / 2 ** schema)`` and not above the same
    power of ``first + i``; ``zero_count`` are at most ``zero_threshold``.
    """

    bounds: Sequence[float]
    counts: Sequence[int]
    sum: float
    schema: int
    zero_threshold: float
    zero_count: int
    first: int
    native: Sequence[int]

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Each bound, and how many lie at or below it; infinity last."""
        below = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            yield bound, below


Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Family:
    """All series of one name. ``type`` is counter, gauge or histogram; a counter's name ends in ``_total``."""

    name: str
    type: str
    help: str
    samples: Sequence[tuple[Labels, float | Histogram]]


class Source(Protocol):
    """Whatever has metrics."""

    def families(self) -> Iterable[Family]:
        """Its metrics as they are now."""


class Collector:
    """The families of ``sources``, as prometheus_client collects them."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Any]:
        """Each family as prometheus_client's Metric."""
        from prometheus_client.core import Metric

        for family in self.families():
            metric = Metric(family.name.removesuffix("_total"), family.help, family.type)
            for labels, value in family.samples:
                _add(metric, family, dict(labels), value)
            yield metric

    def families(self) -> Iterator[Family]:
        """Each family that has a series."""
        return (family for source in self._sources for family in source.families() if family.samples)

    def text(self, accept: str) -> tuple[bytes, str]:
        """The exposition in the text format that ``accept`` asks for, and its content type."""
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def protobuf(self) -> bytes:
        """The exposition as delimited protocol buffers."""
        return b"".join(_message(_family(family)) for family in self.families())


def wants_protobuf(accept: str) -> bool:
    """Whether an Accept header prefers protocol buffers to every text format."""
    best, quality = "", 0.0
    for part in accept.split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        told = dict(parameter.partition("=")[::2] for parameter in parameters)
        try:
            q = float(told.get("q", "1"))
        except ValueError:
            q = 0.0
        if q > quality and (kind != PROTOBUF or told.get("encoding") == "delimited"):
            best, quality = kind, q
    return best == PROTOBUF


def _add(metric: Any, family: Family, labels: dict[str, str], value: float | Histogram) -> None:
    if not isinstance(value, Histogram):
        metric.add_sample(family.name, labels, value)
        return
    for bound, count in value.cumulative():
        # As Go prints it: the text formats and the protocol buffers must give the same label.
        le = "+Inf" if bound == float("inf") else f"{bound:.12g}" if bound % 1 else f"{bound:.1f}"
        metric.add_sample(f"{family.name}_bucket", {**labels, "le": le}, count)
    metric.add_sample(f"{family.name}_count", labels, value.count)
    metric.add_sample(f"{family.name}_sum", labels, value.sum)


# Protocol buffers: https://protobuf.dev/programming-guides/encoding/ and Prometheus' client_model/metrics.proto.

_TYPES = {"counter": 0, "gauge": 1, "histogram": 4}
_VALUE_FIELDS = {"gauge": 2, "counter": 3, "histogram": 7}


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _unsigned(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _signed(field: int, number: int) -> bytes:
    return _unsigned(field, number * 2 if number >= 0 else -number * 2 - 1)


def _double(field: int, number: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", number)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _message(content)


def _message(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _family(family: Family) -> bytes:
    head = _bytes(1, family.name.encode()) + _bytes(2, family.help.encode()) + _unsigned(3, _TYPES[family.type])
    return head + b"".join(_bytes(4, _metric(family.type, *sample)) for sample in family.samples)


def _metric(kind: str, labels: Labels, value: float | Histogram) -> bytes:
    pairs = (_bytes(1, _bytes(1, name.encode()) + _bytes(2, text.encode())) for name, text in labels.items())
    content = _histogram(value) if isinstance(value, Histogram) else _double(1, value)
    return b"".join(pairs) + _bytes(_VALUE_FIELDS[kind], content)


def _histogram(told: Histogram) -> bytes:
    parts = [_unsigned(1, told.count), _double(2, told.sum)]
    parts += [_bytes(3, _unsigned(1, count) + _double(2, bound)) for bound, count in told.cumulative()]
    parts += [_signed(5, told.schema), _double(6, told.zero_threshold), _unsigned(7, told.zero_count)]
    spans = list(_spans(told))
    parts += [_bytes(12, _signed(1, gap) + _unsigned(2, len(counts))) for gap, counts in spans]
    if not spans:  # Without a span it would be no native histogram, but for one that is still empty.
        parts.append(_bytes(12, _signed(1, 0) + _unsigned(2, 0)))
    last = 0
    for count in (count for _, counts in spans for count in counts):
        parts.append(_signed(13, count - last))
        last = count
    return b"".join(parts)


def _spans(told: Histogram) -> Iterator[tuple[int, list[int]]]:
    """The buckets that hold something, in runs: how many empty ones lie before a run, and its counts."""
    end, counts, gap = 0, list[int](), 0
    for index, count in enumerate(told.native, told.first):
        if not count:
            continue
        if counts and index == end:
            counts.append(count)
        else:
            if counts:
                yield gap, counts
            gap, counts = index - end, [count]
        end = index + 1
    if counts:
        yield gap, counts
