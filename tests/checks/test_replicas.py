"""Reads from replicas: a current one shows nothing, a lagging one shows exactly what its lag explains."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.judge.documented import promised
from loadgen.op import Completion, Outcome
from loadgen.plan import Plan
from loadgen.shop.catalogue import CHECKS
from loadgen.shop.replicas import replica_reads
from loadgen.shop.sale import Answer, Kind, Shopping
from loadgen.verdict import Verdict
from tests.checks.shop import MS, Run, Simulation, small_plan

WEIGHTS = (("order", 10), ("browse", 20), ("pay", 8), ("cancel", 1), ("release", 1))
PLAN = small_plan(kind_weights=WEIGHTS, stock=1000, user_limit=90, read_from="replica")
NUMBERS = 150


class Replicated(Simulation):
    """The shop, whose browses see the stock as it was ``lag()`` nanoseconds before."""

    lag: Callable[[], int]

    def _transaction(self, at: int, began: int, op: Shopping, kind: int) -> tuple[int, tuple[int, ...]] | None:
        answered = super()._transaction(at, began, op, kind)
        if kind != Kind.BROWSE or answered is None:
            return answered
        answer, touched = answered
        then = max(0, at - self.lag())
        seen: tuple[int, ...] = ()
        for row in touched[::3]:
            known = [(0, 0, 0), *self.past.get(row, [])]
            seen += (row, [version for instant, _, version in known if instant <= then][-1], -1)
        return answer, seen


def sold(plan: Plan, seed: int, lag: Callable[[Simulation], int], *, trouble: float = 0.1, processes: int = 2) -> Run:
    """A run whose sessions do one thing after another."""
    simulation = Replicated(plan, seed, NUMBERS, processes, trouble, snapshots=True)
    simulation.lag = lambda: lag(simulation)
    run = simulation.run()
    for name, rows in run.rows.items():
        run.rows[name] = in_sessions(rows)
    return run


def in_sessions(rows: list[Completion]) -> list[Completion]:
    """Each op given to a session that is free."""
    free_at: list[int] = []
    given_to: dict[int, int] = {}
    for index in sorted(range(len(rows)), key=lambda index: rows[index].sent):
        row = rows[index]
        session = next((one for one, free in enumerate(free_at) if free <= row.sent), len(free_at))
        free_at[session:] = [row.done, *free_at[session + 1 :]]
        given_to[index] = session
    return [row._replace(process=given_to[index]) for index, row in enumerate(rows)]


def by_definition(run: Run) -> dict[str, Any]:
    """The same counts, each read compared with every op."""
    ok = [(name, row) for name, rows in run.rows.items() for row in rows if row.outcome == Outcome.OK]
    stale, own, seen = [], 0, 0
    reads = [(name, row) for name, row in ok if row.answer == Answer.SEEN]
    for name, read in reads:
        worst, missed_own, missed_seen = 0, False, False
        for row, version in zip(read.touched[::3], read.touched[1::3], strict=True):
            for other_name, other in ok:
                same_session = (name, read.process) == (other_name, other.process)
                for at, saw, wrote in zip(*(iter(other.touched),) * 3, strict=True):
                    if at != row:
                        continue
                    one_clock = run.clocks[name]["boot_id"] == run.clocks[other_name]["boot_id"]
                    if one_clock and wrote > version and other.done < read.sent:
                        worst = max(worst, read.sent - other.done)
                    if same_session and other.done <= read.sent:
                        missed_own |= wrote > version
                        missed_seen |= other.answer == Answer.SEEN and saw > version
        stale += [worst] if worst else []
        own, seen = own + missed_own, seen + missed_seen
    return {
        "reads": len(reads),
        "stale": len(stale),
        "max": max(stale) / MS if stale else None,
        "read_your_writes": own,
        "monotonic_reads": seen,
    }


def counts(found: dict[str, Any]) -> dict[str, Any]:
    """What of the summary's part can be compared with the definition."""
    names = ("reads", "stale", "read_your_writes", "monotonic_reads")
    return {**{name: found[name] for name in names}, "max": found["staleness_ms"]["max"]}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), trouble=st.sampled_from([0.0, 0.3]), processes=st.integers(1, 3))
def test_current_replica_shows_nothing(seed: int, trouble: float, processes: int) -> None:
    """Without lag there is neither a stale read nor one that misses what its session knew."""
    found = replica_reads(sold(PLAN, seed, lambda _: 0, trouble=trouble, processes=processes).books(), 2)

    assert (found["stale"], found["read_your_writes"], found["monotonic_reads"]) == (0, 0, 0)
    assert found["staleness_ms"] == {"p50": None, "p99": None, "max": None}
    assert found["witnesses"] == {}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), lag_ms=st.integers(1, 200), processes=st.integers(1, 3))
def test_lagging_replica_shows_exactly_what_its_lag_explains(seed: int, lag_ms: int, processes: int) -> None:
    """The counts are those of the definition, no read is staler than the lag, and time never runs backwards."""
    run = sold(PLAN, seed, lambda _: lag_ms * MS, processes=processes)

    found = replica_reads(run.books(), 2)

    assert counts(found) == pytest.approx(by_definition(run), abs=0.001)
    assert found["monotonic_reads"] == 0
    assert not found["stale"] or found["staleness_ms"]["max"] <= lag_ms
    assert set(found["witnesses"]) == {name for name in ("stale", "read_your_writes") if found[name]}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), processes=st.integers(1, 3))
def test_lag_that_changes_makes_a_session_go_back_in_time(seed: int, processes: int) -> None:
    """As with reads that are balanced over replicas: now the monotonic reads are counted too."""
    run = sold(PLAN, seed, lambda shop: shop.random.choice((0, 100 * MS)), trouble=0.0, processes=processes)

    assert counts(replica_reads(run.books(), 1)) == pytest.approx(by_definition(run), abs=0.001)


def test_monotonic_reads_are_found() -> None:
    """The property above is not empty: over a few runs sessions do go back."""
    runs = (sold(PLAN, seed, lambda shop: shop.random.choice((0, 300 * MS)), processes=1) for seed in range(5))

    assert sum(replica_reads(run.books(), 1)["monotonic_reads"] for run in runs) > 0


def scripted(*ops: tuple[int, int, int, int, int]) -> Run:
    """A run of one SKU: ``(session, sent_ms, done_ms, read, wrote)`` each, -1 for did not; what is over is left out."""
    plan = small_plan(skus=1, stock=1000, user_limit=90, kind_weights=(("order", 1), ("browse", 1)))
    run = sold(plan, 5, lambda _: 0, trouble=0.0, processes=1)
    numbers = {kind: [row.number for row in run.rows["0"] if row.kind == kind] for kind in (Kind.ORDER, Kind.BROWSE)}
    rows = []
    for session, sent, done, read, wrote in ops:
        kind, answer = (Kind.BROWSE, Answer.SEEN) if wrote < 0 else (Kind.ORDER, Answer.PLACED)
        number = numbers[kind].pop(0)
        times = (sent * MS, sent * MS, done * MS)
        rows.append(Completion(number, kind, session, *times, Outcome.OK, answer, 1, 0, "", (0, read, wrote)))
    run.rows["0"] = rows
    run.clocks["0"] |= {"wall_ns": "0", "monotonic_ns": "0"}
    return run


def test_stale_read_is_told_with_its_age_and_the_write_that_it_missed() -> None:
    """The age counts from the first acknowledgement of a larger version."""
    run = scripted((0, 10, 20, -1, 1), (0, 30, 40, -1, 2), (0, 45, 60, -1, 3), (1, 100, 101, 1, -1))

    found = replica_reads(run.books(), 2)

    assert (found["reads"], found["stale"], found["stale_percent"]) == (1, 1, 100.0)
    assert found["staleness_ms"] == {"p50": 60.0, "p99": 60.0, "max": 60.0}
    assert [each["stale"] for each in found["by_replica"]] == [0, 1]
    write = run.rows["0"][1]
    assert f"browse {run.rows['0'][3].number} (session 1, sent 0.090000 s)" in found["witnesses"]["stale"]
    assert "saw SKU 0 at version 1, 60.000 ms after version 2 had been acknowledged" in found["witnesses"]["stale"]
    assert f"order {write.number} (token" in found["witnesses"]["stale"]


def test_write_that_ends_while_a_read_is_on_its_way_makes_it_not_stale() -> None:
    """Whatever overlaps may come in either order."""
    found = replica_reads(scripted((0, 10, 100, -1, 1), (1, 100, 101, 0, -1)).books(), 1)

    assert (found["stale"], found["read_your_writes"]) == (0, 0)


def test_read_that_misses_its_sessions_own_write_is_told_with_both() -> None:
    """Another session's read of the same is stale only."""
    run = scripted((3, 10, 20, -1, 1), (2, 21, 22, 0, -1), (3, 21, 22, 0, -1))

    found = replica_reads(run.books(), 1)

    assert (found["stale"], found["read_your_writes"], found["monotonic_reads"]) == (2, 1, 0)
    words = found["witnesses"]["read_your_writes"]
    assert f"browse {run.rows['0'][2].number} (session 3" in words
    assert "at version 0, though the same session had written version 1" in words
    assert f"order {run.rows['0'][0].number} (token" in words


def test_read_that_is_older_than_an_earlier_one_is_told_with_both() -> None:
    """Only within one session: another one may be behind."""
    run = scripted((0, 10, 20, -1, 1), (1, 30, 31, 1, -1), (2, 40, 41, 0, -1), (1, 50, 51, 0, -1))

    found = replica_reads(run.books(), 1)

    assert (found["stale"], found["read_your_writes"], found["monotonic_reads"]) == (2, 0, 1)
    first, last = run.rows["0"][1].number, run.rows["0"][3].number
    words = found["witnesses"]["monotonic_reads"]
    assert f"browse {last} (session 1, sent 0.040000 s) saw SKU 0 at version 0, though earlier" in words
    assert f"browse {first} (session 1, sent 0.020000 s) saw SKU 0 at version 1" in words


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_lagging_replica_is_no_violation(seed: int) -> None:
    """All checks of the sale hold: a replica shows baskets whole, however late."""
    books = sold(PLAN, seed, lambda shop: shop.random.choice((0, 100 * MS))).books()

    assert [check(books).name for check in CHECKS.values() if check(books).verdict != Verdict.VALID] == []


def test_isolation_is_judged_without_what_replicas_showed() -> None:
    """What was stale breaks strict serializability on one node, and no promise where it comes from a replica."""
    history = scripted((0, 10, 20, -1, 1), (1, 30, 31, 0, -1)).history()

    on_replica = promised("flashsale", PLAN, history, "strict-serializable", models=())
    on_primary = promised("flashsale", PLAN.with_(read_from="primary"), history, "strict-serializable", models=())

    assert [finding.verdict for finding in on_replica.findings] == [Verdict.VALID]
    assert {finding.verdict for finding in on_primary.findings} == {Verdict.INVALID}
