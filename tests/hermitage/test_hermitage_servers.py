"""What the levels of real servers prevent."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadgen.commands.main import main
from loadgen.engines import engine_of
from loadgen.hermitage.cases import CASES
from loadgen.hermitage.command import exit_code
from loadgen.hermitage.matrix import LevelRow, Matrix, measure
from loadgen.hermitage.published import NOT_TESTED
from loadgen.plan import ENGINES

ALL = ["G0", "G1a", "G1b", "G1c", "OTV", "PMP", "P4", "G-single", "G2-item", "G2"]
EXPECTED = {
    ("postgres", "read committed"): "✓ ✓ ✓ ✓ ✓ — — — — —",
    ("postgres", "repeatable read"): "✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ — —",
    ("postgres", "serializable"): "✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓",
    ("mysql", "read uncommitted"): "✓ — — — — — — — — —",
    ("mysql", "read committed"): "✓ ✓ ✓ ✓ ✓ — — — — —",
    ("mysql", "repeatable read"): "✓ ✓ ✓ ✓ ✓ R/O — R/O — —",
    ("mysql", "serializable"): "✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓",
    ("tidb", "read committed"): "✓ ✓ ✓ ✓ ✓ — — — — —",
    ("tidb", "repeatable read"): "✓ ✓ ✓ ✓ ✓ R/O — R/O — —",
    ("tidb", "repeatable read optimistic"): "✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ — —",
    ("oceanbase", "read committed"): "✓ ✓ ✓ ✓ ✓ — — — — —",
    ("oceanbase", "repeatable read"): "✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ — —",
    ("oceanbase", "serializable"): "✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ — —",
}
FOR_UPDATE = {
    ("postgres", "repeatable read"): {"G2": "—", "G2-item": "✓"},
    ("mysql", "repeatable read"): {"G2": "✓", "G2-item": "✓", "P4": "✓", "G-single": "—"},
    ("tidb", "repeatable read"): {"G2": "—", "P4": "✓"},
    ("tidb", "repeatable read optimistic"): {"G2": "—", "G2-item": "✓", "P4": "✓"},
    ("oceanbase", "serializable"): {"G2": "—", "G2-item": "✓"},
}
CODES = {"postgres": "40001", "mysql": "1213", "tidb": "9007", "oceanbase": "6235"}


def _played(engine: str, cluster: Any) -> Matrix:
    dialect = engine_of(engine)
    levels = list(dialect.levels.values())
    return measure(dialect, cluster.address, levels, CASES, run_id="hermitage", say=lambda _: None)


@pytest.mark.server
@pytest.mark.parametrize("engine", ENGINES)
def test_the_matrix_of_a_server_is_what_it_is_known_to_be(engine: str, cluster: Any) -> None:
    """Every cell of every level, those of FOR UPDATE, and no promise of the documents broken."""
    _assert_as_known(_played(engine, cluster))


@pytest.mark.server("oceanbase")
def test_the_command_stores_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One case at one level, with its transcript: write skew commits at OceanBase's SERIALIZABLE."""
    stored = tmp_path / "matrix.json"
    arguments = ["--engine", "oceanbase", "--isolation", "SERIALIZABLE", "--case", "g2-item", "--json", str(stored)]

    code = main(["hermitage", *arguments])

    (level,) = json.loads(stored.read_text())["engines"][0]["levels"]
    assert code == 0
    assert level["cells"]["G2-item"]["mark"] == "—"
    assert level["for_update"]["G2-item"]["mark"] == "✓"
    assert "T2  UPDATE test SET value = 21 WHERE id = 2        1 row" in capsys.readouterr().out
    assert "left in the table: 1 => 11, 2 => 21" in stored.with_suffix(".md").read_text()


def _assert_as_known(matrix: Matrix) -> None:
    assert exit_code([matrix]) == 0
    for row in matrix.rows:
        place = matrix.engine, row.level.name
        assert " ".join(row.cells[name].mark for name in ALL) == EXPECTED[place], place
        assert not [cell.anomaly for cell in row.all_cells if cell.differs and cell.published != NOT_TESTED]
        for anomaly, mark in FOR_UPDATE.get(place, {}).items():
            assert row.for_update[anomaly].mark == mark, (place, anomaly)
        if row.cells["P4"].mark == "✓":
            assert _ended(row, "P4")[2] == CODES[matrix.engine]


def _ended(row: LevelRow, anomaly: str) -> dict[int, str]:
    (play,) = (play for play in row.cells[anomaly].plays if play.case.name == anomaly)
    return dict(play.ended)
