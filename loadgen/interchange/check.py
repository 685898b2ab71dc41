"""``loadgen check FILE…``: judge histories from files, and say so for a person or as JSON, one line a file.

Exit codes: 0 valid, 4 invalid, 5 unknown, 2 unreadable; the worst of all files counts (2, then 4, then 5). With the
model ``all`` it is 0 for every file that could be read.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from loadgen.checks.anomaly import Anomalies
from loadgen.checks.isolation import TIME_LIMIT_S, judge
from loadgen.checks.jepsen import FORBIDDEN_BY, Adding, Reading, check_bank, check_long_fork, check_set
from loadgen.checks.judgement import Answer, Judgement
from loadgen.checks.models import MODELS, find_model
from loadgen.checks.observed import observe, unfit
from loadgen.checks.transactions import WRITE
from loadgen.errors import PlanError, StoreError
from loadgen.interchange.edn import freeze
from loadgen.interchange.files import Loaded, load
from loadgen.interchange.maps import KINDS, Op, Ops
from loadgen.op import Outcome
from loadgen.stored_run import open_run
from loadgen.verdict import Verdict

VALID, UNREADABLE, INVALID, UNKNOWN = 0, 2, 4, 5
_CODES = {Verdict.VALID: VALID, Verdict.INVALID: INVALID, Verdict.UNKNOWN: UNKNOWN}
_WORST = (UNREADABLE, INVALID, UNKNOWN, VALID)
_JSON_VALID: Mapping[Verdict, bool | str] = {Verdict.VALID: True, Verdict.INVALID: False, Verdict.UNKNOWN: "unknown"}

DEFAULT_MODEL = "strict-serializable"
"""What a history is judged by if nobody says: what Elle takes too."""


def check_files(
    paths: Iterable[str | Path],
    model: str = DEFAULT_MODEL,
    kind: str | None = None,
    as_json: bool = False,
    time_limit_s: float = TIME_LIMIT_S,
    out: TextIO | None = None,
    errors: TextIO | None = None,
) -> int:
    """Judge every file by ``model`` (a name of MODELS, an alias, or ``all``) and return the exit code.

    Writes the answers to ``out`` (standard output) and what cannot be read to ``errors`` (standard error). Raises
    PlanError if the model or the kind is not known.
    """
    out, errors = out or sys.stdout, errors or sys.stderr
    names = _models(model)
    if kind is not None and kind not in KINDS:
        raise PlanError(f"--kind {kind!r} is not one of {', '.join(KINDS)}")
    codes = []
    for path in paths:
        try:
            judgement = check_file(Path(path), names, kind, time_limit_s)
        except StoreError as error:
            print(f"loadgen check: {error}", file=errors)
            if as_json:
                print(json.dumps({"file": str(path), "error": str(error), "models": {}, "anomalies": []}), file=out)
            codes.append(UNREADABLE)
            continue
        print(json.dumps(to_json(str(path), judgement)) if as_json else to_text(str(path), judgement), file=out)
        codes.append(VALID if model == "all" else _CODES[judgement.answers[names[0]].verdict])
    return next((code for code in _WORST if code in codes), VALID)


def _models(model: str) -> list[str]:
    if model.strip().lower() == "all":
        return list(MODELS)
    try:
        return [find_model(model).name]
    except KeyError:
        raise PlanError(f"--model {model!r} is not one of {', '.join(MODELS)}, all") from None


def check_file(path: Path, models: Sequence[str], kind: str | None, time_limit_s: float) -> Judgement:
    """Judge one file. Raises StoreError if it cannot be read; too large for memory is unknown, not an error."""
    try:
        if (path / "plan.json").exists():
            return _check_run(path, models)
        loaded = load(path, kind)
        return judge_loaded(loaded, models, time_limit_s)
    except MemoryError:
        why = "the history does not fit into memory"
        return Judgement({name: Answer(Verdict.UNKNOWN, (), why) for name in models})


def _check_run(run_dir: Path, models: Sequence[str]) -> Judgement:
    from loadgen.promise import promised  # It stands above this room, which it reads runs with.

    run = open_run(run_dir)
    doubt = run.doubt
    if run.refusal or run.lost_numbers:
        return Judgement({name: Answer(Verdict.UNKNOWN, (), doubt) for name in models})
    judgement = promised(run.workload, run.plan, run.history, models[0], doubt).judgement
    return Judgement({name: judgement.answers[name] for name in models}, judgement.anomalies, judgement.warnings)


def judge_loaded(loaded: Loaded, models: Sequence[str], time_limit_s: float) -> Judgement:
    """Judge what was read, whatever its kind."""
    if loaded.txns is None:
        return _judge_ops(loaded.kind, loaded.ops or Ops([]), models)
    judgement = judge(loaded.txns, models, time_limit_s)
    if loaded.kind == "long-fork" and not unfit(loaded.txns):
        if WRITE not in loaded.txns.act:
            # Jepsen's check needs the reads alone: each key is written once, by whom does not matter.
            judgement = Judgement({name: Answer(Verdict.VALID) for name in models})
        _add(judgement, check_long_fork(observe(loaded.txns)))
    return judgement


def _add(judgement: Judgement, found: Anomalies) -> None:
    """Let more anomalies rule out the models that forbid them."""
    judgement.anomalies.merge(found)
    for name, answer in judgement.answers.items():
        broken = {each for each in found.names() if name in FORBIDDEN_BY[each]}
        if broken:
            judgement.answers[name] = Answer(Verdict.INVALID, tuple(sorted({*answer.anomalies, *broken})))


def _judge_ops(kind: str, ops: Ops, models: Sequence[str]) -> Judgement:
    try:
        found, missing = (_bank if kind == "bank" else _set)(ops)
    except _TypesError as error:
        found, missing = Anomalies(), str(error)
    missing = ops.unfit or missing
    verdict = Verdict.UNKNOWN if missing else Verdict.VALID
    judgement = Judgement({name: Answer(verdict, (), missing) for name in models})
    if not ops.unfit:
        _add(judgement, found)
    return judgement


class _TypesError(Exception):
    """An operation whose value is not what its kind has: the history cannot be judged."""


def _bank(ops: Ops) -> tuple[Anomalies, str]:
    reads, accounts = [], set[Any]()
    for op in ops.ops:
        if op.f == "transfer" and isinstance(op.asked, Mapping):
            accounts |= {_account(each) for key, each in op.asked.items() if str(key) in ("from", "to")}
        if op.f != "read" or op.outcome != Outcome.OK:
            continue
        if not isinstance(op.answer, Mapping):
            raise _TypesError(f"the read of operation {op.label} is no map of balances")
        if any(type(amount) is not int and amount is not None for amount in op.answer.values()):
            raise _TypesError(f"operation {op.label} shows a balance that is no whole number")
        reads.append(Reading(op.label, {_account(key): each for key, each in op.answer.items()}, op.invoked))
    if not reads:
        return Anomalies(), "the history holds no read of the bank"
    return check_bank(reads, accounts, total=None, negative=False), ""


def _account(key: Any) -> Any:
    """JSON's keys are always text: there account "1" is account 1."""
    if isinstance(key, str) and key.lstrip("-").isdigit() and len(key) < 19:
        return int(key)
    return key if isinstance(key, int | str) else freeze(key)


def _set(ops: Ops) -> tuple[Anomalies, str]:
    adds = [Adding(op.label, freeze(_added(op)), op.outcome, op.completed) for op in ops.ops if op.f == "add"]
    reads = []
    for op in ops.ops:
        if op.f != "read" or op.outcome != Outcome.OK:
            continue
        if not isinstance(op.answer, list | frozenset):
            raise _TypesError(f"the read of operation {op.label} is no list of elements")
        seen = [each if isinstance(each, tuple) else freeze(each) for each in op.answer]
        reads.append(Reading(op.label, seen, op.invoked))
    if not reads:
        return Anomalies(), "the set was never read"
    return check_set(adds, reads), ""


def _added(op: Op) -> Any:
    return op.asked if op.asked is not None else op.answer


def to_json(path: str, judgement: Judgement) -> dict[str, Any]:
    """The answer for one file, as ``--json`` prints it."""
    return {
        "file": path,
        "models": {
            name: {
                "valid": _JSON_VALID[answer.verdict],
                "anomalies": list(answer.anomalies),
                **({"why": answer.why} if answer.why else {}),
            }
            for name, answer in judgement.answers.items()
        },
        "anomalies": [
            {"name": name, "witness": witness}
            for name in judgement.anomalies.names()
            for witness in judgement.anomalies.witnesses[name]
        ],
    }


def to_text(path: str, judgement: Judgement) -> str:
    """The answer for one file in words."""
    lines = []
    if len(judgement.answers) == 1:
        ((name, answer),) = judgement.answers.items()
        lines.append(f"{path}: {answer.verdict.value} ({name}){_tail(answer)}")
    else:
        lines.append(f"{path}:")
        lines += [f"  {name:<36} {answer.verdict.value}{_tail(answer)}" for name, answer in judgement.answers.items()]
        ruled, kept = (", ".join(names) or "nothing" for names in (judgement.ruled_out, judgement.kept))
        lines.append(f"  ruled out: {ruled}; proved: {kept}")
    for name in judgement.anomalies.names():
        count = judgement.anomalies.count[name]
        lines += [f"  {name} ({count}): {witness}" for witness in judgement.anomalies.witnesses[name][:2]]
    lines += [f"  note: {warning}" for warning in judgement.warnings]
    return "\n".join(lines)


def _tail(answer: Answer) -> str:
    if answer.verdict == Verdict.UNKNOWN:
        return f": {answer.why}"
    return f": {', '.join(answer.anomalies)}" if answer.anomalies else ""
