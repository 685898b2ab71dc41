"""A load process that dies: the same history is counted by the schedule, and judged as if all of its numbers might be.

Both rules on the same runs: driven for real against a database in memory, and cut where a death would cut them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadgen.clock import NS_PER_S, clock_origin
from loadgen.conduct.conclusion import Conclusion
from loadgen.history.history import HistoryWriter, ops_batch, write_final, write_json
from loadgen.history.run_directory import RunDirectory
from loadgen.judge.judge import exit_code, judge
from loadgen.load.loop import sleep_until
from loadgen.load.scheduler import Scheduler
from loadgen.op import Completion
from loadgen.plan import Plan
from loadgen.schedule import plan_arrivals
from loadgen.shop import sale
from loadgen.shop.sale import Kind
from tests.load.fake_engine import FakeServer, sale_plan
from tests.load.test_drive import NUMBERS, Ran, run
from tests.stored import FINAL_COLUMNS, load_facts, plan_facts
from workloads.flashsale import SALE


def final_rows(server: FakeServer) -> dict[str, list[tuple[int, ...]]]:
    """What the tables hold."""
    return {
        "stock": [(*key, *row, int(sale.price(np.array(key[0])))) for key, row in server.stock.items()],
        "orders": [(number, *row) for number, row in server.orders.items()],
        "purchases": [(*key, units) for key, units in server.purchases.items()],
        "payments": [(number, *row) for number, row in server.payments.items()],
        "releases": list(server.releases.items()),
    }


def store(directory: Path, ran: Ran, rows: list[Completion], closed_at: int | None, load: dict[str, Any]) -> Path:
    """Write the run's directory, with those ``rows`` as its history."""
    (directory / "history").mkdir(parents=True)
    (directory / "logs").mkdir()
    facts = {"run_id": directory.name, "workload": "flashsale", "share": "0/1"}
    writer = HistoryWriter(directory / "history", "0", sale.INVOKED_COLUMNS, facts)
    writer.invoked(SALE.invoked(ran.plan, 0, NUMBERS))
    writer.batch(ops_batch(rows))
    if closed_at is not None:
        writer.closed(closed_at)
    writer.close()
    for table, names in FINAL_COLUMNS.items():
        values = np.array(final_rows(ran.server)[table], dtype=np.int64).reshape(-1, len(names))
        columns = {name: values[:, index] for index, name in enumerate(names)}
        write_final(directory / "history", table, columns, dict.fromkeys(names, "int64"))
    told = plan_facts(directory.name)
    told["plan"] = ran.plan.to_json()
    told["workload"]["arrivals"] = list(SALE.arrivals)
    write_json(directory / "plan.json", told)
    write_json(directory / "load.json", {**load_facts(), **load})
    return directory


def schedule_of(plan: Plan) -> list[int]:
    """Every arrival, in nanoseconds since the begin."""
    return [offset for chunk in plan_arrivals(plan, SALE.arrivals, 0, 1) for offset in chunk.tolist()]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0.0, 1.0), seed=st.integers(0, 1000), orderly=st.booleans(), trouble=st.booleans())
def test_a_death_at_any_moment_is_counted_by_the_schedule_and_never_a_violation(
    tmp_path_factory: Any, at: float, seed: int, orderly: bool, trouble: bool
) -> None:
    """What the database did after a dead process's last word is no ghost, and each of its arrivals is counted."""
    plan = sale_plan(peak_rate=800.0, duration_s=0.3, seed=seed)
    after_s = at * plan.duration_s

    def stop(scheduler: Scheduler) -> None:
        """As a worker does that is told to end: it gives back what it has."""
        sleep_until(lambda: False, after_s)
        if orderly:
            scheduler.stop_arrivals()

    ran = run(
        plan,
        lambda step, index: "lost-after" if trouble and step == "commit" and index % 40 == 9 else "",
        during=stop,
    )
    killed_ns = ran.start + int(after_s * NS_PER_S)
    rows = ran.done if orderly else [row for row in ran.done if row.done <= killed_ns]
    closed_at = ran.scheduler.next_number if orderly else None
    load: dict[str, Any] = {
        "died": [] if orderly else ["0"],
        "processes": {"0": {"lost": "it ended", "next_number": closed_at} if orderly else {"lost": "it died"}},
        "start_wall_ns": clock_origin().wall_of(ran.start),
        "offered_s": plan.duration_s,
    }
    directory = store(tmp_path_factory.mktemp("death") / "run", ran, rows, closed_at, load)
    summary = judge(directory)

    assert not any(summary["violations"].values()), summary["violations"]
    assert summary["verdict"] == "valid", summary["unknown"]
    assert exit_code(summary) == 1
    assert not summary["complete"]
    told = {row.number for row in rows if row.kind in (Kind.ORDER, Kind.BROWSE)}
    due = schedule_of(plan)
    kinds = SALE.invoked(plan, 0, len(due))["kind"]
    orders = summary["orders"]
    assert orders["due"] == int((kinds == Kind.ORDER).sum())
    assert orders["due"] == orders["started"] + orders["skipped"]
    assert orders["started"] == orders["ok"] + orders["fail"] + orders["info"]
    last_ns = max((row.done for row in rows), default=0)
    lost = [k for k, offset in enumerate(due) if k not in told and (orderly or ran.start + offset > last_ns)]
    assert summary["skipped_because"]["worker_lost"] == sum(kinds[k] == Kind.ORDER for k in lost)


def test_the_table_of_seconds_has_what_the_summary_has(tmp_path: Path) -> None:
    """One of them is a sum of the other, also where most of the schedule was driven by nobody."""
    plan = sale_plan(peak_rate=800.0, duration_s=0.3)
    ran = run(plan)
    rows = [row for row in ran.done if row.done <= ran.start + 0.1 * NS_PER_S]
    load = {"died": ["0"], "processes": {"0": {"lost": "it died"}}, "offered_s": 0.3, "sessions": [[0, 8]]}
    directory = store(tmp_path / "run", ran, rows, None, load)
    conclusion = Conclusion(RunDirectory(directory), {**load_facts(), **load}, lambda _: None)
    conclusion.judge()
    done = conclusion.done()
    table = pd.read_csv(directory / "seconds.csv")
    orders = judge(directory)["orders"]

    assert done["exit_code"] == 1
    assert {name: table[name].sum() for name in ("due", "skipped", "fail", "info", "placed")} == {
        name: orders[name] for name in ("due", "skipped", "fail", "info", "placed")
    }
    assert set(table["sessions"]) == {8}
