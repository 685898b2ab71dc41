"""The matrix: what each level of an engine prevented, beside what is published and what it documents."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from loadgen.engines.engine import Address, Engine, Level
from loadgen.engines.heartbeat import Heartbeat
from loadgen.engines.identity import refuse_unknown
from loadgen.errors import ClusterError
from loadgen.hermitage.case import ANOMALIES, TABLES, Case, ReadKind
from loadgen.hermitage.cases import CASES
from loadgen.hermitage.play import Play, Verdict
from loadgen.hermitage.players import Players
from loadgen.hermitage.published import (
    FORBIDDEN,
    NOT_TESTED,
    POSSIBLE,
    PREVENTED,
    PUBLISHED,
    READ_ONLY,
    UNKNOWN,
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One anomaly at one level. ``published`` is NOT_TESTED if no mark is published."""

    anomaly: str
    mark: str
    published: str
    forbidden: bool
    """Whether the engine documents a model for this level that forbids the anomaly."""
    plays: tuple[Play, ...]

    @property
    def differs(self) -> bool:
        """Whether another mark is published."""
        return self.published not in (NOT_TESTED, self.mark) and self.mark != UNKNOWN

    @property
    def broken(self) -> bool:
        """Whether the anomaly happened where the engine documents that it can't."""
        return self.forbidden and self.mark in (POSSIBLE, READ_ONLY)


@dataclass(frozen=True, slots=True)
class LevelRow:
    """One level: the cells of Hermitage's table, and those of the variants with FOR UPDATE, by anomaly."""

    level: Level
    cells: Mapping[str, Cell]
    for_update: Mapping[str, Cell]

    @property
    def all_cells(self) -> tuple[Cell, ...]:
        """The cells of both tables."""
        return (*self.cells.values(), *self.for_update.values())


Row = LevelRow
"""Its name in earlier versions."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """One engine's rows, and which server they are of."""

    engine: str
    title: str
    version: str
    edition: str
    default_level: str
    rows: tuple[LevelRow, ...]


def measure(
    engine: Engine,
    address: Address,
    levels: Sequence[Level],
    cases: Sequence[Case],
    run_id: str,
    say: Callable[[str], None],
    *,
    forks: bool = False,
) -> Matrix:
    """Play ``cases`` at ``levels`` on the server at ``address``; ``forks``: on one that is not the engine itself too.

    Raises ClusterError if it can't be used.
    """
    control = engine.control(address, run_id)
    heartbeat: Heartbeat | None = None
    try:
        facts = control.facts()
        refuse_unknown(facts, engine.title, allowed=forks)
        control.lock()
        heartbeat = Heartbeat(lambda: engine.control(address, run_id), say)
        control.prepare(TABLES)
        rows = []
        for level in levels:
            say(f"{engine.title} {facts['version']}, {level.name}: {len(cases)} cases")
            rows.append(row_of(engine.name, level, asyncio.run(_played(engine, address, level, cases, run_id))))
    finally:
        if heartbeat is not None:
            heartbeat.stop()
            with suppress(ClusterError):
                control.unlock()
        control.close()
    if heartbeat.lost:
        raise ClusterError(heartbeat.lost)
    title = f"{facts['fork']} (as {engine.title}: never tried)" if facts.get("fork") else engine.title
    version, edition = str(facts["version"]), str(facts["edition"])
    return Matrix(engine.name, title, version, edition, engine.default_level, tuple(rows))


def row_of(engine: str, level: Level, plays: Sequence[Play]) -> LevelRow:
    """The row of a level from its plays."""
    published = PUBLISHED.get((engine, level.name), {})
    tables: tuple[dict[str, Cell], dict[str, Cell]] = ({}, {})
    for table, locking in zip(tables, (False, True), strict=True):
        for anomaly in ANOMALIES:
            found = tuple(
                play
                for play in plays
                if play.case.anomaly == anomaly and (play.case.kind is ReadKind.LOCKING) == locking
            )
            if found:
                # A part of a cell's cases is not the published cell.
                whole = not locking and {play.case for play in found} == _cases_of(anomaly)
                known = published.get(anomaly, NOT_TESTED) if whole else NOT_TESTED
                forbidden = anomaly in FORBIDDEN.get(level.means, frozenset())
                table[anomaly] = Cell(anomaly, mark_of(found), known, forbidden, found)
    return LevelRow(level, *tables)


def mark_of(plays: Sequence[Play]) -> str:
    """The mark of a cell: possible if any case of plain reads showed it, R/O if only a write's predicate did."""
    happened = {play.case.kind for play in plays if play.verdict is Verdict.HAPPENED}
    if happened & {ReadKind.READ, ReadKind.LOCKING}:
        return POSSIBLE
    if any(play.verdict is Verdict.UNKNOWN for play in plays):
        return UNKNOWN
    if happened:
        only_write = all(play.case.kind is ReadKind.WRITE for play in plays)
        return POSSIBLE if only_write else READ_ONLY
    return PREVENTED


def _cases_of(anomaly: str) -> set[Case]:
    return {case for case in CASES if case.anomaly == anomaly and case.kind is not ReadKind.LOCKING}


async def _played(engine: Engine, address: Address, level: Level, cases: Sequence[Case], run_id: str) -> list[Play]:
    async with Players(engine, address, level, run_id) as players:
        return [await players.play(case) for case in cases]
