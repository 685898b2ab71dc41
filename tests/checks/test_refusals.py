"""A refusal is false only if nothing that was told, or that nobody knows, can explain it."""

from typing import Any

import pytest

from loadgen.judge.documented import real_time_reads
from loadgen.op import Completion, Outcome
from loadgen.shop.books import open_books
from loadgen.shop.refusals import false_refusal
from loadgen.shop.sale import FOLLOW_UPS, Answer, Kind, State
from loadgen.verdict import Finding, Verdict
from tests.checks.shop import Run, invoked, simulate, small_plan

DONE = {Kind.PAY: Answer.PAID, Kind.CANCEL: Answer.CANCELLED, Kind.RELEASE: Answer.RELEASED}


@pytest.fixture
def run() -> Run:
    """A run without trouble, in which every order is acknowledged."""
    return simulate(small_plan(stock=1000), 6, trouble=0.0, processes=1)


def judged(run: Run, **how: Any) -> Finding:
    """The finding."""
    return false_refusal(open_books(run.history(), run.plan, **how))


def reserved(run: Run) -> Completion:
    """An acknowledged order to which nothing happened: all that happened to one is taken back."""
    followed = {row.number for row in run.rows["0"] if row.kind in FOLLOW_UPS}
    untouched = [row for row in run.done(Answer.PLACED) if row.number not in followed]
    return untouched[0]


def told(
    order: Completion, kind: Kind, after: int = 1000, answer: int = Answer.NOT_RESERVED, **other: Any
) -> Completion:
    """An op on ``order``, sent so long after its answer."""
    sent = order.done + after
    times = {"due": sent, "sent": sent, "done": sent + 1000}
    return order._replace(kind=int(kind), answer=int(answer), touched=(), **{**times, **other})


@pytest.mark.parametrize("kind", FOLLOW_UPS)
def test_order_that_was_acknowledged_and_never_touched_is_reserved(run: Run, kind: Kind) -> None:
    """Whoever is told "not reserved" was told wrong."""
    order = reserved(run)
    run.rows["0"].append(told(order, kind))

    finding = judged(run)

    assert finding.anomalies == 1
    assert f"the {kind.name.lower()} of order {order.number} (" in finding.witnesses[0]
    assert (
        "was answered not reserved at" in finding.witnesses[0] and "at the end it is reserved" in finding.witnesses[0]
    )


def test_refusal_sent_before_the_acknowledgement_is_no_lie(run: Run) -> None:
    """The order's own transaction may have been later."""
    order = reserved(run)
    run.rows["0"].append(told(order, Kind.PAY, after=-1, done=order.done + 5))

    assert judged(run).verdict == Verdict.VALID


EXPLAINED: dict[str, tuple[Outcome, int, bool]] = {
    "a release that came before": (Outcome.OK, -500, True),
    "a release that overlaps": (Outcome.OK, 500, True),
    "a release that came later": (Outcome.OK, 5000, False),
    "a release of which nobody knows": (Outcome.INFO, 500, True),
    "a later one of which nobody knows": (Outcome.INFO, 5000, True),
    "a release that failed": (Outcome.FAIL, 500, False),
}


@pytest.mark.parametrize("what", EXPLAINED)
@pytest.mark.parametrize("kind", [Kind.CANCEL, Kind.PAY])
def test_what_may_have_come_before_explains_a_refusal(run: Run, what: str, kind: Kind) -> None:
    """Everything that was sent before the answer, and everything of which nobody knows."""
    outcome, after, explains = EXPLAINED[what]
    order = reserved(run)
    refused = told(order, Kind.RELEASE, after=2000)
    answer = DONE[kind] if outcome == Outcome.OK else Answer.NONE
    other = told(order, kind, answer=answer, outcome=int(outcome), sent=refused.sent + after, done=refused.sent + 9000)
    if outcome == Outcome.OK and kind == Kind.CANCEL:
        other = other._replace(touched=_touched(order))
    run.rows["0"] += [refused, other]
    if outcome == Outcome.OK:
        run.row("orders", id=order.number)["state"] = int(State.PAID if kind == Kind.PAY else State.CANCELLED)

    assert judged(run).anomalies == (0 if explains else 1)


def _touched(order: Completion) -> tuple[int, ...]:
    """Versions beyond those of the run, for the rows that an order touched."""
    triples = [order.touched[at : at + 3] for at in range(0, len(order.touched), 3)]
    return tuple(value for row, _, wrote in triples for value in (row, -1, wrote + 10_000))


@pytest.mark.parametrize("spoil", ["lost", "stolen"])
def test_refusal_that_the_tables_explain_is_told_by_what_they_lack(run: Run, spoil: str) -> None:
    """An order that is gone is lost; one that somebody cancelled is a ghost. It was refused for good reason."""
    order = reserved(run)
    run.rows["0"].append(told(order, Kind.PAY))
    row = run.row("orders", id=order.number)
    if spoil == "lost":
        run.tables["orders"].remove(row)
    else:
        row["state"] = int(State.CANCELLED)

    assert judged(run).verdict == Verdict.VALID


def test_without_the_table_the_answers_alone_prove_it(run: Run) -> None:
    """Two answers contradict each other, whatever the tables hold."""
    run.rows["0"].append(told(reserved(run), Kind.PAY))
    history = run.history()
    history.final.clear()

    assert false_refusal(open_books(history, run.plan)).anomalies == 1


def test_ops_of_two_clocks_are_not_ordered() -> None:
    """On another boot id nobody knows which came first."""
    run = simulate(small_plan(stock=1000), 6, trouble=0.0, processes=2)
    name, other = "0", "1"
    run.clocks[other]["boot_id"] = "another"
    followed = {row.number for row in run.rows[name] if row.kind in FOLLOW_UPS}
    order = next(row for row in run.rows[name] if row.answer == Answer.PLACED and row.number not in followed)
    run.rows[other].append(told(order, Kind.PAY))

    assert judged(run).verdict == Verdict.VALID


def test_where_nodes_may_lag_it_is_told_and_no_violation(run: Run) -> None:
    """Its documentation does not promise that every node knows at once."""
    run.rows["0"].append(told(reserved(run), Kind.PAY))

    finding = judged(run, real_time_reads=False)

    assert finding.verdict == Verdict.VALID
    assert finding.witnesses[0].startswith("1 refusals that what was acknowledged before contradicts; no violation")
    assert "the pay of order" in finding.witnesses[1]


# Over the limit.

PLAN = small_plan(stock=1000, user_limit=2, skus=1, skew="one-hot")
ASKED = invoked(PLAN, 0, 200)
MINE = [
    number
    for number in range(200)
    if ASKED["kind"][number] == Kind.ORDER and ASKED["user"][number] == ASKED["user"][0] and ASKED["qty_a"][number] == 1
]
"""Orders of one shopper, of one unit of the one SKU: of these two are within the limit, and three are not."""
S = 1_000_000_000


def ended(number: int, kind: Kind, answer: Answer, sent: int, done: int, outcome: Outcome = Outcome.OK) -> Completion:
    """An op from ``sent`` to ``done``, in seconds."""
    touched = (0, -1, ended.version) if answer in (Answer.PLACED, Answer.CANCELLED, Answer.RELEASED) else ()  # type: ignore[attr-defined]
    ended.version += bool(touched)  # type: ignore[attr-defined]
    return Completion(number, kind, 0, sent * S, sent * S, done * S, outcome, answer, 1, 0, "", touched)


ended.version = 1  # type: ignore[attr-defined]


def limited(*before: Completion, asked: int = 2) -> Finding:
    """What is found of an order refused for the limit from second 50 to 60, beside other ops of its shopper."""
    run = simulate(PLAN, 1, numbers=1, trouble=0.0, processes=1)
    refused = ended(MINE[asked], Kind.ORDER, Answer.LIMITED, 50, 60)
    run.handed["0"], run.rows["0"], run.closed_at["0"] = [(0, 200)], [*before, refused], None
    told = {row.number for row in run.rows["0"]}
    # A whole history, in which nothing else was ever sent.
    run.rows["0"] += [
        ended(number, Kind(int(ASKED["kind"][number])), Answer.NONE, 0, 0, Outcome.SKIPPED)
        for number in range(200)
        if number not in told
    ]
    run.closed_at["0"] = 200
    history = run.history()
    history.final.clear()
    return false_refusal(open_books(history, PLAN))


def placed(which: int, sent: int, done: int, outcome: Outcome = Outcome.OK) -> Completion:
    """One of the shopper's orders."""
    return ended(MINE[which], Kind.ORDER, Answer.PLACED if outcome == Outcome.OK else Answer.NONE, sent, done, outcome)


def released(which: int, sent: int, done: int, outcome: Outcome = Outcome.OK) -> Completion:
    """Its release."""
    answer = Answer.RELEASED if outcome == Outcome.OK else Answer.NONE
    return ended(MINE[which], Kind.RELEASE, answer, sent, done, outcome)


BELIEVED = {
    "two orders before": (placed(0, 1, 2), placed(1, 3, 4)),
    "one before and one beside it": (placed(0, 1, 2), placed(1, 59, 70)),
    "one before and one of which nobody knows": (placed(0, 1, 2), placed(1, 3, 4, Outcome.INFO)),
    "a return that was not yet acknowledged": (placed(0, 1, 2), placed(1, 3, 4), released(1, 40, 51)),
    "a return of which nobody knows": (placed(0, 1, 2), placed(1, 3, 4), released(1, 5, 6, Outcome.INFO)),
}
FALSE = {
    "nothing at all": (),
    "one order before": (placed(0, 1, 2),),
    "one that was sent after the answer": (placed(0, 1, 2), placed(1, 61, 62)),
    "one that failed": (placed(0, 1, 2), placed(1, 3, 4, Outcome.FAIL)),
    "a return that was acknowledged in time": (placed(0, 1, 2), placed(1, 3, 4), released(1, 40, 49)),
}


@pytest.mark.parametrize("before", BELIEVED.values(), ids=BELIEVED)
def test_refusal_for_the_limit_that_some_state_explains_is_believed(before: tuple[Completion, ...]) -> None:
    """The most that the shopper can have held at any instant leaves no room."""
    assert limited(*before).verdict == Verdict.VALID


@pytest.mark.parametrize("before", FALSE.values(), ids=FALSE)
def test_refusal_for_the_limit_of_a_shopper_with_room_is_false(before: tuple[Completion, ...]) -> None:
    """Whatever the order of what overlaps, there was room."""
    finding = limited(*before)

    assert finding.anomalies == 1
    assert f"order {MINE[2]} (" in finding.witnesses[0] and "was answered limited at" in finding.witnesses[0]
    assert "of SKU 0 in that time, of the 2 that one may" in finding.witnesses[0]


def test_true_refusals_of_a_whole_run_are_believed() -> None:
    """There are many, and claims and returns explain each."""
    run = simulate(small_plan(stock=1000, user_limit=1, skus=2), 6, trouble=0.0, processes=1, numbers=200)

    assert len(run.done(Answer.LIMITED)) > 20
    assert judged(run).verdict == Verdict.VALID


@pytest.mark.parametrize(
    ("cluster", "host", "promised"),
    [
        ({"nodes": 1}, "db", True),
        ({}, "db", True),
        ({"nodes": 3, "replication": {"kind": "synchronous standbys", "synchronous_commit": "on"}}, "", True),
        ({"nodes": 3, "replication": {"kind": "synchronous standbys", "synchronous_commit": "local"}}, "", False),
        ({"nodes": 3, "replication": {"kind": "group replication, one primary"}}, "", False),
        ({"nodes": 2, "replication": {"kind": "primary and standby, asynchronous: what was"}}, "", False),
        ({"nodes": 8, "replication": {"kind": "Raft, three replicas"}}, "", True),
        ({"nodes": 1}, "db1:5432,db2:5432", False),
        ({"nodes": 3}, "db", False),
    ],
)
def test_which_clusters_promise_reads_in_real_time(cluster: dict[str, Any], host: str, promised: bool) -> None:
    """One node does, and several that agree first."""
    assert real_time_reads(cluster, {"host": host}) is promised
