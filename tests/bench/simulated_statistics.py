"""How far the statistics are from known truths, simulated: figures for longer than tests have time.

``python -m tests.bench.simulated_statistics capacity|comparison|law``. Seeds are fixed.

capacity: a queue of eight sessions, log-normal service times of 4 ms, "p99 at most 50 ms", arrivals that wait for 1 s
are skipped; its speed wanders from second to second. The truth is the rate at which half of 180 s trials pass.
comparison: runs on a machine with 5 % slow drift and 2 % noise, in ABBA order and in blocks, and an effect or none.
law: sweeps of one and three runs a level with noise; how often bounds and predictions hold the truth.
"""

import argparse
import heapq
import itertools
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadgen.statistics.compare import Comparison, Measured, Metric, compare
from loadgen.statistics.pairing import adjacent_pairs, balanced_order
from loadgen.statistics.search import Search
from loadgen.statistics.trials import Counts, Purpose, Settings, Trial, TrialResult
from loadgen.statistics.usl import fit, throughput
from tests.statistics.machines import drifting_machine

OBJECTIVE = "order.p99"
SESSIONS = 8
MEAN_S = 0.004
SIGMA = 0.5
LIMIT_S = 0.05
LATE_LIMIT_S = 1.0


@dataclass
class Sessions:
    """Eight sessions and a queue, first come, first served; ``mood`` is the logarithm of the speed."""

    random: np.random.Generator
    wander: float
    mood: float = 0.0
    seconds: int = 0

    def __post_init__(self) -> None:
        self.mood = self.random.normal(0, self.wander) if self.wander else 0.0

    def run(self, trial: Trial) -> TrialResult:
        """A trial that begins with idle sessions."""
        seconds = trial.settle_s + trial.counted_s
        speeds = [self._speed() for _ in range(seconds)]
        self.seconds += seconds
        if trial.rate is None:
            finished = [self.random.normal(SESSIONS / MEAN_S * speed, 45) for speed in speeds[trial.settle_s :]]
            return TrialResult(finished=tuple(map(round, finished)))
        bad, of = self._open(trial.rate, seconds, speeds)
        counted = slice(trial.settle_s, None)
        return TrialResult({OBJECTIVE: Counts(tuple(bad[counted]), tuple(of[counted]))})

    def _open(self, rate: float, seconds: int, speeds: Sequence[float]) -> tuple[list[int], list[int]]:
        due = np.sort(self.random.uniform(0, seconds, self.random.poisson(rate * seconds))).tolist()
        service = (self.random.lognormal(0, SIGMA, len(due)) * MEAN_S / math.exp(SIGMA**2 / 2)).tolist()
        free = [0.0] * SESSIONS
        bad, of = [0] * seconds, [0] * seconds
        for at, needs in zip(due, service, strict=True):
            second = int(at)
            of[second] += 1
            start = max(at, free[0])
            if start - at > LATE_LIMIT_S:
                bad[second] += 1
                continue
            done = start + needs / speeds[min(int(start), seconds - 1)]
            heapq.heapreplace(free, done)
            bad[second] += done - at > LIMIT_S
        return bad, of

    def _speed(self) -> float:
        self.mood = 0.97 * self.mood + math.sqrt(1 - 0.97**2) * self.random.normal(0, 1) * self.wander
        return math.exp(self.mood)


def true_capacity(wander: float, trials: int = 24) -> float:
    """The rate at which half of 180 s trials pass, to 0.7 %."""
    low, high = 1_000.0, 2_000.0
    for _ in range(7):
        rate = math.sqrt(low * high)
        passes = 0
        for seed in range(trials):
            counts = Sessions(np.random.default_rng(10_000 + seed), wander).run(Trial(Purpose.BISECT, rate, 2, 180, 1))
            seen = counts.counts[OBJECTIVE]
            passes += sum(seen.bad) <= 0.01 * sum(seen.of)
        low, high = (rate, high) if 2 * passes >= trials else (low, rate)
    return math.sqrt(low * high)


def capacity(searches: int) -> None:
    """Searches of three, and quick ones, on machines that wander more and more."""
    for wander in (0.0, 0.03, 0.06, 0.15):
        truth = true_capacity(wander)
        for quick in (False, True):
            endings: Counter[str] = Counter()
            errors, seconds, inside, named = [], [], 0, []
            for seed in range(searches):
                server = Sessions(np.random.default_rng(seed), wander)
                search = Search(Settings({OBJECTIVE: 0.01}, quick=quick))
                while (trial := search.next()) is not None:
                    search.add(server.run(trial))
                assert search.capacity is not None
                found = search.capacity
                endings[found.ending] += 1
                seconds.append(server.seconds)
                if found.found:
                    errors.append(float(np.median([each.low for each in found.found])) / truth - 1)
                if found.rate is not None:
                    named.append(found.rate / truth - 1)
                    inside += found.error_low is not None and found.error_low <= truth <= (found.error_high or 0)
            print(
                f"wander {wander:.0%} {'quick' if quick else 'three'}: truth {truth:.0f}/s, {dict(endings)}, "
                f"load {np.mean(seconds):.0f} s\n  medians {told(errors)}\n  named {told(named)}, "
                f"bounds hold the truth in {inside} of {len(named)}",
                flush=True,
            )


def told(errors: Sequence[float]) -> str:
    """Errors in one line."""
    if not errors:
        return "none"
    array = np.array(errors)
    return (
        f"median {np.median(array):+.1%}, std {array.std():.1%}, {array.min():+.1%} … {array.max():+.1%}, "
        f"within 5 %: {np.mean(abs(array) <= 0.05):.0%}, within 10 %: {np.mean(abs(array) <= 0.1):.0%} of {len(array)}"
    )


def comparison(sets: int) -> None:
    """How often a difference is claimed, by the order of the runs, the number of pairs and the effect."""
    for pairs in (6, 8, 10, 20):
        for order in ("ABBA", "blocks"):
            sides = "A" * pairs + "B" * pairs
            if order == "ABBA":
                sides = "".join(turn.side for turn in balanced_order("AB", pairs, seed=0))
            shown = [
                np.mean([_compared(seed, sides, effect).shown for seed in range(sets)]) for effect in (1.0, 1.05, 1.1)
            ]
            print(f"{pairs} runs each, {order}: no effect {shown[0]:.1%}, 5 % {shown[1]:.1%}, 10 % {shown[2]:.1%}")
    same = [_compared(seed, "ABBA" * 5, 1.0) for seed in range(sets)]
    seen = float(np.median([each.would_be_seen or 0 for each in same]))
    held = np.mean([(each.low or 0) <= 1 <= (each.high or 0) for each in same])
    found = np.mean([_compared(seed, "ABBA" * 5, 1 + seen).shown for seed in range(sets)])
    print(f"10 pairs: ±{seen:.1%} would have been seen, and is in {found:.1%}; intervals hold the truth in {held:.1%}")


def _compared(seed: int, sides: str, effect: float) -> Comparison:
    figures = drifting_machine(np.random.default_rng(seed), len(sides))
    values = [figure * (effect if side == "B" else 1) for figure, side in zip(figures, sides, strict=True)]
    pairs = adjacent_pairs(sides)
    if pairs is None:
        a, b = ([value for value, of in zip(values, sides, strict=True) if of == side] for side in "AB")
    else:
        a, b = [values[at] for at, _ in pairs], [values[at] for _, at in pairs]
    return compare(Measured(Metric("figure"), a, b), paired=pairs is not None).primary


def law(sweeps: int) -> None:
    """How often the bounds hold the truth, and how far predictions lie from it."""
    for noise, runs in itertools.product((0.03, 0.06), (1, 3)):
        for levels in ((1, 2, 3, 4, 6, 8), (1, 2, 4, 8, 16, 32), (1, 2, 4, 8, 16, 32, 64, 128)):
            random = np.random.default_rng(1)
            held = np.zeros(5)
            near, ranges = [], []
            for _ in range(sweeps):
                truth = (1_000.0, random.uniform(0.02, 0.1), random.uniform(0, 2e-4))
                at = [level for level in levels for _ in range(runs)]
                fitted = fit(at, [throughput(n, *truth) * math.exp(random.normal(0, noise)) for n in at], seed=1)
                four, far = fitted.predict(4 * levels[-1]), fitted.predict(1_000)
                bounds = [(each.low, each.high) for each in (fitted.gamma, fitted.alpha, fitted.beta, four, far)]
                values = [*truth, throughput(4 * levels[-1], *truth), throughput(1_000, *truth)]
                held += [low <= value <= high for (low, high), value in zip(bounds, values, strict=True)]
                near.append((four.value or math.nan) / values[3])
                ranges.append(far.high / far.low)
            low, high = np.quantile(near, [0.025, 0.975])
            shares = ", ".join(f"{share:.0%}" for share in held / sweeps)
            print(
                f"noise {noise:.0%}, {levels[-1]} sessions, {runs} a level: γ, α, β, X(4 × highest), X(1,000): bounds "
                f"hold the truth in {shares}; X(4 × highest) is {low:.2f} … {high:.2f} of it; "
                f"range at 1,000: factor {np.median(ranges):.1f}"
            )


def main() -> None:
    """One of the simulations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("capacity", "comparison", "law"))
    parser.add_argument("--times", type=int, default=40, help="searches, sets or sweeps of each kind")
    options = parser.parse_args()
    began = time.monotonic()
    {"capacity": capacity, "comparison": comparison, "law": law}[options.what](options.times)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
