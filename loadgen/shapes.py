"""Shapes: how many arrivals a second are due, t seconds into a run.

A shape is one function of relative time (0 at the begin of the schedule, 1 at its end) to relative rate (1 at the
peak). A Profile lays it over a duration and a peak rate, and inverts its integral, which is how arrivals are made.

A new shape is one function of its parameters, and one line in SHAPES.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from loadgen.clock import is_number, parse_duration
from loadgen.errors import PlanError

if TYPE_CHECKING:
    # Whoever parses a plan only, such as a server's guard, does without numpy's tenth of a second.
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Shape = Callable[[float], float]
"""Relative time in [0, 1] -> relative rate in [0, 1]."""
Pieces = tuple[tuple[float, float], ...]
"""A shape of constant rates: ``(begin, rate)`` of each piece, both relative. The first begins at 0, each lasts until
the next begins, the last until 1."""

CELLS = 8192
"""Into how many cells a duration is cut. The rate is constant in a cell: 7 ms of a minute, 0.9 s of two hours."""
DEFAULT_DURATION_S = 60.0
"""How long a run lasts if neither its user nor its shape says so."""
MOST_STEPS = 1000
DIGITS = 9
"""Digits of the rates of pieces: they are kept in plan.json."""


@dataclass(frozen=True)
class Curve:
    """What ``--shape`` asks for: a function or pieces, with the duration and the peak rate where the shape says them.

    ``duration_s`` and ``peak_rate`` (arrivals a second) hold unless the user gives others. ``phases`` are the parts of
    it that have a name, each with its relative begin.
    """

    shape: Shape | None = None
    pieces: Pieces = ()
    duration_s: float | None = None
    peak_rate: float | None = None
    phases: tuple[tuple[str, float], ...] = ()


class Parameters:
    """The parameters of one ``--shape NAME:key=value,...``; a shape's function reads each that it knows.

    ``duration_s`` and ``peak_rate`` are the user's, None where none was given. Every method raises PlanError.
    """

    def __init__(self, text: str, duration_s: float | None, peak_rate: float | None) -> None:
        self.duration_s = duration_s
        self.peak_rate = peak_rate
        self._text = text
        self._unread: dict[str, str] | None = None
        self._known: list[str] = []

    @property
    def rest(self) -> str:
        """All that follows the name, for a shape that does not name its parameters."""
        self._unread = {}
        return self._text.partition(":")[2]

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """The number called ``name``, from ``least`` to ``most``."""
        text = self._take(name)
        if text is None:
            return default
        if not is_number(text) or not least <= float(text) <= most:
            raise self.refusal(f"{name} is {text!r}, not a number from {least:g} to {most:g}")
        return float(text)

    def seconds(self, name: str, default: float) -> float:
        """The time called ``name``, in seconds."""
        text = self._take(name)
        return default if text is None else self.time(name, text)

    def time(self, name: str, text: str) -> float:
        """The seconds of ``text``, such as 30s; more than 0 and at most a week."""
        try:
            return parse_duration(text, name, 7 * 24 * 3600.0)
        except PlanError:
            raise self.refusal(f"{name} is {text!r}, not a time such as 30s") from None

    def refusal(self, reason: str) -> PlanError:
        """The error that refuses this shape."""
        return PlanError(f"--shape {self._text[:80]!r}: {reason}")

    def check_all_read(self) -> None:
        """Refuse what the shape's function did not ask for."""
        for name in self._named():
            takes = ", ".join(self._known) or "no parameters"
            raise self.refusal(f"it has no {name[:40]!r}; {self._text.partition(':')[0]} takes {takes}")

    def _take(self, name: str) -> str | None:
        self._known.append(name)
        return self._named().pop(name, None)

    def _named(self) -> dict[str, str]:
        if self._unread is None:
            self._unread = {}
            for part in filter(None, self._text.partition(":")[2].split(",")):
                name, _, value = (piece.strip() for piece in part.partition("="))
                if name in self._unread:
                    raise self.refusal(f"{name[:40]} is given twice")
                self._unread[name] = value
        return self._unread


# The timeline of Double 11 in seconds from 00:00:00, after the published milestones of 2017-2020; all of it is
# compressed by one time factor, so a minute's run goes through 13 minutes of the sale.
PREHEAT_S = 60.0
"""How long before the sale's begin the run begins."""
PREHEAT_RATES = (0.02, 0.05)
"""The relative rate at the begin and at the end of the preheat."""
PEAK_S = 26.0
"""When the rate is highest: 583,000 orders a second were reported at 00:00:26."""
PLATEAU_END_S = 150.0
"""When it begins to fall."""
DECAY_S = 300.0
"""The time constant of the fall: the short end of the 5-10 minutes that the milestones allow."""
LAST_RATE = 0.15
"""The relative rate at which the run ends: the level of the rest of the first two hours, six times below the peak."""
SALE_END_S = PLATEAU_END_S - DECAY_S * math.log(LAST_RATE)


def double11(given: Parameters) -> Curve:
    """Preheat, a ramp to the peak, a plateau, and an exponential fall: the whole timeline, or what ``compress`` shows.

    ``compress`` is how many seconds of the sale pass in one of the run. After the timeline its last rate stays.
    """
    whole_s = PREHEAT_S + SALE_END_S
    compress = given.number("compress", 0.0, 0.001, 1e6)
    duration_s = None
    shown_s = whole_s
    if compress:
        duration_s = given.duration_s or whole_s / compress
        shown_s = duration_s * compress
        if shown_s <= PREHEAT_S + PEAK_S:
            raise given.refusal(
                f"{duration_s:g} s play {shown_s:g} s of the sale, and its peak comes after "
                f"{PREHEAT_S + PEAK_S:g} s: use compress={math.ceil(1.1 * (PREHEAT_S + PEAK_S) / duration_s)} "
                "or more, or a longer --duration"
            )

    def rate(share: float) -> float:
        second = share * shown_s - PREHEAT_S
        if second <= 0.0:
            return _between(second, -PREHEAT_S, 0.0, *PREHEAT_RATES)
        if second <= PEAK_S:
            return _between(second, 0.0, PEAK_S, PREHEAT_RATES[1], 1.0)
        return max(LAST_RATE, math.exp(min(PLATEAU_END_S - second, 0.0) / DECAY_S))

    begins_s = {"preheat": 0.0, "ramp": PREHEAT_S, "plateau": PREHEAT_S + PEAK_S, "decay": PREHEAT_S + PLATEAU_END_S}
    phases = tuple((name, begin_s / shown_s) for name, begin_s in begins_s.items() if begin_s < shown_s)
    return Curve(rate, duration_s=duration_s, phases=phases)


def constant(_given: Parameters) -> Curve:
    """The peak rate from begin to end."""
    return Curve(lambda _share: 1.0)


def ramp(_given: Parameters) -> Curve:
    """From nothing to the peak rate, in a straight line."""
    return Curve(lambda share: share)


def closed(_given: Parameters) -> Curve:
    """No arrivals: each session takes its next op as soon as it is free."""
    return Curve(lambda _share: 0.0)


def spike(given: Parameters) -> Curve:
    """The share ``base`` of the peak rate, and the peak rate itself for ``for`` seconds from second ``at`` on."""
    duration_s = given.duration_s or DEFAULT_DURATION_S
    at_s = given.seconds("at", 0.5 * duration_s)
    for_s = given.seconds("for", 0.1 * duration_s)
    base = given.number("base", 0.1, 0.0, 1.0)
    if at_s >= duration_s:
        raise given.refusal(f"the spike begins at {at_s:g} s, and the run ends at {duration_s:g} s (--duration)")
    begin, end = at_s / duration_s, (at_s + for_s) / duration_s
    pieces = ((0.0, base), (begin, 1.0), *([(end, base)] if end < 1.0 else []))
    phases = {"before": 0.0, "spike": begin, "after": end}
    return Curve(pieces=pieces, phases=tuple((name, at) for name, at in phases.items() if at < 1.0))


def steps(given: Parameters) -> Curve:
    """Rates in arrivals a second, one after the other: ``100,200,400@30s`` holds each for 30 s.

    A shorter duration cuts the last ones, a longer one holds the last. Without ``@`` each gets the same share of it.
    """
    listed, held, hold = (part.strip() for part in given.rest.partition("@"))
    texts = [text.strip() for text in listed.split(",")]
    if not all(is_number(text) and float(text) >= 0 for text in texts) or len(texts) > MOST_STEPS:
        raise given.refusal(f"it takes up to {MOST_STEPS:,} rates and how long each lasts, such as 100,200,400@30s")
    rates = [float(text) for text in texts]
    hold_s = given.time("the time that each is held", hold) if held else None
    if hold_s is None:
        duration_s = given.duration_s
        begins = [index / len(rates) for index in range(len(rates))]
    else:
        duration_s = given.duration_s or hold_s * len(rates)
        begins = [index * hold_s / duration_s for index in range(len(rates))]
    shown = [(begin, rate) for begin, rate in zip(begins, rates, strict=True) if begin < 1.0 - 1e-12]
    highest = max(rate for _, rate in shown)
    if not highest:
        raise given.refusal("no arrival is ever due")
    if given.peak_rate not in (None, highest):
        raise given.refusal(f"its highest rate is {highest:g}, which --peak-rate {given.peak_rate:g} contradicts")
    pieces = tuple((begin, rate / highest) for begin, rate in shown)
    phases = tuple((f"step{index + 1}", begin) for index, (begin, _) in enumerate(pieces))
    return Curve(pieces=pieces, duration_s=duration_s, peak_rate=highest, phases=phases)


SHAPES: Mapping[str, Callable[[Parameters], Curve]] = {
    "double11": double11,
    "constant": constant,
    "ramp": ramp,
    "closed": closed,
    "spike": spike,
}
"""The shapes that ``--shape`` names."""
WITH_VALUES: Mapping[str, Callable[[Parameters], Curve]] = {"steps": steps}
"""Those that say nothing without their parameters."""


def is_closed(text: str) -> bool:
    """Whether sessions take one op after another instead of waiting for arrivals."""
    return text == "closed"


def asked_shape(
    text: str,
    duration_s: float | None = None,
    peak_rate: float | None = None,
    own: Mapping[str, Shape | Curve] | None = None,
) -> tuple[str, Curve]:
    """The shape that ``text`` asks for, in its one spelling, and its curve. Raises PlanError.

    ``own`` are the workload's shapes and the files that were read, by what a user types; they become pieces.
    """
    asked = text.strip()
    for name, shape in (own or {}).items():
        if asked == name:
            return name, shape if isinstance(shape, Curve) else Curve(pieces=resolved(name, shape))
    asked = asked.lower()
    name, colon, rest = asked.partition(":")
    function = SHAPES.get(name) or (WITH_VALUES.get(name) if rest else None)
    if function is None or (colon and not rest):
        names = ", ".join((*SHAPES, "steps:RATE,RATE@TIME", *(own or {})))
        raise PlanError(f"--shape {text.strip()[:80]!r} is not one of {names}, or a file, given on the command line")
    given = Parameters(asked, duration_s, peak_rate)
    curve = function(given)
    given.check_all_read()
    return asked, curve


def stored_curve(text: str, pieces: Pieces, duration_s: float) -> Curve:
    """The curve of a plan: of its pieces, or of the shape that ``text`` names. Raises PlanError."""
    if not pieces:
        return asked_shape(text, duration_s)[1]
    check_pieces(pieces)
    return Curve(pieces=pieces)


def stored_phases(text: str, duration_s: float) -> tuple[tuple[str, float], ...]:
    """The named parts of a plan's shape, each with its relative begin; none of a shape that is a user's own."""
    try:
        return asked_shape(text, duration_s)[1].phases
    except PlanError:
        return ()


def check_pieces(pieces: Sequence[Any]) -> None:
    """Refuse values from a file that are not pieces. Raises PlanError."""
    before = -1.0
    if not 0 < len(pieces) <= CELLS:
        raise PlanError(f"a shape has {len(pieces):,} pieces, and not 1 to {CELLS:,}")
    for piece in pieces:
        if not (
            isinstance(piece, list | tuple)
            and len(piece) == 2
            and all(isinstance(part, int | float) and 0 <= part <= 1 for part in piece)
            and (piece[0] > before if before >= 0 else piece[0] == 0)
            and piece[0] < 1
        ):
            raise PlanError(f"{str(piece)[:60]} is not a piece of a shape: a later begin than the last, a rate up to 1")
        before = piece[0]
    if not any(rate for _, rate in pieces):
        raise PlanError("no arrival is ever due in its shape")


def resolved(name: str, shape: Shape) -> Pieces:
    """The pieces of a user's own shape. Raises PlanError where it raises, or gives no relative rate."""
    rates = []
    for index in range(CELLS + 1):
        share = index / CELLS
        try:
            rate = float(shape(share))
        except Exception as error:
            # It is a user's code, and a plan's mistake is one line.
            raise PlanError(f"--shape {name}: at {share:g} it raises {error!r:.100}") from error
        if not 0.0 <= rate <= 1.0:  # NaN compares false, so it ends here too
            raise PlanError(f"--shape {name}: at {share:g} it gives {rate:g}; a relative rate is from 0 to 1")
        rates.append(rate)
    pieces: list[tuple[float, float]] = []
    for index in range(CELLS):
        mean = round(0.5 * (rates[index] + rates[index + 1]), DIGITS)
        if not pieces or pieces[-1][1] != mean:
            pieces.append((index / CELLS, mean))
    if not any(rate for _, rate in pieces):
        raise PlanError(f"--shape {name}: it is 0 everywhere, so no arrival is ever due")
    return tuple(pieces)


@dataclass(frozen=True)
class Profile:
    """A shape laid over ``duration_s`` seconds with ``peak_rate`` arrivals a second at its highest.

    ``counts[i]`` arrivals are due, on average, before ``edges_s[i]``; between two edges the rate is constant, so
    ``cumulative`` and ``inverse`` are straight lines there and exact inverses of each other.
    """

    duration_s: float
    peak_rate: float
    edges_s: Floats
    counts: Floats

    @property
    def total(self) -> float:
        """How many arrivals are due in all, on average."""
        return float(self.counts[-1])

    def rate(self, elapsed_s: Floats) -> Floats:
        """Arrivals a second, at each of ``elapsed_s``; 0 outside the duration."""
        import numpy as np

        cell = np.searchsorted(self.edges_s, elapsed_s, side="right") - 1
        last = len(self.edges_s) - 2
        inside = (cell >= 0) & (cell <= last)
        rates = np.diff(self.counts) / np.diff(self.edges_s)
        return np.where(inside, rates[np.clip(cell, 0, last)], 0.0)

    def cumulative(self, elapsed_s: Floats) -> Floats:
        """How many arrivals are due, on average, in the first ``elapsed_s`` seconds."""
        import numpy as np

        return np.interp(elapsed_s, self.edges_s, self.counts)

    def inverse(self, count: Floats) -> Floats:
        """The seconds after which ``count`` arrivals are due, on average. ``count`` is at most ``total``."""
        import numpy as np

        return np.interp(count, self.counts, self.edges_s)


def profile(shape: str, duration_s: float, peak_rate: float, pieces: Pieces = ()) -> Profile:
    """The profile of a plan's shape: of its ``pieces`` if it has any, else of what ``shape`` names.

    Of a function, each cell has the mean of the rates at its two edges. Raises PlanError for a shape that is none.
    """
    import numpy as np

    edges, counts = _relative(shape, pieces, duration_s)
    return Profile(duration_s, peak_rate, np.asarray(edges * duration_s), counts * (peak_rate * duration_s))


@lru_cache(maxsize=8)
def _relative(text: str, pieces: Pieces, duration_s: float) -> tuple[Floats, Floats]:
    """The edges of the cells, and the integral up to each, both relative."""
    import numpy as np

    curve = stored_curve(text, pieces, duration_s)
    if curve.shape is None:
        begins, rates = (np.array(column, dtype=np.float64) for column in zip(*curve.pieces, strict=True))
        edges = np.append(begins, 1.0)
    else:
        edges = np.linspace(0.0, 1.0, CELLS + 1)
        relative = np.array([curve.shape(share) for share in edges.tolist()])
        rates = 0.5 * (relative[1:] + relative[:-1])
    return edges, np.concatenate(([0.0], np.cumsum(rates * np.diff(edges))))


def _between(at: float, begin: float, end: float, first: float, last: float) -> float:
    return first + (last - first) * max(0.0, (at - begin) / (end - begin))
