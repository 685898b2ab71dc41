"""Runs of the probes on a store in memory that runs one transaction after the other, whole; and on stores that lie."""

import importlib.util
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from loadgen.engines.columns import as_column
from loadgen.history.history import History, HistoryWriter, ops_batch, read_history, write_final, write_json
from loadgen.op import Completion, Outcome, Stage
from loadgen.plan import Plan
from loadgen.workload import Refused, Result, Workload
from tests.plans import sale_plan
from tests.stored import load_facts, plan_facts

WORKLOADS = Path(__file__).parents[2] / "workloads"
NAMES = ("append", "register", "bank", "longfork")
MS = 1_000_000
Lie = Callable[[int], str]
"""By op number: ``""`` for the truth, ``lost`` for an acknowledgement of what was rolled back, ``refused`` for an error
told of what was committed."""
State = dict[str, dict[int, list[Any]]]


@cache
def module(name: str) -> Any:
    """A workload file, without Locust."""
    stub = types.ModuleType("loadgen.load")
    stub.SessionUser = object  # type: ignore[attr-defined]
    stub.tag = stub.task = lambda *_: lambda body: body  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location(f"{name}_without_locust", WORKLOADS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, {"loadgen.load": stub}):
        spec.loader.exec_module(made)
    return made


@dataclass
class ProbeRun:
    """One run: completions as they stand, tables as rows by their key."""

    plan: Plan
    numbers: int
    rows: list[Completion] = field(default_factory=list)
    tables: State = field(default_factory=dict)
    lies: int = 0
    """How many lies were told of transactions that write."""

    @property
    def workload(self) -> Workload:
        """The workload."""
        return next(value for value in vars(module(self.plan.workload)).values() if isinstance(value, Workload))

    def write(self, directory: Path) -> Path:
        """Write the run directory, as a run would have."""
        history = directory / "history"
        history.mkdir(parents=True)
        writer = HistoryWriter(
            history, "0", self.workload.invoked_types, {"boot_id": "b", "wall_ns": "1", "monotonic_ns": "1"}
        )
        writer.invoked(self.workload.invoked(self.plan, 0, self.numbers))
        writer.batch(ops_batch(self.rows))
        writer.closed(self.numbers)
        writer.close()
        for table in self.workload.tables(self.plan):
            rows = [(key, *values) for key, values in self.tables[table.name].items()]
            columns = zip(*rows, strict=True) if rows else [()] * len(table.final)
            named = zip(table.final.items(), columns, strict=True)
            write_final(
                history, table.name, {name: as_column(values, kind) for (name, kind), values in named}, table.final
            )
        facts = plan_facts(directory.name)
        names = {"name": self.plan.workload, "kinds": list(self.workload.kinds), "answers": list(self.workload.answers)}
        write_json(directory / "plan.json", {**facts, "plan": self.plan.to_json(), "workload": {**names, "checks": []}})
        write_json(directory / "load.json", load_facts())
        return directory

    def history(self, directory: Path) -> History:
        """The run, written and read back."""
        return read_history(self.write(directory) / "history")


def probe_plan(name: str, **changes: Any) -> Plan:
    """A plan of few keys."""
    weights = (("transfer", 1), ("total", 1)) if name == "bank" else (("transaction", 1),)
    return sale_plan(workload=name, skus=4, duration_s=1.0, kind_weights=weights, **changes)


def play(plan: Plan, seed: int, *, numbers: int = 150, trouble: float = 0.1, lie: Lie = lambda _: "") -> ProbeRun:
    """One run; ``trouble`` is the share of ops that fail or of which nobody knows."""
    random, run = Random(seed), ProbeRun(plan, numbers)
    made = module(plan.workload)
    run.tables = {
        table.name: {row[0]: list(row[1:]) for row in table.rows}
        for table in run.workload.tables(plan)  # type: ignore[misc]
    }
    classes = (value for value in vars(made).values() if isinstance(value, type))
    user = next(each for each in classes if isinstance(vars(each).get("workload"), Workload))()
    user.plan = plan
    clock = 10
    for op in run.workload.ops(plan, run.workload.invoked(plan, 0, numbers)):
        before = {name: {key: list(values) for key, values in rows.items()} for name, rows in run.tables.items()}
        answer, touched, refused = _transact(getattr(user, run.workload.kinds[op.kind])(op), made, run.tables)
        writes = run.tables != before
        said = lie(op.number) if writes else ""
        outcome = random.choices((Outcome.OK, Outcome.FAIL, Outcome.INFO), (1 - trouble, trouble / 2, trouble / 2))[0]
        outcome = {"lost": Outcome.OK, "refused": Outcome.FAIL}.get(said, outcome)
        happened = said == "refused" or (
            not said and (outcome == Outcome.OK or (outcome == Outcome.INFO and random.random() < 0.5))
        )
        if refused or not happened:
            run.tables = before
        run.lies += bool(said)
        told = (answer, touched) if outcome == Outcome.OK else (0, ())
        times = (clock * MS, clock * MS, (clock + 5) * MS)
        stage = Stage.NONE if outcome == Outcome.OK else Stage.COMMIT
        run.rows.append(Completion(op.number, op.kind, 0, *times, int(outcome), told[0], 1, stage, "", told[1]))
        clock += 10
    return run


def _transact(body: Any, made: Any, tables: State) -> tuple[int, tuple[int, ...], bool]:
    result = None
    try:
        while True:
            result = _execute(body.send(result), made, tables)
    except StopIteration as end:
        return end.value.answer, end.value.touched, False
    except Refused as refused:
        return refused.answer, refused.touched, True


def _execute(call: Any, made: Any, tables: State) -> Result:
    statement, values = call
    for index in range(3):
        lists = (getattr(made, each, ()) for each in ("READ_LIST", "READ_LOCKED"))
        if any(statement is each[index] for each in lists if isinstance(each, tuple) and each):
            row = tables[f"append_{index}"].get(values[0])
            return Result(1, [tuple(row)] if row else [], 0)
        if statement in getattr(made, "APPEND", ())[index : index + 1]:
            row = tables[f"append_{index}"].setdefault(values[0], [""])
            row[0] = f"{row[0]},{values[1]}" if row[0] else values[1]
            return Result(1, [], 0)
    name = next(name for name, value in vars(made).items() if value is statement)
    if name == "READ_LOCKED" and "register" in tables:
        name = "READ_REGISTER"
    if name == "READ_REGISTER":
        return Result(1, [tuple(tables["register"][values[0]])], 0)
    if name == "WRITE_REGISTER":
        row = tables["register"][values[1]]
        row[:] = [values[0], row[1] + 1]
        return Result(1, [], row[1])
    if name == "READ_KEY":
        row = tables["longfork"].get(values[0])
        return Result(1, [tuple(row)] if row else [], 0)
    if name == "INSERT_KEY":
        tables["longfork"][values[0]] = [values[1]]
        return Result(1, [], 0)
    row = tables["accounts"][values[0] if name in ("READ_BALANCE", "READ_LOCKED") else values[1]]
    if name in ("READ_BALANCE", "READ_LOCKED"):
        return Result(1, [(row[0],)], 0)
    if name == "TAKE" and row[0] < values[0]:
        return Result(0, [], 0)
    row[:] = [{"WRITE_BACK": values[0], "ADD": row[0] + values[0], "TAKE": row[0] - values[0]}[name], row[1] + 1]
    return Result(1, [], row[1])
