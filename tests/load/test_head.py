"""What a head writes: each row once, and a last word only of a process all of whose rows are here."""

from pathlib import Path
from typing import Any

import pytest

from loadgen.clock import clock_origin
from loadgen.history.history import HistoryWriter, ops_batch, read_history
from loadgen.load.run_controller import RunController, _Process, _told
from tests.load.fake_engine import sale_plan
from tests.load.test_live import row
from workloads.flashsale import SALE


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunController:
    """A head without a conductor's process, with one load process that was handed 100 numbers."""
    monkeypatch.setattr("loadgen.load.run_controller.ConductorProcess", lambda _say: None)
    made = RunController(sale_plan(), SALE, None, lambda _: None)
    writer = HistoryWriter(tmp_path, "0", SALE.invoked_types, {"host": clock_origin().host})
    writer.invoked(SALE.invoked(made.plan, 0, 100))
    made._processes["0"] = _Process(writer)
    return made


def give(controller: RunController, first: int, count: int) -> None:
    """A batch whose first row is the ``first`` that the process made."""
    batch = ops_batch([row(number) for number in range(first, first + count)])
    controller.record("0", batch, first=first, in_flight=0, queued=0)


def close(controller: RunController, made: int) -> dict[str, Any]:
    """The process's last word, and what load.json says of it."""
    facts = {"orderly": True, "made": made, "next_number": 100, "unnumbered": 0, "warnings": [], "reason": ""}
    controller.closed("0", facts)
    controller._processes["0"].writer.close()
    return _told(controller._processes["0"])


def test_what_comes_a_second_time_is_written_once(controller: RunController, tmp_path: Path) -> None:
    """A process that got no answer gives its batch again."""
    for first, count in ((0, 5), (0, 5), (5, 5), (5, 5), (0, 5)):
        give(controller, first, count)
    told = close(controller, made=10)
    (process,) = read_history(tmp_path).processes

    assert process.ops["number"].tolist() == list(range(10)) and process.closed_at == 100
    assert (told["made"], told["written"]) == (10, 10)


@pytest.mark.parametrize("given", [[(0, 5), (10, 5)], [(5, 10)], [(0, 5)], []], ids=["gap", "first", "last", "all"])
def test_a_process_whose_rows_did_not_all_come_has_no_last_word(
    controller: RunController, tmp_path: Path, given: list[tuple[int, int]]
) -> None:
    """The closing record has both counts."""
    for first, count in given:
        give(controller, first, count)
    told = close(controller, made=15)
    (process,) = read_history(tmp_path).processes

    assert process.closed_at is None
    assert (told["made"], told["written"]) == (15, sum(count for _, count in given))
    assert not controller._processes["0"].closed["orderly"]  # type: ignore[index]
