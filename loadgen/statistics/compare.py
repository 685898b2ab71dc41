"""Is B faster than A? Ratios with their intervals, and a difference only where one is shown.

Pairs of runs that were made in ABBA order are compared by Wilcoxon's signed rank test of the logarithms of their
ratios, runs that were not made in pairs by Mann and Whitney's test, with a warning. One metric decides. The others are
held to Holm's rule, as of many metrics one differs by chance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from statistics import median
from typing import Any

from loadgen.statistics.pairing import LEAST_PAIRS
from loadgen.statistics.ranks import Shift, rank_sum, signed_rank

ALPHA = 0.05
"""How often a difference may be claimed where there is none."""
LEAST_RUNS = 4
"""Of fewer runs a side Mann and Whitney's test can't show anything at 5 %."""
DRIFT_WARNING = (
    "these runs were not made in pairs (ABBA order): if the machine drifted, the difference may be the drift's, "
    "as it is in up to half of such comparisons"
)


class Method(StrEnum):
    """The test behind a comparison."""

    PAIRS = "signed rank of pairs"
    BLOCKS = "Mann-Whitney"


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a run. ``higher_is_better`` is None where neither is."""

    name: str
    unit: str = ""
    higher_is_better: bool | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric's values in the runs of two sides, in order; None where a run has none. In pairs, places match."""

    metric: Metric
    a: Sequence[float | None]
    b: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one metric's values show.

    ``a`` and ``b`` are the medians. ``ratio`` is B to A, by Hodges and Lehmann, and ``low`` … ``high`` its interval at
    the level. ``p`` is the test's, for a secondary metric after Holm. ``shown``: a difference is. ``would_be_seen`` is
    the smallest change that would have been, the width of the interval: 0.04 is 4 %. Where the sample is too small, the
    interval, ``p`` and ``would_be_seen`` are None, and ``note`` says so. ``runs`` are those of each side.
    """

    metric: Metric
    method: Method
    runs: tuple[int, int]
    a: float | None
    b: float | None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    shown: bool = False
    would_be_seen: float | None = None
    note: str = ""

    @property
    def worse(self) -> bool:
        """Whether B is shown to be worse than A."""
        if not self.shown or self.ratio is None or self.metric.higher_is_better is None:
            return False
        return self.ratio < 1 if self.metric.higher_is_better else self.ratio > 1

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "worse": self.worse}


@dataclass(frozen=True, slots=True)
class Compared:
    """A whole comparison: the metric that decides, the others after Holm, and a warning or an empty text."""

    primary: Comparison
    secondary: Sequence[Comparison]
    alpha: float
    warning: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        secondary = [each.to_json() for each in self.secondary]
        return {
            "primary": self.primary.to_json(), "secondary": secondary, "alpha": self.alpha, "warning": self.warning
        }  # fmt: skip


def compare(primary: Measured, secondary: Sequence[Measured] = (), *, paired: bool, alpha: float = ALPHA) -> Compared:
    """Compare two sides in their primary metric and in others.

    ``paired`` says that the values' places are pairs of runs made next to each other, in balanced order. Raises
    ValueError if paired sides differ in their number of runs, and for 0 ≥ alpha or alpha ≥ 0.5.
    """
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is between 0 and 0.5, not {alpha}")
    one = _pairs if paired else _blocks
    others = [one(measured, alpha) for measured in secondary]
    held = holm({str(at): each.p for at, each in enumerate(others) if each.p is not None})
    others = [_held(each, held.get(str(at)), alpha) for at, each in enumerate(others)]
    return Compared(one(primary, alpha), others, alpha, "" if paired else DRIFT_WARNING)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values of many tests, so adjusted that one is at most α by chance in a share α of all families (Holm, 1979).

    Scandinavian Journal of Statistics 6, 65-70. The order of the p-values is kept.
    """
    adjusted: dict[str, float] = {}
    so_far = 0.0
    for at, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        so_far = max(so_far, min(1.0, (len(p_values) - at) * p_values[name]))
        adjusted[name] = so_far
    return {name: adjusted[name] for name in p_values}


def _pairs(measured: Measured, alpha: float) -> Comparison:
    if len(measured.a) != len(measured.b):
        raise ValueError(f"{measured.metric.name}: {len(measured.a)} and {len(measured.b)} runs don't make pairs")
    pairs = [(a, b) for a, b in zip(measured.a, measured.b, strict=True) if a is not None and b is not None]
    a, b = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    blank = _blank(measured.metric, Method.PAIRS, a, b)
    if blank.note:
        return blank
    shift = signed_rank([math.log(after / before) for before, after in pairs], alpha)
    few = f"{len(pairs)} pairs show nothing: at least {LEAST_PAIRS} are needed" if len(pairs) < LEAST_PAIRS else ""
    return _filled(blank, shift, few, alpha)


def _blocks(measured: Measured, alpha: float) -> Comparison:
    a, b = ([value for value in side if value is not None] for side in (measured.a, measured.b))
    blank = _blank(measured.metric, Method.BLOCKS, a, b)
    if blank.note:
        return blank
    shift = rank_sum([math.log(value) for value in a], [math.log(value) for value in b], alpha)
    few = ""
    if min(len(a), len(b)) < LEAST_RUNS:
        few = f"{len(a)} and {len(b)} runs show nothing: at least {LEAST_RUNS} a side are needed"
    return _filled(blank, shift, few, alpha)


def _blank(metric: Metric, method: Method, a: Sequence[float], b: Sequence[float]) -> Comparison:
    """The comparison before its test, with a note where no ratio can be taken."""
    note = ""
    if not a or not b:
        note = "not compared: no values on both sides"
    elif not all(0 < value < math.inf for value in (*a, *b)):
        note = "not compared: a ratio needs values above 0"
    medians = (median(a) if a else None, median(b) if b else None)
    return Comparison(metric, method, (len(a), len(b)), *medians, note=note)


def _filled(blank: Comparison, shift: Shift, few: str, alpha: float) -> Comparison:
    ratio = math.exp(shift.estimate)
    if few or shift.low is None or shift.high is None:
        return replace(blank, ratio=ratio, note=few or f"so few runs can't show anything at a level of {alpha:g}")
    return replace(
        blank,
        ratio=ratio,
        low=math.exp(shift.low),
        high=math.exp(shift.high),
        p=shift.p,
        shown=shift.p <= alpha,
        would_be_seen=math.expm1(shift.high - shift.low),
    )


def _held(comparison: Comparison, p: float | None, alpha: float) -> Comparison:
    return comparison if p is None else replace(comparison, p=p, shown=p <= alpha)
