"""A file of rates from production, as a shape: lines of ``second,rate``."""

from bisect import bisect_right
from itertools import accumulate, pairwise
from pathlib import Path

from loadgen.clock import is_number
from loadgen.errors import PlanError
from loadgen.plan import MAX_RATE
from loadgen.shapes import CELLS, DIGITS, Curve

MAX_BYTES = 8_000_000
MAX_LINES = 200_000
"""A day of seconds is 86,400 lines."""
MOST_NAMED = 5
"""How many bad lines an error names."""


def names_a_file(text: str) -> bool:
    """Whether ``--shape`` names a file: ``csv:FILE``, or a path that ends in .csv."""
    return text.strip().lower().startswith("csv:") or text.strip().lower().endswith(".csv")


def read_rate_file(text: str) -> Curve:
    """The shape in the file that ``text`` names. Raises PlanError, which names the file and its bad lines.

    Each rate (arrivals a second) holds from its second until that of the next line, the last for as long as the one
    before. Time counts from the first line. The duration and the highest rate are the file's own unless the user gives
    others, to which it is then stretched. A header, empty lines and lines with # are passed over. More than 8,192 lines
    become 8,192 parts of the same length, each with its mean rate.
    """
    file = text.strip()
    file = file[4:] if file.lower().startswith("csv:") else file
    seconds, rates = _rows(file, _lines(file))
    if len(seconds) < 2:
        raise PlanError(f"--shape: {file} has {len(seconds)} lines of second,rate: a shape needs at least two")
    ends = [*seconds[1:], 2 * seconds[-1] - seconds[-2]]
    duration_s = ends[-1] - seconds[0]
    begins = [(second - seconds[0]) / duration_s for second in seconds]
    # Two lines so close that no piece lies between them are one to a schedule, too.
    if len(rates) > CELLS or not all(first < second < 1.0 for first, second in pairwise(begins)):
        begins, rates = _in_cells(begins, rates)
    highest = max(rates)
    if not highest:
        raise PlanError(f"--shape: all rates in {file} are 0, so no arrival is ever due")
    pieces = [(begins[0], round(rates[0] / highest, DIGITS))]
    for begin, rate in zip(begins[1:], rates[1:], strict=True):
        relative = round(rate / highest, DIGITS)
        if relative != pieces[-1][1]:
            pieces.append((begin, relative))
    return Curve(pieces=tuple(pieces), duration_s=duration_s, peak_rate=highest)


def _lines(file: str) -> list[str]:
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise PlanError(f"--shape: {file[:200]}: {reason}") from error
    lines = content.decode("utf-8-sig", "replace").splitlines()
    if len(content) > MAX_BYTES or len(lines) > MAX_LINES:
        raise PlanError(f"--shape: {file} has more than {MAX_LINES:,} lines or {MAX_BYTES:,} bytes: give fewer seconds")
    return lines


def _rows(file: str, lines: list[str]) -> tuple[list[float], list[float]]:
    seconds: list[float] = []
    rates: list[float] = []
    bad: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = [part.strip().strip('"') for part in line.split(",")]
        if not seconds and not bad and [part.lower() for part in parts] == ["second", "rate"]:
            continue
        if reason := _wrong(parts, seconds):
            bad.append((number, reason))
        else:
            seconds.append(float(parts[0]))
            rates.append(float(parts[1]))
    if bad:
        number, reason = bad[0]
        others = ", ".join(str(each) for each, _ in bad[1:MOST_NAMED])
        more = f"; also line {others}" if others else ""
        more += f" and {len(bad) - MOST_NAMED:,} more" if len(bad) > MOST_NAMED else ""
        raise PlanError(f"--shape: {file} line {number}: {reason}{more}")
    return seconds, rates


def _wrong(parts: list[str], seconds: list[float]) -> str:
    """What is wrong with a line, or nothing."""
    if len(parts) != 2:
        return f"{','.join(parts)[:60]!r} is not second,rate"
    second, rate = parts
    if not is_number(second) or abs(float(second)) > 1e12:
        return f"{second[:40]!r} is not a second"
    if not is_number(rate) or not 0 <= float(rate) <= MAX_RATE:
        return f"{rate[:40]!r} is not a rate from 0 to {MAX_RATE:,.0f}"
    if seconds and float(second) <= seconds[-1]:
        return f"second {second} does not come after {seconds[-1]:.15g}"
    return ""


def _in_cells(begins: list[float], rates: list[float]) -> tuple[list[float], list[float]]:
    """The same in cells of one length: as many arrivals in each."""
    ends = [*begins[1:], 1.0]
    counts = [0.0, *accumulate((end - begin) * rate for begin, end, rate in zip(begins, ends, rates, strict=True))]

    def until(share: float) -> float:
        at = min(bisect_right(begins, share), len(begins)) - 1
        return counts[at] + (share - begins[at]) * rates[at]

    edges = [index / CELLS for index in range(CELLS + 1)]
    sums = [until(edge) for edge in edges]
    return edges[:-1], [max(0.0, (after - before) * CELLS) for before, after in pairwise(sums)]
