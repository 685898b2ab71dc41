"""The matrix and the transcripts, as Markdown that reads well on a terminal, and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from loadgen.hermitage.case import ANOMALIES, BEGIN, COMMIT, ROLLBACK, Rows
from loadgen.hermitage.matrix import Cell, LevelRow, Matrix
from loadgen.hermitage.play import Event, Play, Verdict, What
from loadgen.hermitage.published import NOT_TESTED, NOTES, PUBLISHED_VERSIONS, UNKNOWN
from loadgen.report.markdown import markdown_table

LEGEND = """\
✓ prevented   — possible   R/O prevented for read-only transactions   ? not decided   · not published   ★ default
≠ differs from the published mark below it   ! happened although the engine documents that it cannot"""


def render(matrices: Sequence[Matrix], *, transcripts: bool, every: bool = False) -> str:
    """The report. ``transcripts`` of what was not prevented; ``every``: of what was, too."""
    parts = ["# Hermitage: what each level prevents", LEGEND]
    for matrix in matrices:
        parts += _engine_part(matrix)
    parts += ["## Differences from what is published", _differences(matrices)]
    if transcripts:
        parts.append("## Transcripts")
        parts += [_transcripts(matrix, every=every) for matrix in matrices]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_json(matrices: Sequence[Matrix], made_utc: str) -> dict[str, Any]:
    """The matrices whole, with every transcript, as plain JSON values."""
    return {
        "made_utc": made_utc,
        "anomalies": list(ANOMALIES),
        "engines": [
            {
                "engine": matrix.engine,
                "title": matrix.title,
                "version": matrix.version,
                "edition": matrix.edition,
                "default_level": matrix.default_level,
                "published_version": PUBLISHED_VERSIONS.get(matrix.engine),
                "levels": [_row_json(row) for row in matrix.rows],
            }
            for matrix in matrices
        ],
    }


def transcript(play: Play) -> str:
    """One play, statement by statement: what was sent, who waited for whom, what was answered, which error."""
    width = max(len(event.sql) for event in play.events)
    lines = [f"T{event.session}  {event.sql.ljust(width)}  {_told(event)}".rstrip() for event in play.events]
    return "\n".join((*lines, f"left in the table: {_rows_text(play.final)}"))


def _engine_part(matrix: Matrix) -> list[str]:
    heading = f"## {matrix.title} {matrix.version} ({matrix.edition})"
    published = PUBLISHED_VERSIONS.get(matrix.engine)
    columns = [name for name in ANOMALIES if any(name in row.cells for row in matrix.rows)]
    lines = []
    for row in matrix.rows:
        star = " ★" if row.level.name == matrix.default_level else ""
        lines.append([row.level.name + star, row.level.means, *(_mark(row.cells[name]) for name in columns)])
        if published:
            lines.append([f"  {matrix.title} {published}", "published", *(row.cells[n].published for n in columns)])
    parts = [heading]
    if columns:
        parts.append(markdown_table(["level", "documented as", *columns], lines, aligned=True))
    locking = [name for name in ANOMALIES if any(name in row.for_update for row in matrix.rows)]
    if locking:
        lines = [[row.level.name, *(_mark(row.for_update[name]) for name in locking)] for row in matrix.rows]
        parts.append(markdown_table(["with FOR UPDATE", *locking], lines, aligned=True))
    parts.append("\n".join(f"- {note}" for note in NOTES.get(matrix.engine, ())))
    return parts


def _mark(cell: Cell) -> str:
    return cell.mark + (" ≠" if cell.differs else "") + (" !" if cell.broken else "")


def _differences(matrices: Sequence[Matrix]) -> str:
    compared = {False: 0, True: 0}
    lines = []
    for matrix in matrices:
        for row in matrix.rows:
            for cell in row.all_cells:
                if cell.published != NOT_TESTED and cell.mark != UNKNOWN:
                    compared[cell.differs] += 1
                where = f"{matrix.title} {matrix.version}, {row.level.name}, {cell.anomaly}"
                if cell.differs:
                    published = f"{cell.published} for {PUBLISHED_VERSIONS[matrix.engine]}"
                    lines.append(f"- {where}: {cell.mark}, published {published}; {_why(cell)}")
                if cell.broken:
                    lines.append(f"- {where}: happened, although {row.level.means} forbids it; {_why(cell)}")
                if cell.mark == UNKNOWN:
                    lines.append(f"- {where}: could not be decided; {_why(cell)}")
    told = f"{sum(compared.values())} published cells were compared: {compared[False]} agree, {compared[True]} differ."
    return "\n".join((told, *lines))


def _why(cell: Cell) -> str:
    return "; ".join(f"{play.case.name}: {play.verdict.value}, {_ends(play)}" for play in cell.plays)


def _ends(play: Play) -> str:
    return ", ".join(f"T{number} {how}" for number, how in play.ended.items())


def _transcripts(matrix: Matrix, *, every: bool) -> str:
    parts = []
    for row in matrix.rows:
        for cell in row.all_cells:
            for play in cell.plays:
                if every or play.verdict is not Verdict.PREVENTED:
                    heading = f"### {matrix.title} {matrix.version}, {row.level.name}, {play.case.name}"
                    what = f"{play.verdict.value}: {play.case.title}"
                    parts.append(f"{heading}\n\n{what}\n\n```\n{transcript(play)}\n```")
    return "\n\n".join(parts)


def _told(event: Event) -> str:
    after = "after its wait: " if event.waited else ""
    if event.what is What.WAITS:
        others = " and ".join(f"T{number}" for number in event.waits_for)
        return f"waits for {others}" if others else "waits (the server does not say for whom)"
    if event.what is What.KEPT:
        return "kept until the session is answered"
    if event.what is What.SKIPPED:
        return "not sent: the transaction is over"
    if event.failure is not None:
        failure = event.failure
        return f"{after}error {failure.code} ({failure.error_class}) {failure.sample}; rolled back".replace("  ", " ")
    if event.rows is not None:
        return after + _rows_text(event.rows)
    if event.sql in (BEGIN, COMMIT, ROLLBACK):
        return (after + "done") if event.waited or event.sql != BEGIN else ""
    return f"{after}{event.row_count} row{'' if event.row_count == 1 else 's'}"


def _rows_text(rows: Rows) -> str:
    return ", ".join(f"{key} => {value}" for key, value in sorted(rows.items())) or "no row"


def _row_json(row: LevelRow) -> dict[str, Any]:
    return {
        "level": row.level.name,
        "means": row.level.means,
        "cells": {name: _cell_json(cell) for name, cell in row.cells.items()},
        "for_update": {name: _cell_json(cell) for name, cell in row.for_update.items()},
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "mark": cell.mark,
        "published": None if cell.published == NOT_TESTED else cell.published,
        "differs": cell.differs,
        "forbidden": cell.forbidden,
        "broken": cell.broken,
        "cases": [_play_json(play) for play in cell.plays],
    }


def _play_json(play: Play) -> dict[str, Any]:
    return {
        "case": play.case.name,
        "title": play.case.title,
        "verdict": play.verdict.value,
        "ended": {f"T{number}": how for number, how in play.ended.items()},
        "final": _rows_json(play.final),
        "transcript": [_event_json(event) for event in play.events],
    }


def _event_json(event: Event) -> dict[str, Any]:
    told: dict[str, Any] = {"session": f"T{event.session}", "sql": event.sql, "what": event.what.value}
    if event.what is What.WAITS:
        told["waits_for"] = [f"T{number}" for number in event.waits_for] or None
    if event.what in (What.ANSWERED, What.FAILED):
        told["waited"] = event.waited
    if event.rows is not None:
        told["rows"] = _rows_json(event.rows)
    elif event.what is What.ANSWERED and event.sql not in (BEGIN, COMMIT, ROLLBACK):
        told["row_count"] = event.row_count
    if event.failure is not None:
        failure = event.failure
        told["error"] = {"code": failure.code, "class": failure.error_class, "sample": failure.sample}
    return told


def _rows_json(rows: Rows) -> Mapping[str, int]:
    return {str(key): value for key, value in sorted(rows.items())}
