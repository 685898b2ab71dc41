"""The capacity search: the highest arrival rate that meets the objectives, found by trials.

A pure state machine. The caller runs the trials:

    search = Search(settings)
    while (trial := search.next()) is not None:
        search.add(run(trial))
    capacity = search.capacity

The state follows from the results alone: a search that was interrupted goes on after its results have been added again.

One search climbs by half from a quarter of what all sessions do in a closed loop, until a rate fails; halves the
bracket in the logarithm; and confirms its lower end by three looks, of which two must pass, and all together by the
exact rule. The whole is done three times, because what errs is the mood of the machine, which lasts for minutes. The
closed loop is measured first and last, as an anchor that tells whether the machine moved meanwhile.

tests/bench/simulated_statistics.py simulates how far the answers are from the truth.
"""

import math
from collections.abc import Generator, Iterable, Mapping

from loadgen.statistics.capacity import Capacity, Ending, Found, broken_off, concluded
from loadgen.statistics.proportion import Decision, Share, least_arrivals
from loadgen.statistics.trials import (
    Counts,
    Purpose,
    Settings,
    Trial,
    TrialResult,
    joined,
    judge_counts,
    judge_trial,
    met_by_shares,
)

STEP = 1.5
"""By what factor a climb steps."""
MOST_STEPS = 24
"""Steps of one climb, up or down, at most: by a factor of 16,000."""
LOOKS = 3
NEEDED = 2
"""Of so many looks at a rate so many must pass."""
BAD_AMONG_ENOUGH = 5
"""Two looks last until the exact rule can pass with so many bad arrivals, if their longest time allows."""
MOST_STEPS_DOWN = 8
"""After so many refused confirmations one width apart a search gives up."""


Confirmed = tuple[Mapping[str, Share], Mapping[str, Share]]
"""The shares of the confirming looks, plainly and with their bursts."""


class Search:
    """The search as a state machine: ``next()`` says which trial to run, ``add()`` takes what it gave."""

    def __init__(self, settings: Settings, results: Iterable[TrialResult] = ()) -> None:
        self._settings = settings
        self._steps = _Steps(settings).whole()
        self._trial: Trial | None = next(self._steps)
        self.capacity: Capacity | None = None
        """What the search says; None until it has ended."""
        for result in results:
            self.add(result)

    def next(self) -> Trial | None:
        """The trial to run now, or None at the end; the same until its result has been added."""
        return self._trial

    def add(self, result: TrialResult) -> None:
        """Take the result of the trial that ``next()`` gave.

        Raises ValueError if there is no such trial, or if the result lacks the counts of an objective.
        """
        if self._trial is None:
            raise ValueError("the search has ended: no trial's result is awaited")
        missing = set(self._settings.allowed) - set(result.counts)
        if missing and self._trial.rate is not None and not result.violation:
            raise ValueError(f"the trial's result has no counts of {', '.join(sorted(missing))}")
        try:
            self._trial = self._steps.send(result)
        except StopIteration as stop:
            self._trial, self.capacity = None, stop.value


class _Stopped(Exception):  # noqa: N818 - it ends a search and is no error
    """Why the search ends before its time, and the lowest rate that did not do, if one is known."""

    def __init__(self, ending: Ending, high: float | None = None, violation: str = "") -> None:
        super().__init__(ending)
        self.ending, self.high, self.violation = ending, high, violation


class _Steps:
    """The steps of the search, each a generator of trials. What they share is the number of the search that runs, the
    trials so far and the rates that passed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._repeat = 1
        self._trials = 0
        self._passed: list[float] = []

    def whole(self) -> Generator[Trial, TrialResult, Capacity]:
        """All searches, with the anchor first and last. What limits the anchor is no matter: it only compares."""
        anchors: list[TrialResult] = []
        found: list[Found] = []
        try:
            anchors.append((yield from self._run(Purpose.ANCHOR, None, self._settings.anchor_s)))
            throughput = anchors[0].finished_per_second
            if not throughput:
                raise _Stopped(Ending.NOTHING_FINISHED)
            while len(found) < self._settings.repeats:
                self._repeat = len(found) + 1
                found.append((yield from self._search(throughput / 4)))
            anchors.append((yield from self._run(Purpose.ANCHOR, None, self._settings.anchor_s)))
        except _Stopped as stopped:
            lower = [rate for rate in self._passed if stopped.high is None or rate < stopped.high]
            low = max(lower, default=None)
            return broken_off(stopped.ending, low, stopped.high, found, self._trials, violation=stopped.violation)
        return concluded(self._settings, found, anchors[0], anchors[1], self._trials)

    def _search(self, start: float) -> Generator[Trial, TrialResult, Found]:
        """Climb, bisect, confirm."""
        low, high = yield from self._climb(start)
        while high / low > 1 + self._settings.width:
            middle = math.sqrt(low * high)
            passes, _ = yield from self._look(Purpose.BISECT, middle)
            low, high = (middle, high) if passes else (low, middle)
        for _ in range(MOST_STEPS_DOWN):
            confirmed = yield from self._confirm(low)
            if confirmed is not None:
                return Found(low, high, *confirmed)
            low, high = low / (1 + self._settings.width), low
        raise _Stopped(Ending.UNCONFIRMED, high)

    def _climb(self, rate: float) -> Generator[Trial, TrialResult, tuple[float, float]]:
        """A rate that passed and one that failed, a step apart; downwards if the first fails.

        Far above the knee the client may be at its limit, so that nothing is known: then the step is halved. If no rate
        fails before it is as narrow as a bracket, the client's limit comes first.
        """
        low, high, step = None, None, STEP
        for _ in range(MOST_STEPS):
            meets = yield from self._meets(rate)
            if meets is None:
                step = math.sqrt(step)
                if low is None or step <= 1 + self._settings.width:
                    raise _Stopped(Ending.CLIENT)
                rate = low * step
                continue
            if meets:
                low = rate
            else:
                high = rate
            if low is not None and high is not None:
                return low, high
            rate = rate / step if low is None else rate * step
        raise _Stopped(Ending.NEVER_MET if low is None else Ending.NEVER_FAILED, high)

    def _meets(self, rate: float) -> Generator[Trial, TrialResult, bool | None]:
        """A short trial; None if the client was at its limit.

        A failure is asked again at length: one stall on the way up would end the climb too low.
        """
        try:
            result = yield from self._run(Purpose.CLIMB, rate, self._settings.climb_s)
            if met_by_shares(result.counts, self._settings.allowed):
                self._passed.append(rate)
                return True
            passes, _ = yield from self._look(Purpose.CLIMB, rate)
        except _Stopped as stopped:
            if stopped.ending is Ending.CLIENT:
                return None
            raise
        return passes

    def _look(
        self, purpose: Purpose, rate: float, least_s: int = 0
    ) -> Generator[Trial, TrialResult, tuple[bool, Mapping[str, Counts]]]:
        """A trial that is judged three ways: clear, or so many seconds more, and at the longest by the share itself."""
        seen: Mapping[str, Counts] = {}
        decision = Decision.UNDECIDED
        for look in range(1, self._settings.most_s // self._settings.look_s + 1):
            result = yield from self._run(purpose, rate, self._settings.look_s)
            seen = joined(seen, result.counts)
            decision = judge_trial(seen, self._settings.allowed)
            long_enough = look * self._settings.look_s >= least_s
            if decision is Decision.FAIL or (decision is Decision.PASS and long_enough):
                break
        passes = decision is Decision.PASS
        if decision is Decision.UNDECIDED:
            passes = met_by_shares(seen, self._settings.allowed)
        if passes:
            self._passed.append(rate)
        return passes, seen

    def _confirm(self, rate: float) -> Generator[Trial, TrialResult, Confirmed | None]:
        """Looks long enough for the exact rule, judged one by one and together; None if they don't confirm the rate."""
        least_s = math.ceil(max(map(_enough, self._settings.allowed.values())) / NEEDED / rate)
        passes, refusals = 0, 0
        seen: Mapping[str, Counts] = {}
        while passes < NEEDED and refusals <= LOOKS - NEEDED:
            passed, counts = yield from self._look(Purpose.CONFIRM, rate, least_s)
            seen = joined(seen, counts)
            passes, refusals = passes + passed, refusals + (not passed)
        allowed = self._settings.allowed
        shares = {name: judge_counts(seen[name], allowed[name], bursts=False) for name in allowed}
        shown = all(_shown(share) for share in shares.values())
        if passes < NEEDED or not shown:
            return None
        return shares, {name: judge_counts(seen[name], allowed[name], bursts=True) for name in allowed}

    def _run(self, purpose: Purpose, rate: float | None, counted_s: int) -> Generator[Trial, TrialResult, TrialResult]:
        result = yield Trial(purpose, rate, self._settings.settle_s, counted_s, self._repeat)
        self._trials += 1
        if result.violation:
            raise _Stopped(Ending.VIOLATION, rate, result.violation)
        if result.client_limited and rate is not None:
            raise _Stopped(Ending.CLIENT)
        return result


def _enough(allowed: float) -> int:
    return least_arrivals(allowed, bad=BAD_AMONG_ENOUGH)


def _shown(share: Share) -> bool:
    """Whether the exact rule passes the share. Too few arrivals can't pass: of them it is enough that they are good."""
    if share.of < _enough(share.allowed):
        return share.decision is not Decision.FAIL and share.bad <= share.allowed * share.of
    return share.decision is Decision.PASS
