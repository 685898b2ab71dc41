"""Queues of known capacity as servers of a search's trials: no clock, no server."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.statistics.trials import Counts, Trial, TrialResult

OBJECTIVE = "order.p99"


@dataclass
class OneServer:
    """A queue with one server, Poisson arrivals and exponential service times (M/M/1).

    Its response time is exponential with the rate μ − λ (Kleinrock: Queueing Systems, 1975), so its capacity at
    "p99 at most ``limit_s``" is μ − ln(100) / ``limit_s``, exactly. The speed wanders with the standard deviation
    ``wander`` where one is given, correlated from second to second by 0.97, and ``drift`` speeds it up for each second.
    """

    random: np.random.Generator
    per_second: float = 1_000
    limit_s: float = 0.05
    wander: float = 0.0
    drift: float = 0.0
    clock_s: int = 0
    _mood: float = 0.0

    @property
    def capacity(self) -> float:
        """The highest rate at which 99 of 100 are answered in time."""
        return self.per_second - math.log(100) / self.limit_s

    def run(self, trial: Trial) -> TrialResult:
        """What a trial gives. The counted seconds follow those in which the queue settles."""
        seconds = trial.settle_s + trial.counted_s
        speeds = self._speeds(seconds)
        if trial.rate is None:
            finished = self.random.poisson(self.per_second * speeds)[trial.settle_s :]
            return TrialResult(finished=tuple(finished.tolist()))
        due = self._arrivals(trial.rate, seconds)
        late = self._responses(due, speeds) > self.limit_s
        second = due.astype(np.int64)
        counted = second >= trial.settle_s
        of = np.bincount(second[counted], minlength=seconds)[trial.settle_s : seconds]
        bad = np.bincount(second[counted & late], minlength=seconds)[trial.settle_s : seconds]
        return TrialResult({OBJECTIVE: Counts(tuple(bad.tolist()), tuple(of.tolist()))})

    def _arrivals(self, rate: float, seconds: int) -> NDArray[np.float64]:
        return np.sort(self.random.uniform(0, seconds, self.random.poisson(rate * seconds)))

    def _responses(self, due: NDArray[np.float64], speeds: NDArray[np.float64]) -> NDArray[np.float64]:
        """First come, first served: an op is done at the latest, over the ops before it, of due + all service since."""
        service = self.random.exponential(1 / self.per_second, len(due)) / speeds[due.astype(np.int64)]
        worked = np.cumsum(service)
        done = worked + np.maximum.accumulate(due - (worked - service))
        return np.asarray(done - due)

    def _speeds(self, seconds: int) -> NDArray[np.float64]:
        speeds = np.empty(seconds)
        for at, step in enumerate(self.random.normal(size=seconds)):
            self._mood = 0.97 * self._mood + math.sqrt(1 - 0.97**2) * self.wander * step
            speeds[at] = math.exp(self._mood + self.drift * (self.clock_s + at))
        self.clock_s += seconds
        return speeds
