"""A run's history as Elle's operation maps, so that anyone can put it before Elle itself.

Two maps an op: its invocation and its completion, in the order of the clock, with ``index``, ``time`` (nanoseconds),
``process``, ``type``, ``f`` and ``value``. Transactions are ``[["append" k v] ["r" k [..]]]`` or, of registers,
``[["w" k v] ["r" k v]]``; the sale's stock rows and versioned registers are registers whose values are their versions.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from loadgen.checks.transactions import ALWAYS, INITIAL, NEVER, READ, UNKNOWN, Kind, Transactions
from loadgen.errors import StoreError
from loadgen.interchange.runs import bank_reads, read_run, transactions_of
from loadgen.op import Outcome

FORMATS = ("elle-json", "elle-edn")
_TYPES = {Outcome.OK: "ok", Outcome.FAIL: "fail", Outcome.INFO: "info"}


def export_run(run_dir: Path, form: str, out: TextIO) -> int:
    """Write the run's operations to ``out``, one a line; how many. Raises StoreError."""
    workload, plan, history = read_run(run_dir)
    if workload == "bank":
        events = _bank_events([(read.label, read.seen, read.invoked) for read in bank_reads(history)])
    else:
        events = _transaction_events(transactions_of(workload, plan, history))
    write = _WRITERS[form]
    count = 0
    for index, event in enumerate(events):
        out.write(write({"index": index, **event}) + "\n")
        count += 1
    return count


def _transaction_events(txns: Transactions) -> Iterator[Mapping[str, Any]]:
    events: list[tuple[int, int, dict[str, Any]]] = []
    timed = [int(each) for each in txns.invoked if each != ALWAYS]
    first = min(timed, default=0)
    for txn in range(len(txns.label)):
        outcome = Outcome(int(txns.outcome[txn]))
        asked, answered = _values(txns, txn, told=False), _values(txns, txn, told=outcome == Outcome.OK)
        invoked, completed = int(txns.invoked[txn]), int(txns.completed[txn])
        # An op whose session or start nobody knows stands alone: a process of its own, invoked before all others.
        session = int(txns.session[txn])
        process = session if session >= 0 else -2 - int(txns.label[txn])
        begin = first if invoked == ALWAYS else invoked
        base = {"process": abs(process) if process >= 0 else 10**9 - process, "f": "txn"}
        events.append((begin, 0, {"type": "invoke", **base, "value": asked, "time": begin - first}))
        if completed != NEVER:
            end = {"type": _TYPES[outcome], **base, "value": answered, "time": completed - first}
            events.append((completed, 1, end))
    # At one instant an invocation stands before a completion: equal times are concurrent.
    return (event for _, _, event in sorted(events, key=lambda event: event[:2]))


def _values(txns: Transactions, txn: int, *, told: bool) -> list[list[Any]]:
    values: list[list[Any]] = []
    lists = txns.kind == Kind.LIST_APPEND
    for mop in range(int(txns.start[txn]), int(txns.start[txn + 1])):
        key = txns.export_key(int(txns.key[mop]))
        value = int(txns.value[mop])
        if txns.act[mop] == READ:
            seen = _list(txns, mop) if lists else None if value in (INITIAL, UNKNOWN) else txns.export_value(value)
            values.append(["r", key, seen if told else None])
        elif value != UNKNOWN:
            values.append(["append" if lists else "w", key, txns.export_value(value)])
    return values


def _list(txns: Transactions, mop: int) -> list[Any] | None:
    if int(txns.value[mop]) == UNKNOWN:
        return None
    odd = txns.odd.get(mop)
    begin = int(txns.element_start[int(txns.key[mop])])
    elements = odd if odd is not None else txns.elements[begin : begin + int(txns.length[mop])].tolist()
    return [txns.export_value(int(each)) for each in elements]


def _bank_events(reads: Iterable[tuple[int, Any, int]]) -> Iterator[Mapping[str, Any]]:
    for label, seen, _ in reads:
        yield {"type": "invoke", "process": label, "f": "read", "value": None}
        yield {"type": "ok", "process": label, "f": "read", "value": seen}


def _edn(value: Any) -> str:
    if value is None:
        return "nil"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} {_edn_of(str(key), each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + " ".join(_micro_op(each) for each in value) + "]"
    return json.dumps(value)


def _key(key: Any) -> str:
    return f":{key}" if isinstance(key, str) else str(key)


def _edn_of(name: str, value: Any) -> str:
    return f":{value}" if name in ("type", "f") else _edn(value)


def _micro_op(value: Any) -> str:
    if isinstance(value, list) and value and value[0] in ("r", "w", "append"):
        return f"[:{value[0]} " + " ".join(map(_edn, value[1:])) + "]"
    return _edn(value)


_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {"elle-json": json.dumps, "elle-edn": _edn}


def add_export_arguments(parser: Any) -> None:
    """Fill the parser of ``loadgen export``."""
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="operation maps as JSON lines or EDN")
    parser.add_argument("-o", "--output", type=Path, help="write to this file (default: standard output)")
    parser.set_defaults(command=_export)


def _export(options: Any) -> int:
    import sys

    if options.output is None:
        export_run(options.run, options.format, sys.stdout)
        return 0
    try:
        with options.output.open("x") as out:
            count = export_run(options.run, options.format, out)
    except OSError as error:
        raise StoreError(f"cannot write {options.output}: {error.strerror or error}") from error
    sys.stderr.write(f"{count} operations in {options.output}\n")
    return 0
