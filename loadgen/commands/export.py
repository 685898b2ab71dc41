"""The transactions of a run as Elle's operation maps, EDN or JSON, one for each line, for Elle itself.

A list read is written whole. Versioned registers become plain ones: the version is the value, and an unknown version is
left out, as in Elle.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from loadgen.errors import StoreError
from loadgen.formats.edn import Keyword
from loadgen.isolation.transactions import ALWAYS, INITIAL, NEVER, UNKNOWN, WRITE, HistoryKind, Transactions
from loadgen.judge.stored_run import open_run
from loadgen.op import Outcome
from loadgen.probes.transactions import bank_reads, transactions_of
from loadgen.untrusted import one_line

STYLES = ("elle-json", "elle-edn")
TABLES = ("parquet", "csv")
_TYPES = {Outcome.OK: "ok", Outcome.FAIL: "fail", Outcome.INFO: "info"}


def export(txns: Transactions, style: str, out: TextIO) -> int:
    """Write ``txns`` as ``elle-edn`` or ``elle-json``, one operation a line; returns how many operations.

    Raises KeyError for another style.
    """
    styles: dict[str, Callable[[Mapping[str, Any]], str]] = {"elle-edn": to_edn, "elle-json": json.dumps}
    told = styles[style]
    count = 0
    for op in operations(txns):
        out.write(told(op) + "\n")
        count += 1
    return count


def export_run(run_dir: Path, style: str, out: TextIO) -> int:
    """Write a run's transactions, or the reads of its bank; returns how many operations. Raises StoreError."""
    run = open_run(run_dir)
    workload, plan, history = run.workload, run.plan, run.history
    if doubt := run.doubt:
        # Whoever judges what is exported has to know that something may be missing.
        sys.stderr.write(f"loadgen: the history is not whole: {one_line(doubt)}\n")
    if workload == "bank" and style != "elle-json":
        raise StoreError("the bank's reads are maps of balances: export them as elle-json")
    try:
        txns = transactions_of(workload, plan, history) if workload != "bank" else None
        reads = bank_reads(history) if txns is None else []
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        raise StoreError(f"{run_dir} holds data that no run wrote: {type(error).__name__}: {error}") from error
    if txns is not None:
        return export(txns, style, out)
    for place, read in enumerate(reads):
        for done, kind, value in ((0, "invoke", None), (1, "ok", read.seen)):
            op = {"index": 2 * place + done, "process": place, "type": kind, "f": "read", "value": value}
            out.write(json.dumps(op) + "\n")
    return 2 * len(reads)


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Fill the parser of ``loadgen export``."""
    parser.description = (
        "Write the history of a run as Elle's operation maps, for Elle or another checker. Or write its tables (ops, "
        "tries, invoked, seconds, faults, and the database tables at the end) as files for pandas, DuckDB or a "
        "spreadsheet."
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory")
    parser.add_argument(
        "--format",
        choices=(*STYLES, *TABLES),
        default=STYLES[0],
        help="operation maps as JSON or EDN, one for each line, or one file for each table (default: elle-json)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="for operation maps: a new file (default: standard output); for tables: a directory (default: RUN-FORMAT)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> int:
    if options.format in TABLES:
        from loadgen.commands.export_tables import export_tables

        directory = options.output or Path(f"{options.run.resolve().name}-{options.format}")
        return export_tables(options.run, options.format, directory, overwrite=options.overwrite)
    if options.output is None:
        export_run(options.run, options.format, sys.stdout)
        return 0
    try:
        with options.output.open("w" if options.overwrite else "x") as out:
            count = export_run(options.run, options.format, out)
    except OSError as error:
        raise StoreError(f"cannot write {options.output}: {error.strerror or error}") from error
    sys.stderr.write(f"{count} operations in {options.output}\n")
    return 0


def operations(txns: Transactions) -> Iterator[dict[str, Any]]:
    """Invocations and completions in the order of their times. Without times, each transaction is complete before the
    next."""
    events: list[tuple[int, int, int]] = []
    for txn in range(txns.count):
        if txns.outcome[txn] == Outcome.SKIPPED:
            continue  # It was never sent.
        if not txns.timed or txns.invoked[txn] == ALWAYS:
            # A completion alone: an invocation would claim to know when it began.
            events.append((int(txns.completed[txn]) if txns.timed else 0, txn, 1))
            continue
        events.append((int(txns.invoked[txn]), txn, 0))
        if txns.completed[txn] != NEVER:
            events.append((int(txns.completed[txn]), txn, 1))
        elif txns.outcome[txn] != Outcome.FAIL:
            events.append((NEVER, txn, 1))
    # At one time what begins comes first: what is concurrent must stay so.
    if txns.timed:
        events.sort(key=lambda event: (event[0], event[2]))
    alone = int(txns.session.max(initial=-1)) + 1
    for index, (at, txn, done) in enumerate(events):
        outcome = Outcome(int(txns.outcome[txn]))
        yield {
            "index": index,
            "type": _TYPES[outcome] if done else "invoke",
            # Whose session is not known has a process of its own.
            "process": int(txns.session[txn]) if txns.session[txn] >= 0 else alone + txn,
            "time": at if at != NEVER else index,
            "f": "txn",
            "value": _value(txns, txn, bool(done) and outcome == Outcome.OK),
        }


def _value(txns: Transactions, txn: int, answered: bool) -> list[list[Any]]:
    made: list[list[Any]] = []
    for mop in range(int(txns.start[txn]), int(txns.start[txn + 1])):
        key = txns.export_key(int(txns.key[mop]))
        value = int(txns.value[mop])
        if txns.act[mop] == WRITE:
            if value != UNKNOWN:
                made.append(["append" if txns.kind == HistoryKind.LIST_APPEND else "w", key, txns.export_value(value)])
        elif not answered or value == UNKNOWN:
            made.append(["r", key, None])
        elif txns.kind == HistoryKind.LIST_APPEND:
            made.append(["r", key, [txns.export_value(element) for element in txns.list_read(mop)]])
        elif txns.kind == HistoryKind.VERSIONED:
            made.append(["r", key, value if value > 0 else None])
        else:
            made.append(["r", key, None if value == INITIAL else txns.export_value(value)])
    return made


def to_edn(value: Any) -> str:
    """One value as EDN; an operation's keys, type, f and micro-operations' names become keywords."""
    if isinstance(value, Mapping) and "type" in value and "value" in value:
        mops = " ".join(f"[:{verb} {to_edn(key)} {to_edn(each)}]" for verb, key, each in value["value"])
        rest = ", ".join(f":{name} {value[name]}" for name in ("index", "process", "time"))
        return f"{{{rest}, :type :{value['type']}, :f :{value['f']}, :value [{mops}]}}"
    if value is None or isinstance(value, bool):
        return {None: "nil", True: "true", False: "false"}[value]
    if isinstance(value, Keyword):
        return f":{value}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{' '.join(map(to_edn, value))}]"
    return repr(value)
