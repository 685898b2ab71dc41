"""The trials of a capacity search: what is run, what it gives, and how one trial is judged."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from loadgen.statistics.proportion import Decision, Share, design_effect, judge_share

BATCH_S = 5
"""Seconds that are one observation: bad ones of neighbouring seconds belong together."""
ONE_SIDED = 0.9
"""The confidence of one trial's judgement."""


class Purpose(StrEnum):
    """What a trial is for."""

    ANCHOR = "anchor"
    CLIMB = "climb"
    BISECT = "bisect"
    CONFIRM = "confirm"


@dataclass(frozen=True, slots=True)
class Trial:
    """What to run next: ``rate`` arrivals a second for ``settle_s`` seconds that don't count and ``counted_s`` that do.

    Without a rate the load is closed: every session asks as soon as it is answered. ``repeat`` is the search that it
    belongs to, from 1. The server is warm and restocked.
    """

    purpose: Purpose
    rate: float | None
    settle_s: int
    counted_s: int
    repeat: int


@dataclass(frozen=True, slots=True)
class Counts:
    """For each counted second, how many arrivals were due in it (``of``), and how many of those were bad."""

    bad: tuple[int, ...]
    of: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.bad) != len(self.of) or any(not 0 <= bad <= of for bad, of in zip(self.bad, self.of, strict=True)):
            raise ValueError("counts a second are pairs of bad ones and arrivals, and no more are bad than arrived")

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.bad + other.bad, self.of + other.of)


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What a trial gave.

    ``counts`` has the counts of each objective by its name. ``finished`` are the good answers of each counted second;
    a closed trial needs nothing else. ``client_limited``: the load side was at its limit, so a failure may be its own.
    ``violation`` is the first promise that the database broke, in words; empty if none.
    """

    counts: Mapping[str, Counts] = field(default_factory=dict)
    finished: tuple[int, ...] = ()
    client_limited: bool = False
    violation: str = ""

    @property
    def finished_per_second(self) -> float:
        """Good answers a second."""
        return sum(self.finished) / len(self.finished) if self.finished else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a file from which the search is resumed."""
        counts = {name: {"bad": list(counts.bad), "of": list(counts.of)} for name, counts in self.counts.items()}
        told = {"finished": list(self.finished), "client_limited": self.client_limited, "violation": self.violation}
        return {"counts": counts, **told}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> "TrialResult":
        """The result that was stored."""
        counts = {name: Counts(tuple(each["bad"]), tuple(each["of"])) for name, each in stored["counts"].items()}
        return TrialResult(counts, tuple(stored["finished"]), stored["client_limited"], stored["violation"])


@dataclass(frozen=True, slots=True)
class Settings:
    """What is searched for, and how.

    ``allowed`` names the objectives, each with the share of arrivals that it allows to be bad: p99 allows 0.01.
    ``width`` is how close the ends of a bracket come, ``drift`` how far the anchor may move, and ``spread`` how far
    apart the answers of the searches may lie. A look takes ``look_s``, and at most ``most_s`` while it is undecided.
    Raises ValueError for values that make no search.
    """

    allowed: Mapping[str, float]
    quick: bool = False
    width: float = 0.05
    drift: float = 0.05
    spread: float = 0.15
    settle_s: int = 2
    anchor_s: int = 20
    climb_s: int = 5
    look_s: int = 10
    most_s: int = 40

    def __post_init__(self) -> None:
        if not self.allowed or any(not 0 < share < 1 for share in self.allowed.values()):
            raise ValueError("a search needs objectives, each with a share of bad arrivals between 0 and 1")
        if not 0.001 <= self.width <= 0.5 or self.drift <= 0 or self.spread < self.width:
            raise ValueError("a search's width is between 0.1 % and 50 %, its spread is no smaller, its drift above 0")
        least_s = 2 * BATCH_S
        if (
            self.settle_s < 0
            or self.climb_s < 1
            or self.anchor_s < least_s
            or not least_s <= self.look_s <= self.most_s
        ):
            raise ValueError(
                f"an anchor and a look take at least {least_s} s, the longest look is no shorter than a look"
            )

    @property
    def repeats(self) -> int:
        """How many searches the whole takes."""
        return 1 if self.quick else 3


def joined(seen: Mapping[str, Counts], more: Mapping[str, Counts]) -> Mapping[str, Counts]:
    """The counts of each objective in successive trials at the same rate."""
    return {name: seen[name] + more[name] if name in seen else more[name] for name in more}


def met_by_shares(counts: Mapping[str, Counts], allowed: Mapping[str, float]) -> bool:
    """Whether no objective has more bad arrivals than it allows; arrivals there must be."""
    return all(
        sum(counts[name].of) > 0 and sum(counts[name].bad) <= share * sum(counts[name].of)
        for name, share in allowed.items()
    )


def judge_trial(counts: Mapping[str, Counts], allowed: Mapping[str, float]) -> Decision:
    """Judge a trial: it fails if one objective clearly does, and passes if all clearly do.

    Of each objective, the excess of bad arrivals over the allowed ones in batches of 5 s has a mean with a standard
    error, which holds the bursts. By Student's t, one-sided at 90 %, the mean is clearly below zero, clearly above, or
    neither.
    """
    decisions = {_by_batches(counts[name], share) for name, share in allowed.items()}
    for decision in (Decision.FAIL, Decision.UNDECIDED):
        if decision in decisions:
            return decision
    return Decision.PASS


def judge_counts(counts: Counts, allowed: float, *, bursts: bool) -> Share:
    """The share of bad arrivals by the exact binomial rule; with ``bursts``, by what they leave of the sample."""
    effect = design_effect(counts.bad, counts.of) if bursts else 1.0
    return judge_share(sum(counts.bad), sum(counts.of), allowed, design_effect=effect)


def batch_mean(seconds: Sequence[float], *, confidence: float) -> tuple[float, float]:
    """The mean of batches of 5 s and its one-sided margin by Student's t; a margin of infinity for a single batch."""
    from scipy.special import stdtrit

    whole = np.asarray(seconds[: len(seconds) // BATCH_S * BATCH_S], dtype=np.float64)
    batches = whole.reshape(-1, BATCH_S).mean(axis=1)
    if len(batches) < 2:
        return (float(batches[0]) if len(batches) else 0.0), math.inf
    error = float(batches.std(ddof=1)) / math.sqrt(len(batches))
    return float(batches.mean()), float(stdtrit(len(batches) - 1, confidence)) * error


def _by_batches(counts: Counts, allowed: float) -> Decision:
    mean, margin = batch_mean(
        [bad - allowed * of for bad, of in zip(counts.bad, counts.of, strict=True)], confidence=ONE_SIDED
    )
    if not any(counts.of):
        return Decision.UNDECIDED
    if mean + margin <= 0:
        return Decision.PASS
    return Decision.FAIL if mean - margin > 0 else Decision.UNDECIDED
