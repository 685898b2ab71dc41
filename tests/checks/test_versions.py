"""The version witness: one step of a correct run is changed, and the check names that step."""

from collections.abc import Callable

from loadgen.op import Completion, Outcome
from loadgen.shop.asked import Fate
from loadgen.shop.catalogue import CHECKS
from loadgen.shop.sale import Answer, Kind
from loadgen.verdict import Finding, Verdict
from tests.checks.shop import Run, simulate, small_plan


def run_of(seed: int = 5, **changes: object) -> Run:
    """A run with no trouble, on one SKU: every write is acknowledged, and there are a hundred versions."""
    return simulate(
        small_plan(skew="one-hot", skus=1, stock=1000, user_limit=90, **changes), seed, trouble=0.0, processes=1
    )


def check(name: str, run: Run) -> Finding:
    """The finding of one check."""
    return CHECKS[name](run.books())


def change(run: Run, which: Callable[[Completion], bool], **fields: object) -> Completion:
    """Change the first completion that ``which`` chooses; what it was."""
    rows = run.rows["0"]
    at = next(index for index, row in enumerate(rows) if which(row))
    old = rows[at]
    rows[at] = old._replace(**fields)
    return old


def writers(run: Run) -> list[Completion]:
    """The orders that were placed, by the version that they wrote."""
    placed = [row for row in run.rows["0"] if row.answer == Answer.PLACED and row.outcome == Outcome.OK]
    return sorted(placed, key=lambda row: row.touched[2])


def test_write_computed_from_an_older_read_is_a_lost_update_of_the_writes_between() -> None:
    """The witness names the reader, the versions, and the write that was written over."""
    run = run_of(strategy="pessimistic")
    earlier, later = writers(run)[3:5]
    row, _, wrote = later.touched
    assert earlier.touched[2] == wrote - 1 or wrote > 2
    change(run, lambda op: op is later, touched=(row, wrote - 2, wrote))

    finding = check("lost-update", run)

    assert finding.anomalies == 1
    over = next(op for op in run.rows["0"] if op.touched[2:3] == (wrote - 1,))
    assert f"order {later.number} (token" in finding.witnesses[0]
    assert f"computed from version {wrote - 2} of SKU 0 and wrote {wrote}, over {wrote - 1} by" in finding.witnesses[0]
    assert f" {over.number} (token" in finding.witnesses[0]


def test_two_acknowledged_writes_with_one_version_are_a_lost_update() -> None:
    """Both orders are there, so one write was written over; the version that nobody has is a phantom."""
    run = run_of()
    first, second = writers(run)[3:5]
    change(run, lambda op: op is second, touched=(0, -1, first.touched[2]))

    finding = check("lost-update", run)

    assert finding.anomalies == 1
    assert f"order {first.number} (" in finding.witnesses[0] and f"order {second.number} (" in finding.witnesses[0]
    assert f"both wrote version {first.touched[2]} of SKU 0" in finding.witnesses[0]
    assert check("phantom-write", run).anomalies == 1


def test_two_writes_with_one_version_of_which_one_is_gone_are_a_lost_order() -> None:
    """A server that forgot its last commits and counted on from there lost an order, and updates of nobody else."""
    run = run_of()
    first, second = writers(run)[3:5]
    change(run, lambda op: op is second, touched=(0, -1, first.touched[2]))
    run.tables["orders"].remove(run.row("orders", id=second.number))

    assert check("lost-update", run).verdict == Verdict.VALID
    lost = check("lost-order", run)
    assert lost.anomalies == 1
    assert f"order {second.number} (token" in lost.witnesses[0]


def test_acknowledged_version_beyond_the_last_one_is_a_lost_write() -> None:
    """The row ends before the version that somebody was told."""
    run = run_of()
    last = max((op for op in run.rows["0"] if op.touched and op.touched[2] > 0), key=lambda op: op.touched[2])
    run.tables["stock"][0]["version"] -= 1

    finding = check("lost-write", run)

    assert finding.anomalies == 1
    assert (
        f" {last.number} (token" in finding.witnesses[0] and f"wrote version {last.touched[2]}" in finding.witnesses[0]
    )


def test_version_that_nobody_wrote_is_a_phantom_write() -> None:
    """One more version than writes, and no info op to explain it."""
    run = run_of()
    run.tables["stock"][0]["version"] += 2

    finding = check("phantom-write", run)

    assert finding.anomalies == 2
    version = run.tables["stock"][0]["version"]
    assert f"SKU 0 ends at version {version}" in finding.witnesses[0]
    assert f"({version - 1}, {version})" in finding.witnesses[0]


def test_info_order_in_the_tables_explains_one_version_and_an_absent_one_none() -> None:
    """An order that was never answered and is there wrote once; without its row its version is a phantom."""
    run = run_of()
    order = writers(run)[2]
    change(run, lambda op: op is order, outcome=Outcome.INFO, answer=0, touched=())

    assert check("phantom-write", run).verdict == Verdict.VALID

    run.tables["orders"].remove(run.row("orders", id=order.number))

    assert check("phantom-write", run).anomalies == 1
    assert check("lost-order", run).verdict == Verdict.VALID


def test_smaller_version_after_an_acknowledged_larger_one_breaks_real_time() -> None:
    """Two orders, one after the other, whose versions are the other way round."""
    run = run_of()
    early = writers(run)[0]
    late = next(op for op in writers(run) if op.sent > early.done)
    change(run, lambda op: op is early, touched=(0, -1, late.touched[2]))
    change(run, lambda op: op is late, touched=(0, -1, early.touched[2]))

    finding = check("real-time-order", run)

    assert finding.anomalies >= 1
    pair = f"order {early.number} (token"
    assert any(f"order {late.number} (token" in witness and pair in witness for witness in finding.witnesses)


def test_writes_that_overlap_may_have_their_versions_in_any_order() -> None:
    """Sent before the other was acknowledged: both orders are right."""
    run = run_of()
    for first in writers(run):
        for second in writers(run):
            if first.sent < second.sent < first.done and first.touched[2] < second.touched[2]:
                between = [op for op in writers(run) if first.touched[2] < op.touched[2] < second.touched[2]]
                if not between:
                    change(run, lambda op, one=first: op is one, touched=(0, -1, second.touched[2]))
                    change(run, lambda op, one=second: op is one, touched=(0, -1, first.touched[2]))
                    assert check("real-time-order", run).verdict == Verdict.VALID
                    return
    raise AssertionError("no two orders overlapped")


def test_cancellation_that_left_no_trace_is_a_lost_write() -> None:
    """It was acknowledged, and its order is reserved again."""
    run = simulate(small_plan(stock=1000), 1, trouble=0.0, processes=1)
    number = run.done(Answer.CANCELLED)[0].number
    run.row("orders", id=number)["state"] = 0
    run.tables["releases"].remove(run.row("releases", order_id=number))

    finding = check("lost-write", run)

    assert finding.anomalies == 1
    assert f"the cancel of order {number} (token" in finding.witnesses[0]
    assert run.books().asked.fates[Kind.CANCEL][number] == Fate.DONE
