"""A correct store never gets a violation, whatever fails, stays open, races, dies or is cut off; a control does."""

from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.measures.throughput import count_ops
from loadgen.plan import Plan
from loadgen.shop import sale
from loadgen.shop.books import open_books
from loadgen.shop.catalogue import CHECKS, run_checks
from loadgen.shop.undersell import UNKNOWN, undersell
from loadgen.verdict import Finding, Verdict
from tests.checks.shop import Run, simulate, small_plan

STRATEGIES = [("naive", 1), ("pessimistic", 1), ("optimistic", 1), ("atomic", 1), ("bucketed", 3), ("bucketed", 8)]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A plan of any strategy and skew, with stock that runs out or not."""
    strategy, buckets = draw(st.sampled_from(STRATEGIES))
    return small_plan(
        strategy=strategy,
        buckets=buckets,
        skus=draw(st.integers(1, 7)),
        stock=draw(st.sampled_from([8, 12, 40, 1000])),
        skew=draw(st.sampled_from(["one-hot", "uniform", "zipf:0.99"])),
        user_limit=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 2**63 - 1)),
    )


def alarms(run: Run) -> list[Finding]:
    """What is not valid."""
    return [finding for finding in run_checks(list(CHECKS), run.books()) if finding.verdict != Verdict.VALID]


@settings(max_examples=100, deadline=None)
@given(
    plan=plans(),
    seed=st.integers(0, 2**32),
    trouble=st.sampled_from([0.0, 0.05, 0.3, 0.7]),
    processes=st.integers(1, 3),
)
def test_correct_store_is_always_valid(plan: Plan, seed: int, trouble: float, processes: int) -> None:
    """Every check holds, and every unit left over has a known cause."""
    run = simulate(plan, seed, trouble=trouble, processes=processes)

    assert alarms(run) == []
    left = undersell(run.books())
    assert left is not None and left["causes"][UNKNOWN] == 0


@settings(max_examples=40, deadline=None)
@given(plan=plans(), seed=st.integers(0, 2**32), keep=st.floats(0, 1))
def test_completions_that_were_lost_never_make_a_violation(plan: Plan, seed: int, keep: float) -> None:
    """A process whose last completions never reached the disk has info ops, not ghosts."""
    run = simulate(plan, seed, processes=2)
    run.rows["0"] = run.rows["0"][: int(keep * len(run.rows["0"]))]
    run.closed_at["0"] = None

    assert alarms(run) == []


@settings(max_examples=40, deadline=None)
@given(plan=plans(), seed=st.integers(0, 2**32), keep=st.floats(0, 1))
def test_numbers_that_were_lost_never_make_a_violation(plan: Plan, seed: int, keep: float) -> None:
    """Where the history does not tell of every number, what it does not tell of is nobody's ghost."""
    run = simulate(plan, seed, processes=2)
    run.handed["0"] = run.handed["0"][: int(keep * len(run.handed["0"]))]
    told = {number for first, count in run.handed["0"] for number in range(first, first + count)}
    run.rows["0"] = [row for row in run.rows["0"] if row.number in told]
    run.tries["0"] = []
    run.closed_at["0"] = None

    findings = run_checks(list(CHECKS), run.books())

    assert [finding for finding in findings if finding.anomalies] == []


@settings(max_examples=30, deadline=None)
@given(plan=plans(), seed=st.integers(0, 2**32), trouble=st.sampled_from([0.0, 0.4]))
def test_accounts_of_orders_add_up(plan: Plan, seed: int, trouble: float) -> None:
    """due = started + skipped, started = ok + fail + info, and each order that was due is counted once."""
    run = simulate(plan, seed, trouble=trouble)
    books = open_books(run.history(), plan)

    counts = count_ops(books.processes, books.times, sale.FACTS)

    assert counts["due"] == counts["started"] + counts["skipped"]
    assert counts["started"] == counts["ok"] + counts["fail"] + counts["info"]
    assert counts["ok"] == counts["placed"] + counts["sold_out"] + counts["limited"]
    told = sum(row.kind == 0 for rows in run.rows.values() for row in rows)
    assert counts["due"] == told


def test_naive_below_snapshot_isolation_loses_updates_and_nothing_else_is_blamed_on_versions() -> None:
    """The control: stale reads that the store lets through are lost updates, exactly as many, and not lost writes."""
    plan = small_plan(strategy="naive", skew="one-hot", stock=20, skus=1)
    run = simulate(plan, 3, numbers=300, trouble=0.0, snapshots=False)

    findings = {finding.name: finding for finding in run_checks(list(CHECKS), run.books())}

    assert run.broken_promises > 5
    assert findings["lost-update"].anomalies == run.broken_promises
    assert findings["oversell"].anomalies > 0
    for name in ("lost-write", "phantom-write", "real-time-order", "fractured-read", "lost-order", "ghost"):
        assert findings[name].verdict == Verdict.VALID
