"""What Prometheus is told of a load process and of a run: counts since the process began, and gauges of now.

Counts are taken twice a second from the batches that go to the history, and nothing is done for an op by itself. Labels
are words of the workload, of the engine's error classes and of the plan: there are as many series at the end of a run
as at its begin. Counters go on over all runs of a process: ``loadgen_run_info`` says which one is on.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gevent
import numpy as np
from numpy.typing import NDArray

from loadgen.clock import NS_PER_S, now_ns
from loadgen.history.arrays import to_numpy, to_offsets
from loadgen.history.history import ROW_DONE
from loadgen.load.exposition import Family, Histogram
from loadgen.load.run_controller import Ending, RunController
from loadgen.load.scheduler import Scheduler
from loadgen.op import Outcome
from loadgen.plan import Plan
from loadgen.schedule import arrival_profile
from loadgen.shapes import Profile, is_closed
from loadgen.verdict import Verdict
from loadgen.workload.facts import WorkloadFacts

COUNT_S = 0.5
"""How often batches are counted: each time costs some 0.2 ms, and a scrape counts what is left."""
PROBE_S = 0.1
"""How often the load's loop is asked how late it is."""
BOUNDS_S = (
    *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 20.0, 60.0),
)
"""The classic buckets."""
SCHEMA = 4
"""Of the native buckets: 16 to each doubling, so that a quantile is within 2.2 %."""
ZERO_S = 1e-6
"""Times up to a microsecond have the zero bucket."""
PREHEAT_SHARE = 0.06
"""Up to this share of the peak rate it is preheat."""
PLATEAU_SHARE = 0.98
"""From this share on it is the peak."""
PHASES = ("preheat", "ramp", "plateau", "decay")
STATES = ("idle", "ready", "running", "ending", "ended")
OTHER = "other"
"""The class of an error whose code came too late to be kept with its class."""

_BOUNDS_NS = np.array([round(bound * NS_PER_S) for bound in BOUNDS_S], np.int64)
_STEPS = 2**SCHEMA
_FIRST = int(np.floor(np.log2(ZERO_S) * _STEPS)) + 1
_SPAN = 20 * _STEPS + int(np.log2(4096)) * _STEPS
"""From a microsecond to more than an hour."""


class Histograms:
    """Times by name, in classic and native buckets."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._classic = np.zeros((len(names), len(BOUNDS_S) + 1), np.int64)
        self._native = np.zeros((len(names), _SPAN), np.int64)
        self._zero = np.zeros(len(names), np.int64)
        self._sum_s = np.zeros(len(names))

    def add(self, which: NDArray[Any], times_ns: NDArray[np.int64]) -> None:
        """Add times; ``which`` are the indices of their names. One below 0 counts as 0."""
        times_ns = np.maximum(times_ns, 0)
        _add_counts(self._classic, which, np.searchsorted(_BOUNDS_NS, times_ns))
        seconds = times_ns / NS_PER_S
        self._sum_s += np.bincount(which, weights=seconds, minlength=len(self._names))
        long = seconds > ZERO_S
        self._zero += np.bincount(which[~long], minlength=len(self._names))
        steps = np.ceil(np.log2(seconds[long]) * _STEPS).astype(np.int64) - _FIRST
        _add_counts(self._native, which[long], np.clip(steps, 0, _SPAN - 1))

    def of(self, name: str) -> Histogram:
        """The histogram of one name."""
        row = self._names.index(name)
        return Histogram(
            bounds=BOUNDS_S,
            counts=self._classic[row].tolist(),
            sum=float(self._sum_s[row]),
            schema=SCHEMA,
            zero_threshold=ZERO_S,
            zero_count=int(self._zero[row]),
            first=_FIRST,
            native=self._native[row].tolist(),
        )


class LoadMetrics:
    """The metrics of one load process, over all of its runs."""

    def __init__(self, facts: WorkloadFacts, *, tells_info: bool) -> None:
        self._facts = facts
        self._tells_info = tells_info
        self._names = facts.timed
        self._place = np.array([facts.timed.index(kind) for kind in facts.kinds], np.int64)
        self._ended = np.zeros((len(facts.kinds), len(facts.answers), len(Outcome)), np.int64)
        self._response, self._service = Histograms(self._names), Histograms(self._names)
        self._lag = Histograms([""])
        self._failed_tries: Counter[str] = Counter()
        self._pending: list[Any] = []
        self._driving: Scheduler | None = None
        self._call_soon: Callable[[Callable[[], object]], None] | None = None
        self._run: tuple[Plan, str] | None = None
        self._due_before = 0
        self._saturated_before = 0
        self._started = 0
        self._lags_ns: list[int] = []
        self._watch: gevent.Greenlet = gevent.spawn(self._count_for_ever)

    def attach(
        self, plan: Plan, run_id: str, driving: Scheduler, call_soon: Callable[[Callable[[], object]], None]
    ) -> None:
        """The process has a part in this run from now on; ``call_soon`` calls on the load's loop."""
        if self._driving is not None:
            self._due_before += self._driving.released
            self._saturated_before += self._saturated
        self._run, self._driving, self._call_soon = (plan, run_id), driving, call_soon

    def observe(self, batch: Any) -> None:
        """Take a batch made by ``history.ops_batch``, to be counted later."""
        self._pending.append(batch)

    def count(self) -> None:
        """Count what has been taken."""
        batches, self._pending = self._pending, []
        lags, self._lags_ns = self._lags_ns, []
        self._lag.add(np.zeros(len(lags), np.int64), np.array(lags, np.int64))
        if not batches:
            return
        rows = {name: np.concatenate([to_numpy(batch.column(name)) for batch in batches]) for name in _COUNTED}
        done = rows["type"] == ROW_DONE
        kind, answer, outcome = (rows[name][done].astype(np.int64) for name in ("kind", "answer", "outcome"))
        _add_counts(self._ended, kind, answer, outcome)
        ok = outcome == Outcome.OK
        which = self._place[kind[ok]]
        if self._facts.split:
            # The refused ops of this kind come right after it.
            split = which == self._names.index(self._facts.split)
            which = which + (split & np.isin(answer[ok], self._facts.refused_codes))
        ended = rows["done"][done][ok]
        self._response.add(which, ended - rows["due"][done][ok])
        self._service.add(which, ended - rows["sent"][done][ok])
        for batch in batches:
            self._count_failures(batch.column("code"))

    def families(self) -> Iterator[Family]:
        """Everything that this process knows of itself."""
        self.count()
        driving, facts = self._driving, self._facts
        if self._tells_info and self._run is not None:
            yield run_info(*self._run)
        ended = [
            ({"kind": kind, "answer": answer, "outcome": outcome.name.lower()}, float(self._ended[k, a, outcome]))
            for k, kind in enumerate(facts.kinds)
            for a, answer in enumerate(facts.answers)
            for outcome in Outcome
            if self._ended[k, a, outcome] or (outcome == Outcome.OK) == bool(a)
        ]
        yield Family("loadgen_ops_total", "counter", _HELP["ops"], ended)
        for name, told in (("response", self._response), ("service", self._service)):
            times: list[tuple[Mapping[str, str], float | Histogram]] = [
                ({"kind": kind}, told.of(kind)) for kind in self._names
            ]
            yield Family(f"loadgen_{name}_seconds", "histogram", _HELP[name], times)
        failed: list[tuple[Mapping[str, str], float | Histogram]] = [
            ({"class": name}, float(count)) for name, count in sorted(self._failed_tries.items())
        ]
        yield Family("loadgen_tries_failed_total", "counter", _HELP["tries"], failed)
        yield Family("loadgen_loop_lag_seconds", "histogram", _HELP["lag"], [({}, self._lag.of(""))])
        yield _counter("loadgen_client_cpu_seconds", _HELP["cpu"], time.process_time())
        in_flight = driving.in_flight if driving else 0
        started = int(self._ended.sum() - self._ended[:, :, Outcome.SKIPPED].sum()) + in_flight
        self._started = max(self._started, started)
        due = self._due_before + (driving.released if driving else 0)
        yield _counter("loadgen_ops_due", _HELP["due"], due)
        yield _counter("loadgen_ops_started", _HELP["started"], self._started)
        yield _counter("loadgen_client_saturated_seconds", _HELP["saturated"], self._saturated_before + self._saturated)
        yield _gauge("loadgen_ops_in_flight", _HELP["in_flight"], in_flight)
        yield _gauge("loadgen_ops_queued", _HELP["queued"], driving.queued if driving else 0)
        yield _gauge("loadgen_sessions", _HELP["sessions"], driving.sessions if driving else 0)
        yield _gauge("loadgen_sessions_connected", _HELP["connected"], driving.connected if driving else 0)
        yield _gauge("loadgen_sessions_busy", _HELP["busy"], in_flight)

    @property
    def _saturated(self) -> int:
        return int(self._driving.client_facts()["saturated_seconds"]) if self._driving else 0

    def _count_failures(self, codes: Any) -> None:
        offsets = to_offsets(codes)
        failed = np.flatnonzero(np.diff(offsets))
        if not len(failed):
            return
        text = codes.buffers()[2].to_pybytes()
        ends = zip(offsets[failed].tolist(), offsets[failed + 1].tolist(), strict=True)
        classes = self._driving.errors if self._driving else {}
        for code, count in Counter(text[begin:end] for begin, end in ends).items():
            self._failed_tries[classes.get(code.decode(), (OTHER, ""))[0]] += count

    def _count_for_ever(self) -> None:
        while True:
            for _ in range(round(COUNT_S / PROBE_S)):
                gevent.sleep(PROBE_S)
                if self._call_soon is not None:
                    self._probe(self._call_soon)
            self.count()

    def _probe(self, call_soon: Callable[[Callable[[], object]], None]) -> None:
        asked = now_ns()
        call_soon(lambda: self._lags_ns.append(now_ns() - asked))


class RunMetrics:
    """The metrics of the run that this process heads, or of its last one: where it stands, and what was found."""

    def __init__(self, controller: Callable[[], RunController | None]) -> None:
        self._controller = controller
        self._profile: tuple[Plan, Profile] | None = None

    def families(self) -> Iterator[Family]:
        """Everything that the head knows."""
        run = self._controller()
        state = _state(run)
        states = [({"state": name}, float(name == state)) for name in STATES]
        yield Family("loadgen_run_state", "gauge", "1 for what the run is doing.", states)
        if run is None:
            return
        if "run_id" in run.ready:
            yield run_info(run.plan, str(run.ready["run_id"]))
        if not is_closed(run.plan.shape):
            profile = self._profile_of(run)
            running = state == "running"
            phase = phase_at(profile, run.elapsed_s) if running else ""
            phases = [({"phase": name}, float(name == phase)) for name in PHASES]
            yield Family("loadgen_phase", "gauge", "1 for the phase of the shape that the run is in.", phases)
            rate = float(profile.rate(np.array([run.elapsed_s]))[0]) if running else 0.0
            yield _gauge(
                "loadgen_arrivals_planned_per_second", "Arrivals a second that the shape asks for at present.", rate
            )
        if run.ended is not None:
            yield from _ending(run.ended, [check.name for check in run.workload.checks])

    def _profile_of(self, run: RunController) -> Profile:
        if self._profile is None or self._profile[0] is not run.plan:
            self._profile = run.plan, arrival_profile(run.plan, run.workload.arrivals)
        return self._profile[1]


def phase_at(profile: Profile, elapsed_s: float) -> str:
    """The phase of a shape: plateau from the first to the last instant at its peak, and what lies before and after.

    Before it, preheat is all up to the last instant at which the rate is hardly any, and ramp the rest.
    """
    middles = (profile.edges_s[1:] + profile.edges_s[:-1]) / 2
    shares = profile.rate(middles) / profile.rate(middles).max()
    high = np.flatnonzero(shares >= PLATEAU_SHARE)
    low = np.flatnonzero(shares[: high[0]] <= PREHEAT_SHARE)
    if low.size and elapsed_s < profile.edges_s[low[-1] + 1]:
        return "preheat"
    if elapsed_s < profile.edges_s[high[0]]:
        return "ramp"
    return "plateau" if elapsed_s < profile.edges_s[high[-1] + 1] else "decay"


def run_info(plan: Plan, run_id: str) -> Family:
    """The one series whose labels say what the process runs: to be joined with the others on ``instance``."""
    labels = {
        "run_id": run_id,
        "workload": plan.workload,
        "engine": plan.engine,
        "cluster": plan.cluster,
        "isolation": plan.isolation or "default",
        "shape": plan.shape[:80],
        "strategy": str(dict(plan.options).get("strategy", "")),
        "sessions": str(plan.sessions),
    }
    return Family("loadgen_run_info", "gauge", "What this process runs, or ran last.", [(labels, 1.0)])


def _state(run: RunController | None) -> str:
    if run is None:
        return "idle"
    if run.ended is not None:
        return "ended"
    if run.ending:
        return "ending"
    return "running" if run.begun else "ready"


def _ending(ended: Ending, checks: Sequence[str]) -> Iterator[Family]:
    verdicts = [({"verdict": verdict.value}, float(verdict.value == ended.verdict)) for verdict in Verdict]
    yield Family("loadgen_verdict", "gauge", "1 for the verdict of the run that has ended.", verdicts)
    found = {str(check["name"]): float(check["anomalies"]) for check in ended.found}
    # Of a run that is not valid, nothing is claimed of the checks that found nothing: one may not have been decided.
    none = dict.fromkeys(checks, 0.0) if ended.verdict == Verdict.VALID else {}
    violations = [({"check": name}, count) for name, count in {**none, **found}.items()]
    yield Family("loadgen_violations", "gauge", "Violations that a check has proved in the run.", violations)
    yield _gauge("loadgen_exit_code", "The exit code of the run that has ended.", ended.exit_code)


def _counter(name: str, help_text: str, value: float) -> Family:
    return Family(f"{name}_total", "counter", help_text, [({}, float(value))])


def _gauge(name: str, help_text: str, value: float) -> Family:
    return Family(name, "gauge", help_text, [({}, float(value))])


def _add_counts(counts: NDArray[np.int64], *indices: NDArray[Any]) -> None:
    """Add 1 to ``counts`` at each of the places, however often it comes."""
    flat = np.ravel_multi_index(indices, counts.shape)
    counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)


_COUNTED = ("type", "kind", "due", "sent", "done", "outcome", "answer")
_HELP = {
    "ops": "Ops that ended, by kind, answer and outcome (ok, fail, info: unknown, skipped: never sent).",
    "response": "Time from the instant at which an op was due to its answer, of answered ops; refused ones apart.",
    "service": "Time from the instant at which an op was sent to its answer, of answered ops; refused ones apart.",
    "tries": "Tries that failed, by class of error, whether they were tried again or not.",
    "lag": "How late the loop that drives the load is, asked ten times a second.",
    "cpu": "CPU seconds of this load process.",
    "due": "Ops that became due: arrivals, and what follows them.",
    "started": "Ops that were sent.",
    "saturated": "Seconds in which this process itself was the limit.",
    "in_flight": "Ops that were sent and have no answer yet.",
    "queued": "Ops that are due and wait for a session.",
    "sessions": "Sessions, connected or not.",
    "connected": "Sessions that are connected.",
    "busy": "Sessions that run an op.",
}
