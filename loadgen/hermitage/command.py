"""The command ``loadgen hermitage``."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loadgen.dsn import given_dsn
from loadgen.engines.identity import ALLOW
from loadgen.errors import ClusterError, PlanError
from loadgen.history.run_directory import RUNS, store_matrix, utc_text
from loadgen.plan import ENGINES, Plan, engines_asked, parse_isolation

if TYPE_CHECKING:
    from loadgen.hermitage.case import Case
    from loadgen.hermitage.matrix import Matrix

EXIT_BROKEN, EXIT_UNKNOWN = 4, 5
DESCRIPTION = "Play the Hermitage cases on each engine: what each isolation level really prevents."
EPILOG = """\
Each case is a script of two or three interleaved transactions on the table "test" in the schema or database "loadgen".
The matrix is printed beside the one that Hermitage published, and cells that differ are marked. It is stored as JSON,
with every transcript, and as Markdown.

exit codes:
  0  all cases played    4  an anomaly happened that the engine documents as impossible at that level
  2  cannot be played    5  a cell could not be decided
If both apply, 4 is returned.

examples:
  loadgen hermitage                                                     every engine that can be started here
  loadgen hermitage --engine oceanbase --isolation serializable --case G2-item
  loadgen hermitage --engine mysql --dsn mysql://root@127.0.0.1:3306/ --transcript
"""


def add_hermitage_arguments(sub: argparse.ArgumentParser) -> None:
    """Fill the parser of the command."""
    sub.description, sub.epilog = DESCRIPTION, EPILOG
    sub.formatter_class = argparse.RawDescriptionHelpFormatter
    sub.add_argument("--engine", action="append", choices=ENGINES, help="an engine; may be repeated (default: all)")
    sub.add_argument("--dsn", default="", help="an existing server (default: LOADGEN_DSN; without it, one is started)")
    sub.add_argument(
        "--isolation", default="", metavar="LEVEL", help="only this level (default: all levels of the engine)"
    )
    sub.add_argument(ALLOW, action="store_true", help="also play on an untried fork of the engine, and mark the result")
    sub.add_argument(
        "--case",
        action="append",
        metavar="CASE",
        help="only this anomaly or case, with its transcript; may be repeated",
    )
    sub.add_argument(
        "--json", type=Path, metavar="FILE", help="where to store the result (default: runs/<utc>-hermitage.json)"
    )
    sub.add_argument("--transcript", action="store_true", help="show the statements that led to each anomaly")
    sub.set_defaults(command=hermitage)


def hermitage(options: argparse.Namespace) -> int:
    """Play the cases, print the matrix and store it; the exit code. Raises PlanError and ClusterError."""
    from loadgen.hermitage.report import render, to_json

    isolation = parse_isolation(options.isolation)
    cases = chosen_cases(options.case or ())
    dsn = given_dsn(options.dsn, os.environ)
    engines = engines_asked(options.engine, dsn, os.environ)
    wall_s = time.time()
    matrices: list[Matrix] = []
    for name in dict.fromkeys(engines):
        try:
            matrices.append(_matrix(name, dsn, isolation, cases, wall_s, forks=options.allow_unknown_engine))
        except (PlanError, ClusterError) as error:
            if options.engine or dsn:
                raise
            _say(f"{name} is left out: {error}")
    if not matrices:
        raise ClusterError("no engine can be started here: name a server with --engine and --dsn")
    one_case = bool(options.case)
    sys.stdout.write(render(matrices, transcripts=options.transcript or one_case, every=one_case))
    path = options.json or RUNS / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(wall_s))}-hermitage.json"
    store_matrix(path, to_json(matrices, utc_text(wall_s)), render(matrices, transcripts=True))
    _say(f"stored in {path} and {path.with_suffix('.md').name}")
    return exit_code(matrices)


def chosen_cases(names: Sequence[str]) -> "tuple[Case, ...]":
    """The cases called ``names``, or of the anomalies called so, whatever their upper case; all where there is none.

    Raises PlanError for a name that no case has.
    """
    from loadgen.hermitage.case import ANOMALIES
    from loadgen.hermitage.cases import CASES

    chosen: dict[str, Case] = {}
    for name in names:
        found = [case for case in CASES if name.lower() in (case.name.lower(), case.anomaly.lower())]
        if not found:
            raise PlanError(f"--case {name!r} is none of {', '.join(ANOMALIES)}, or of their variants")
        chosen |= {case.name: case for case in found}
    return tuple(case for case in CASES if case.name in chosen) if names else CASES


def exit_code(matrices: "Sequence[Matrix]") -> int:
    """4 if a documented promise was broken, 5 if a cell could not be decided, else 0."""
    from loadgen.hermitage.published import UNKNOWN

    cells = [cell for matrix in matrices for row in matrix.rows for cell in row.all_cells]
    if any(cell.broken for cell in cells):
        return EXIT_BROKEN
    return EXIT_UNKNOWN if any(cell.mark == UNKNOWN for cell in cells) else 0


def _matrix(name: str, dsn: str, isolation: str, cases: "Sequence[Case]", wall_s: float, *, forks: bool) -> "Matrix":
    from loadgen import clusters
    from loadgen.clusters.cluster import Place
    from loadgen.engines import engine_of
    from loadgen.engines.engine import level_of
    from loadgen.hermitage.matrix import measure

    engine = engine_of(name)
    levels = [level_of(engine, isolation)] if isolation else list(engine.levels.values())
    plan = Plan(engine=name, cluster="existing" if dsn else "embedded", dsn=dsn, allow_unknown_engine=forks)
    with tempfile.TemporaryDirectory(prefix="loadgen-hermitage-") as logs:
        cluster = clusters.start(plan, Place(logs=Path(logs), say=_say))
        try:
            run_id = f"hermitage-{int(wall_s)}"
            return measure(engine, cluster.address, levels, cases, run_id, _say, forks=forks)
        finally:
            cluster.stop(keep=False)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
