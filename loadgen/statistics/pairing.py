"""The order of runs that are to be compared, and which stored runs make pairs.

The order decides whether a comparison is honest. A machine drifts; where all runs of A come before those of B, nearly
half of all identical programs "differ" (44 of 100 with ten runs each in simulation), and more runs make it worse. In
ABBA order both sides see the same drift.
"""

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_PAIRS = 6
"""Of fewer pairs the signed rank test can't show anything at 5 %: even if all agree, p is 0.0625."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of a comparison: ``side`` names what is run, ``round`` counts from 0 and has a seed for all its runs."""

    round: int
    side: str
    seed: int


def balanced_order(sides: Sequence[str], rounds: int, seed: int) -> list[Turn]:
    """Runs in ABBA order: every side once a round, and every second round backwards.

    A round's seed is the same for all its sides, so that arrivals and shoppers are too. With an even number of rounds a
    steady drift cancels out. Raises ValueError for sides that don't differ.
    """
    if len(set(sides)) != len(sides) or len(sides) < 2:
        raise ValueError("a comparison needs two or more sides with names of their own")
    return [
        Turn(at, side, seed + at) for at in range(rounds) for side in (sides if at % 2 == 0 else list(reversed(sides)))
    ]


def adjacent_pairs(sides: Sequence[str]) -> list[tuple[int, int]] | None:
    """The pairs of stored runs, whose two sides are given in the order in which they were made.

    Each pair has the place of the side that was first of all, and the place of the other side, next to it. None where
    the runs were not made in pairs, or where one side was first in more than one pair more than the other side was:
    a drift would pass for a difference.
    """
    if len(set(sides)) != 2 or len(sides) % 2:
        return None
    first = sides[0]
    couples = [(at, at + 1) for at in range(0, len(sides), 2)]
    if any(sides[one] == sides[other] for one, other in couples):
        return None
    ahead = sum(sides[one] == first for one, _ in couples)
    if abs(2 * ahead - len(couples)) > 1:
        return None
    return [(one, other) if sides[one] == first else (other, one) for one, other in couples]
