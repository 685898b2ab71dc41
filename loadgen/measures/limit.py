"""Whether a run reached a limit, and what limited it: the server, the sessions, the client or the load processes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import NS_PER_MS, NS_PER_S, pause_words
from loadgen.history.arrays import among
from loadgen.history.history import LoadProcess
from loadgen.history.timeline import Timeline
from loadgen.op import Outcome
from loadgen.plan import Plan
from loadgen.schedule import has_schedule
from loadgen.shapes import is_closed

LATE_NS = 50 * NS_PER_MS
"""An op that no session took for this long has waited. A client with free capacity never makes an op wait this long."""
STRAINED_SHARE = 0.05
"""A second is strained from this share of ops that waited or were skipped."""
UNSERVED_SHARE = 0.001
"""If at most this share of the due ops failed or was skipped, all offered ops count as served."""
WAITED_SHARE = 0.1
"""The same for ops that waited and were served: a short stall is not a limit."""
BUSY_SHARE = 0.7
"""All sessions count as busy if they were in transactions for this share of the strained seconds, because arrivals come
in bursts."""
SLOWER = 1.5
"""The server is at its limit if ops take this many times as long as in calm seconds."""
CALM_SHARE = 0.5
"""A second without waiting is calm up to this share of busy sessions: no op queues in the server."""
FAR_TOO_FEW = 2.0
"""A saturated client makes its sessions look busy. If this many times their number are needed, the client is not the
reason."""
LEAST_CALM = 30
"""The least number of ops in calm seconds for their mean."""
LONGEST_S = 10**6

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Limit:
    """``by`` is what limited the run: None (nothing did), ``sessions``, ``server``, ``client``, ``errors``,
    ``load processes``, ``closed`` (its sessions asked as fast as they were answered) or ``unclear``. ``text`` says it.
    """

    by: str | None
    text: str
    sessions_needed: int | None = None


@dataclass(frozen=True, slots=True)
class _Seconds:
    """A run's ops by the second in which they were due, and by that in which they were sent."""

    due: Floats
    """Ops of the main kinds."""
    waited: Floats
    """Ops that no session took for a long time, or in time."""
    strained: NDArray[np.bool_]
    served: Floats
    """Ops of the main kinds that were sent."""
    ops: Floats
    """Ops for which a load process was running."""
    started: Floats
    """Those of them that were sent, by the second of that."""
    busy_s: Floats
    """Seconds that sessions spent in transactions."""
    sessions: Floats


def limit_of(
    processes: Sequence[LoadProcess],
    times: Timeline,
    plan: Plan,
    counts: Mapping[str, Any],
    load: Mapping[str, Any],
    *,
    noun: str,
    main: Sequence[int] | None,
) -> Limit:
    """What limited a run whose ``processes`` are complete (measures.offered). ``counts`` are of its main kind.

    ``main`` are its codes (None: all kinds), and ``noun`` is what its ops are called. ``load`` has the sessions over
    time, and the number of seconds in which the client was saturated.
    """
    if not counts["due"] or not has_schedule(plan):
        return Limit(None, "")
    if is_closed(plan.shape):
        rate = counts.get("per_second_mean") or 0.0
        pace = pause_words(plan.think_time_s) or "as fast as they were answered"
        told = f"{plan.sessions:,} sessions asked {pace}: {rate:,.0f} {noun}/s"
        return Limit("closed", f"{told}; other numbers of sessions may give more")
    seconds = _by_second(processes, times, plan, load, main=main)
    all_ops, late = float(seconds.ops.sum()), int(sum(_late(process).sum() for process in processes))
    waited = float(seconds.waited.sum()) > WAITED_SHARE * all_ops
    if (waited or late > UNSERVED_SHARE * all_ops) and seconds.strained.any():
        return _strained(seconds, load, noun, _session_time_s(seconds, counts))
    lost = counts["skipped"] - late
    if lost > UNSERVED_SHARE * counts["due"]:
        return Limit("load processes", f"lost load processes left {_percent(lost, counts)} of the {noun} undone")
    unserved = counts["fail"] + counts["info"]
    if unserved > UNSERVED_SHARE * counts["due"]:
        return Limit("errors", f"{_percent(unserved, counts)} of the {noun} failed or are unknown: see the errors")
    peak = float(seconds.due.max())
    told = f"not reached: all that was offered was served, up to {peak:,.0f} {noun}/s in the busiest second"
    return Limit(None, f"{told}; the limit is higher (--peak-rate)")


def _strained(seconds: _Seconds, load: Mapping[str, Any], noun: str, each_s: float) -> Limit:
    """Why arrivals waited."""
    strained = seconds.strained
    sessions = float(seconds.sessions[strained].mean())
    if not sessions:
        return Limit("sessions", "there were no sessions (-u)", 1)
    rate = float(seconds.due.max())
    needed = max(math.ceil(round(rate * each_s, 2)), math.floor(sessions) + 1)
    busy = float(seconds.busy_s[strained].sum() / seconds.sessions[strained].sum())
    client = load.get("client")
    saturated = client.get("saturated_seconds") if isinstance(client, dict) else None
    is_saturated = isinstance(saturated, int | float) and saturated >= 0.5 * int(strained.sum())
    if is_saturated and (busy < BUSY_SHARE or needed < FAR_TOO_FEW * sessions):
        return Limit("client", "the client's CPU was at its limit: use --processes, or other cores")
    if busy < BUSY_SHARE:
        return Limit(
            "unclear",
            ("arrivals waited although not all sessions were busy: there was a pause, or connections were lost"),
        )
    calm = ~strained & (seconds.busy_s <= CALM_SHARE * seconds.sessions)
    busy_ms, calm_ms = (_mean_ms(seconds, chosen) for chosen in (strained, calm))
    if calm_ms is not None and busy_ms is not None and busy_ms > SLOWER * calm_ms:
        served = float(seconds.served[strained].mean())
        told = f"reached at {served:,.0f} {noun}/s: all {sessions:,.0f} sessions were busy, and the mean service time"
        return Limit(
            "server", f"{told} rose from {calm_ms:,.1f} to {busy_ms:,.1f} ms: the server, or the cores it shares"
        )
    text = (
        f"too few sessions ({sessions:,.0f}), and none was free: {rate:,.0f} {noun}/s × {1000 * each_s:,.1f} "
        f"ms of session time for each need at least {needed:,} (-u {needed}). If more make it slower, the "
        "limit is the server's"
    )
    return Limit("sessions", text, needed)


def _by_second(
    processes: Sequence[LoadProcess],
    times: Timeline,
    plan: Plan,
    load: Mapping[str, Any],
    *,
    main: Sequence[int] | None,
) -> _Seconds:
    parts = []
    for process, shift in zip(processes, times.shifts, strict=True):
        ops = process.ops
        skipped = ops["outcome"] == Outcome.SKIPPED
        is_main = among(ops["kind"], main) if main is not None else np.ones(len(skipped), dtype=bool)
        late = _late(process)
        waited = late | (~skipped & (ops["sent"] - ops["due"] > LATE_NS))
        # Of what nobody was there to drive, nothing says how it would have gone.
        asked = ~skipped | late
        service_s = np.where(skipped, 0, ops["done"] - ops["sent"]) / NS_PER_S
        seconds = (_second(ops["due"] + shift), _second(ops["sent"] + shift))
        parts.append((*seconds, is_main, asked, waited, ~skipped, service_s))
    due, sent, is_main, asked, waited, started, service_s = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    length = int(max(due.max(), sent.max())) + 1

    def count(seconds: NDArray[np.int64], weights: Any) -> Floats:
        return np.bincount(seconds, weights, length).astype(np.float64)

    ops_due, ops_waited = count(due, asked), count(due, waited)
    return _Seconds(
        due=count(due, is_main),
        waited=ops_waited,
        strained=np.asarray(ops_waited > STRAINED_SHARE * ops_due),
        served=count(sent, is_main & started),
        ops=ops_due,
        started=count(sent, started),
        busy_s=count(sent, service_s),
        sessions=_sessions(load.get("sessions"), plan.sessions, length),
    )


def _late(process: LoadProcess) -> NDArray[np.bool_]:
    """Which ops were skipped because no session took them in time."""
    return np.asarray((process.ops["outcome"] == Outcome.SKIPPED) & (process.ops["code"] == ""))


def _second(times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.clip(times_ns // NS_PER_S, 0, LONGEST_S)


def _sessions(told: Any, planned: int, length: int) -> Floats:
    """How many sessions there were in each second."""
    sessions = np.full(length, float(planned))
    for change in told if isinstance(told, list) else ():
        if (
            isinstance(change, list)
            and len(change) == 2
            and all(isinstance(part, int) and part >= 0 for part in change)
        ):
            sessions[change[0] :] = change[1]
    return sessions


def _mean_ms(seconds: _Seconds, chosen: NDArray[np.bool_]) -> float | None:
    """The mean service time of ops in the ``chosen`` seconds; None of few."""
    count = float(seconds.started[chosen].sum())
    return 1000 * float(seconds.busy_s[chosen].sum()) / count if count >= LEAST_CALM else None


def _session_time_s(seconds: _Seconds, counts: Mapping[str, Any]) -> float:
    """How long an order, with its follow-ups and the other ops, occupies a session."""
    return float(seconds.busy_s.sum()) / max(1, int(counts["started"]))


def _percent(count: int, counts: Mapping[str, Any]) -> str:
    return f"{100 * count / counts['due']:.1f} %"
