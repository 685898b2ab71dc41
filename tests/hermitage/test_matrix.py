"""A cell's mark comes from its cases; what differs from the published table, or from the documents, is marked."""

import json

import pytest

from loadgen.engines.engine import Level
from loadgen.errors import PlanError
from loadgen.hermitage.case import Case
from loadgen.hermitage.cases import CASES
from loadgen.hermitage.command import chosen_cases, exit_code
from loadgen.hermitage.matrix import Matrix, mark_of, row_of
from loadgen.hermitage.play import Play, Verdict
from loadgen.hermitage.report import render, to_json

BY_NAME = {one.name: one for one in CASES}
SERIALIZABLE = Level("serializable", "serializable", "")
SNAPSHOT = Level("repeatable read", "snapshot-isolation", "")


def _play(one: Case, verdict: Verdict = Verdict.PREVENTED) -> Play:
    return Play(one, verdict, dict.fromkeys(one.sessions, "committed"), {1: 10}, ())


def _matrix(level: Level, happened: dict[str, Verdict], cases: tuple[Case, ...] = CASES) -> Matrix:
    plays = [_play(one, happened.get(one.name, Verdict.PREVENTED)) for one in cases]
    return Matrix("postgres", "PostgreSQL", "18", "postgresql", "read committed", (row_of("postgres", level, plays),))


@pytest.mark.parametrize(
    ("happened", "mark"),
    [
        ({}, "✓"),
        ({"PMP": Verdict.HAPPENED}, "—"),
        ({"PMP write predicate": Verdict.HAPPENED}, "R/O"),
        ({"PMP": Verdict.HAPPENED, "PMP write predicate": Verdict.HAPPENED}, "—"),
        ({"PMP": Verdict.UNKNOWN}, "?"),
        ({"PMP": Verdict.UNKNOWN, "PMP write predicate": Verdict.HAPPENED}, "?"),
        ({"PMP": Verdict.HAPPENED, "PMP write predicate": Verdict.UNKNOWN}, "—"),
    ],
)
def test_a_mark_comes_from_all_cases_of_its_anomaly(happened: dict[str, Verdict], mark: str) -> None:
    """Plain reads decide; R/O is for those that only a write's predicate breaks; unknown hides nothing."""
    plays = [_play(BY_NAME[name], happened.get(name, Verdict.PREVENTED)) for name in ("PMP", "PMP write predicate")]

    assert mark_of(plays) == mark


def test_what_agrees_with_the_published_table_is_not_marked() -> None:
    """PostgreSQL at serializable, all prevented."""
    matrix = _matrix(SERIALIZABLE, {})

    assert "10 published cells were compared: 10 agree, 0 differ." in render([matrix], transcripts=False)
    assert exit_code([matrix]) == 0


def test_an_anomaly_that_the_documents_forbid_is_marked_and_gives_exit_code_4() -> None:
    """G2-item at serializable is both another mark than published and a broken promise."""
    matrix = _matrix(SERIALIZABLE, {"G2-item": Verdict.HAPPENED, "G0": Verdict.UNKNOWN})

    text = render([matrix], transcripts=False)

    assert "— ≠ !" in text
    assert "PostgreSQL 18, serializable, G2-item: —, published ✓ for 9.3.5; G2-item: happened" in text
    assert exit_code([matrix]) == 4


def test_an_anomaly_that_the_documents_allow_breaks_nothing() -> None:
    """Write skew under snapshot isolation, and a stronger mark than the published one, are reported only."""
    matrix = _matrix(SNAPSHOT, {"G2-item": Verdict.HAPPENED})

    assert exit_code([matrix]) == 0
    assert "PostgreSQL 18, repeatable read, G2: ✓, published — for 9.3.5" in render([matrix], transcripts=False)


def test_a_case_with_for_update_counts_in_its_own_table() -> None:
    """It has no published mark, and changes none of the other table."""
    row = _matrix(SNAPSHOT, {"G2 for update": Verdict.HAPPENED}).rows[0]

    assert (row.cells["G2"].mark, row.for_update["G2"].mark) == ("✓", "—")
    assert not row.for_update["G2"].differs


def test_a_part_of_a_cell_is_not_compared() -> None:
    """One case of several says less than the published mark."""
    one = (BY_NAME["G-single write predicate"],)

    assert _matrix(SNAPSHOT, {}, one).rows[0].cells["G-single"].published == "·"


def test_a_cell_that_could_not_be_told_gives_exit_code_5() -> None:
    """Unknown is not valid."""
    assert exit_code([_matrix(SERIALIZABLE, {"P4": Verdict.UNKNOWN})]) == 5


def test_the_json_holds_every_cell_and_case() -> None:
    """What is stored can be read back, and nothing is left out."""
    stored = json.loads(json.dumps(to_json([_matrix(SNAPSHOT, {})], "2025-01-01T00:00:00.000Z")))

    (level,) = stored["engines"][0]["levels"]
    played = [
        play["case"] for table in ("cells", "for_update") for cell in level[table].values() for play in cell["cases"]
    ]
    assert sorted(played) == sorted(BY_NAME)
    assert level["cells"]["G2"] == level["cells"]["G2"] | {"mark": "✓", "published": "—", "differs": True}


def test_cases_are_chosen_by_anomaly_or_by_name() -> None:
    """Whatever their upper case; none chooses all."""
    assert [one.name for one in chosen_cases(["g2-ITEM"])] == ["G2-item", "G2-item for update"]
    assert [one.name for one in chosen_cases(["P4 for update"])] == ["P4 for update"]
    assert chosen_cases([]) == CASES
    with pytest.raises(PlanError, match="'G7' is none of"):
        chosen_cases(["G7"])
