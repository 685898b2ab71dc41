"""Capacities, comparisons and scalability laws as plain text: the answer first, then what it rests on."""

from collections.abc import Sequence

from loadgen.statistics.capacity import Capacity, Found
from loadgen.statistics.compare import Compared, Comparison, Method
from loadgen.statistics.proportion import Decision, Share
from loadgen.statistics.trials import Settings
from loadgen.statistics.usl import FARTHEST, Estimate, Law, Prediction

GAP = "  "
BY_CONFIRMATION = {
    Decision.PASS: "met, with 99 % confidence",
    Decision.FAIL: "not met, with 99 % confidence",
    Decision.UNDECIDED: "undecided: too few arrivals for 99 % confidence",
}
BY_BURSTS = {
    Decision.PASS: "also with its bursts counted",
    Decision.FAIL: "not met if its bursts are counted",
    Decision.UNDECIDED: "undecided if its bursts are counted",
}


def capacity_text(capacity: Capacity, settings: Settings) -> str:
    """What a capacity search found, and why it stopped: several lines."""
    lines = [_figure(capacity), f"  stopped: {capacity.why}"]
    if len(capacity.found) > 1:
        answers = ", ".join(_rate(found.low) for found in capacity.found)
        lines.append(f"  {len(capacity.found)} searches: {answers} per second")
    best = _nearest(capacity.found, capacity.rate)
    if best is not None:
        lines.append(f"  bracket: met at {_rate(best.low)}/s, not met at {_rate(best.high)}/s")
        lines += [_objective(name, best) for name in settings.allowed]
    if capacity.anchor_change is not None:
        change = f"{100 * capacity.anchor_change:+.1f} %"
        lines.append(f"  machine: the closed load's rate changed by {change} from first to last")
    lines.append(f"  {capacity.trials:,} trials")
    return "\n".join(lines) + "\n"


def comparison_text(compared: Compared, a: str, b: str) -> str:
    """A comparison of two sides by their names: a line for each metric, the deciding one first, and what to know."""
    comparisons = (compared.primary, *compared.secondary)
    rows = [["", a, b, f"{b} to {a}", "interval", "p"]]
    lines = _aligned(rows + [_comparison_row(comparison) for comparison in comparisons])
    lines += [note for comparison in comparisons if (note := _note(comparison))]
    if compared.warning:
        lines.append(f"Warning: {compared.warning}.")
    runs_a, runs_b = compared.primary.runs
    runs = f"{runs_a} pairs of runs" if compared.primary.method is Method.PAIRS else f"{runs_a} and {runs_b} runs"
    holm = "; the metrics after the first by Holm's rule" if compared.secondary else ""
    lines.append(f"{runs}, intervals at {100 * (1 - compared.alpha):g} %{holm}")
    return "\n".join(lines) + "\n"


def law_text(law: Law, predictions: Sequence[Prediction]) -> str:
    """A fitted law with its bounds, the residual of each level, and predictions."""
    lines = [
        "Universal Scalability Law, with 95 % bounds:",
        f"  γ {_bounds(law.gamma, '.4g')} per second with one session",
        f"  α {_bounds(law.alpha, '.3g')} contention",
        f"  β {_bounds(law.beta, '.3g')} coherency",
        f"  {_peak(law)}",
    ]
    rows = [["sessions", "measured/s", "law/s", "off", "runs"]]
    rows += [
        [
            f"{level.sessions:,}",
            _rate(level.measured),
            _rate(level.fitted),
            f"{100 * level.residual:+.1f} %",
            f"{level.runs:,}",
        ]
        for level in law.levels
    ]
    lines += _aligned(rows)
    lines += [_prediction(prediction) for prediction in predictions]
    return "\n".join(lines) + "\n"


def _figure(capacity: Capacity) -> str:
    if capacity.rate is not None:
        error = "one search, so its error is not known"
        if capacity.error_low is not None and capacity.error_high is not None:
            error = f"{_rate(capacity.error_low)} … {_rate(capacity.error_high)} with 95 % confidence"
        return f"Capacity: {_rate(capacity.rate)} arrivals a second ({error})"
    if capacity.low is None:
        known = "no rate met the objectives"
    elif capacity.high is None:
        known = f"at least {_rate(capacity.low)} arrivals a second met the objectives"
    else:
        known = f"between {_rate(capacity.low)} and {_rate(capacity.high)} arrivals a second"
    return f"Capacity: no figure ({known})"


def _nearest(found: Sequence[Found], rate: float | None) -> Found | None:
    return next((each for each in found if each.low == rate), None)


def _objective(name: str, found: Found) -> str:
    share, burst = found.shares[name], found.with_bursts[name]
    counts = f"{share.bad:,} of {share.of:,} arrivals bad ({_share(share)} %, {100 * share.allowed:g} % allowed)"
    told = BY_CONFIRMATION[share.decision]
    if share.decision is Decision.PASS and share.bad:
        told += f"; {BY_BURSTS[burst.decision]}"
    return f"  {name}: {counts}: {told}"


def _share(share: Share) -> str:
    return f"{100 * share.bad / share.of:.2g}" if share.of else "-"


def _comparison_row(comparison: Comparison) -> list[str]:
    sides = [_value(side, comparison.metric.unit) for side in (comparison.a, comparison.b)]
    name = comparison.metric.name
    if comparison.p is None or comparison.ratio is None or comparison.low is None or comparison.high is None:
        return [name, *sides, "-", "", ""]
    worse = " worse" if comparison.worse else ""
    change = f"{_change(comparison.ratio)}{worse}" if comparison.shown else "~"
    return [name, *sides, change, f"{_change(comparison.low)} … {_change(comparison.high)}", f"{comparison.p:.3f}"]


def _note(comparison: Comparison) -> str:
    """What the row of a metric doesn't say."""
    name = comparison.metric.name
    if comparison.note:
        return f"{name}: {comparison.note}"
    if comparison.shown or comparison.would_be_seen is None:
        return ""
    seen = f"{100 * comparison.would_be_seen:.1f} %"
    return f"{name}: no difference is shown (~); a change of more than ±{seen} would have been seen"


def _peak(law: Law) -> str:
    if law.peak is None:
        return f"no peak up to {FARTHEST * law.levels[-1].sessions:,} sessions"
    low = "?" if law.peak_low is None else f"{law.peak_low:,.0f}"
    high = f"more than {FARTHEST * law.levels[-1].sessions:,}" if law.peak_high is None else f"{law.peak_high:,.0f}"
    return f"peak at {law.peak:,.0f} sessions ({low} … {high})"


def _prediction(prediction: Prediction) -> str:
    low, high = _rate(prediction.low), _rate(prediction.high)
    if prediction.value is None:
        return f"{prediction.sessions:,} sessions: the data allow anything between {low} and {high}/s"
    return f"{prediction.sessions:,} sessions: {_rate(prediction.value)}/s ({low} … {high})"


def _bounds(estimate: Estimate, spec: str) -> str:
    return f"{estimate.value:{spec}} ({estimate.low:{spec}} … {estimate.high:{spec}})"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns: the first to the left, the others to the right, the wide ones as they are."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        GAP.join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _change(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def _value(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{_rate(value)}{'' if unit.startswith('/') or not unit else ' '}{unit}"


def _rate(value: float) -> str:
    """A figure with three significant digits, and all digits of its whole part."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
