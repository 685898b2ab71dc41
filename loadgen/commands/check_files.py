"""``loadgen check FILE…``: judge histories from files, and say so for a person or as JSON, one line a file.

Exit codes: 0 valid, 4 invalid, 5 unknown, 2 unreadable; the worst of all files counts (2, then 4, then 5). With the
model ``all`` it is 0 for every file that could be read.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from loadgen.errors import PlanError, StoreError
from loadgen.formats.edn import freeze
from loadgen.formats.files import Loaded, load
from loadgen.formats.kinds import KINDS, misfits_of, unknown_operations
from loadgen.formats.maps import Op, Ops
from loadgen.formats.reading import Watch
from loadgen.isolation.anomaly import Anomalies
from loadgen.isolation.bank import Transfer, check_transfers
from loadgen.isolation.check import TIME_LIMIT_S, judge
from loadgen.isolation.graph import Deadline, TimeLimitError
from loadgen.isolation.jepsen import FORBIDDEN_BY, Adding, Reading, check_long_fork, check_set
from loadgen.isolation.judgement import Judgement, ModelAnswer
from loadgen.isolation.models import MODELS, Between, find_between, find_model
from loadgen.isolation.observed import observe, unfit
from loadgen.isolation.transactions import WRITE
from loadgen.judge.stored_run import open_run
from loadgen.op import Outcome
from loadgen.verdict import Verdict

VALID, UNREADABLE, INVALID, UNKNOWN = 0, 2, 4, 5
_CODES = {Verdict.VALID: VALID, Verdict.INVALID: INVALID, Verdict.UNKNOWN: UNKNOWN}
_WORST = (UNREADABLE, INVALID, UNKNOWN, VALID)
_JSON_VALID: Mapping[Verdict, bool | str] = {Verdict.VALID: True, Verdict.INVALID: False, Verdict.UNKNOWN: "unknown"}

DEFAULT_MODEL = "strict-serializable"
"""The default model for a history, as in Elle."""
FALLBACKS = ("strong-session-serializable", "serializable")
"""What takes its place for a history that shows no real-time order, or no sessions either."""
_RAW = re.compile(r"[^\n -~\u00a1-\ud7ff\uf900-\uffef\U00010000-\U000dffff]|[\u200b-\u200f\u2028-\u202e\u2066-\u2069]")
"""What a terminal might take for a command, or what it cannot show."""


def check_files(
    paths: Iterable[str | Path],
    model: str | None = None,
    kind: str | None = None,
    as_json: bool = False,
    time_limit_s: float = TIME_LIMIT_S,
    out: TextIO | None = None,
    errors: TextIO | None = None,
) -> int:
    """Judge every file by ``model`` (a name of MODELS, another of Elle's, or ``all``) and return the exit code.

    Left out, the model is DEFAULT_MODEL, or for a history that does not show its order one of FALLBACKS. Writes the
    answers to ``out`` (standard output), and what cannot be read and how far a long reading is to ``errors`` (standard
    error). Raises PlanError if the model or the kind is not known.
    """
    out, errors = out or sys.stdout, errors or sys.stderr
    names, between = _models(model or DEFAULT_MODEL)
    if kind is not None and kind not in KINDS:
        raise PlanError(f"--kind {kind!r} is not one of {', '.join(KINDS)}")
    codes = []
    for path in paths:
        asked = names if model else [*names, *FALLBACKS]
        try:
            judgement = check_file(Path(path), asked, kind, time_limit_s, errors)
        except StoreError as error:
            print(printable(f"loadgen check: {error}"), file=errors)
            if as_json:
                print(json.dumps({"file": str(path), "error": str(error), "models": {}, "anomalies": []}), file=out)
            codes.append(UNREADABLE)
            continue
        if not model:
            _keep_one(judgement)
        if between:
            _judge_between(judgement, between)
        print(
            json.dumps(to_json(str(path), judgement)) if as_json else printable(to_text(str(path), judgement)), file=out
        )
        every = (model or "").strip().lower() == "all"
        codes.append(VALID if every else _CODES[next(iter(judgement.answers.values())).verdict])
    return next((code for code in _WORST if code in codes), VALID)


def printable(text: str) -> str:
    """``text`` with control characters escaped, so that a terminal does not obey them."""
    return _RAW.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def _models(model: str) -> tuple[list[str], Between | None]:
    if model.strip().lower() == "all":
        return list(MODELS), None
    try:
        return [find_model(model).name], None
    except KeyError:
        between = find_between(model)
    if between is None:
        raise PlanError(f"--model {model!r} is not one of {', '.join(MODELS)}, all")
    return [*between.above, *filter(None, (between.below,))], between


def _keep_one(judgement: Judgement) -> None:
    """The strongest of the default models that this history can be judged by."""
    name = DEFAULT_MODEL
    if judgement.orderless:
        names = (DEFAULT_MODEL, *FALLBACKS)
        name = next((each for each in names if judgement.answers[each].verdict != Verdict.UNKNOWN), name)
    judgement.answers = {name: judgement.answers[name]}


def _judge_between(judgement: Judgement, between: Between) -> None:
    """The answer for a model without a rule of its own, from those that imply it and the one that it implies."""
    answers = judgement.answers
    held = [name for name in between.above if answers[name].verdict == Verdict.VALID]
    below = answers[between.below] if between.below else ModelAnswer(Verdict.VALID)
    if below.verdict == Verdict.INVALID:
        answer = below
        told = f"{between.below}, which {between.name} implies, is broken"
    elif held:
        answer = ModelAnswer(Verdict.VALID)
        told = f"{held[0]}, which implies {between.name}, holds"
    else:
        why = next((answers[name].why for name in between.above if answers[name].why), "")
        implied = f"; {between.below}, which it implies, holds" if between.below and not below.why else ""
        told = f"{' or '.join(between.above)}, which implies {between.name}, is not proved{implied}"
        answer = ModelAnswer(Verdict.UNKNOWN, (), why or told)
    judgement.answers = {between.name: answer}
    judgement.warnings = [*judgement.warnings, f"{between.name} has no rule of its own here: {told}"]


def check_file(
    path: Path, models: Sequence[str], kind: str | None, time_limit_s: float, errors: TextIO | None = None
) -> Judgement:
    """Judge one file. Raises StoreError if it cannot be read; too large for memory is unknown, not an error.

    The time limit is for reading and judging together.
    """
    watch = Watch(path, Deadline.after(time_limit_s), errors)
    try:
        if (path / "plan.json").exists():
            return _check_run(path, models)
        loaded = load(path, kind, watch)
        return judge_loaded(loaded, models, watch.deadline.left_s())
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    except MemoryError:
        why = "the history does not fit into memory"
    except TimeLimitError:
        why = f"the time limit of {time_limit_s:g} s was over before the history was read"
    finally:
        watch.done()
    return Judgement({name: ModelAnswer(Verdict.UNKNOWN, (), why) for name in models})


def _check_run(run_dir: Path, models: Sequence[str]) -> Judgement:
    from loadgen.judge.documented import promised  # It stands above this room, which it reads runs with.

    run = open_run(run_dir)
    doubt = run.doubt
    if run.refusal or run.lost_numbers:
        return Judgement({name: ModelAnswer(Verdict.UNKNOWN, (), doubt) for name in models})
    judgement = promised(run.workload, run.plan, run.history, models[0], doubt).judgement
    return Judgement({name: judgement.answers[name] for name in models}, judgement.anomalies, judgement.warnings)


def judge_loaded(loaded: Loaded, models: Sequence[str], time_limit_s: float) -> Judgement:
    """Judge a history of any kind."""
    if loaded.txns is None:
        judgement = _judge_ops(loaded, models)
    else:
        judgement = judge(loaded.txns, models, time_limit_s)
        if loaded.kind == "long-fork" and not unfit(loaded.txns):
            _judge_long_fork(loaded, judgement)
    judgement.kind = loaded.kind
    return judgement


def _judge_long_fork(loaded: Loaded, judgement: Judgement) -> None:
    assert loaded.txns is not None
    if WRITE not in loaded.txns.act:
        # Jepsen's check needs the reads alone: each key is written once, by whom does not matter.
        why = "the history holds no writes; the invariant held: no long fork was read, which proves no model"
        judgement.answers = {name: ModelAnswer(Verdict.UNKNOWN, (), why) for name in judgement.answers}
        judgement.anomalies = Anomalies()
    _add(judgement, check_long_fork(observe(loaded.txns)))


def _add(judgement: Judgement, found: Anomalies) -> None:
    """Let more anomalies rule out the models that forbid them."""
    judgement.anomalies.merge(found)
    for name, answer in judgement.answers.items():
        broken = {each for each in found.names() if name in FORBIDDEN_BY[each]}
        if broken:
            judgement.answers[name] = ModelAnswer(Verdict.INVALID, tuple(sorted({*answer.anomalies, *broken})))


def _judge_ops(loaded: Loaded, models: Sequence[str]) -> Judgement:
    """Invariants: one that is broken rules models out, one that holds proves none."""
    ops = loaded.ops or Ops([])
    found, why = Anomalies(), loaded.problem or ops.unfit
    misfits = misfits_of(loaded.kind, ops) if loaded.kind else []
    if misfits and not why:
        why = unknown_operations(misfits, len(ops.ops), loaded.kind)
    if not why:
        try:
            found, why = (_bank if loaded.kind == "bank" else _set)(ops)
        except _TypesError as error:
            why = str(error)
    if found.count:
        why = why or "what was found does not rule this model out, and nothing proves it"
    why = why or f"the invariant held: no read of the {loaded.kind} breaks it, which proves no model"
    judgement = Judgement({name: ModelAnswer(Verdict.UNKNOWN, (), why) for name in models})
    if ops.unclocked:
        judgement.warnings = [ops.unclocked]
    _add(judgement, found)
    return judgement


class _TypesError(Exception):
    """An operation whose value is not what its kind has: the history cannot be judged."""


def _bank(ops: Ops) -> tuple[Anomalies, str]:
    reads = []
    for op in ops.ops:
        if op.f != "read" or op.outcome != Outcome.OK:
            continue
        if not isinstance(op.answer, Mapping):
            raise _TypesError(f"the read of operation {op.label} is not a map of balances")
        if any(type(amount) is not int and amount is not None for amount in op.answer.values()):
            raise _TypesError(f"operation {op.label} shows a balance that is not a whole number")
        seen = {_account(key): each for key, each in op.answer.items()}
        if len(seen) != len(op.answer):
            raise _TypesError(f"operation {op.label} shows one account twice")
        reads.append(Reading(op.label, seen, op.invoked, op.completed))
    if not reads:
        return Anomalies(), "the history holds no read of the bank"
    return check_transfers(reads, [_transfer(op) for op in ops.ops if op.f == "transfer"]), ""


def _transfer(op: Op) -> Transfer:
    told = op.value if isinstance(op.value, Mapping) else op.asked if isinstance(op.asked, Mapping) else {}
    ends = {str(key).lstrip(":"): each for key, each in told.items()}
    source, target = (None if ends.get(name) is None else _account(ends[name]) for name in ("from", "to"))
    amount = ends.get("amount")
    if amount is not None and type(amount) is not int:
        raise _TypesError(f"the transfer of operation {op.label} moves an amount that is not a whole number")
    return Transfer(op.label, source, target, amount, op.outcome, op.invoked, op.completed)


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
            raise _TypesError(f"the read of operation {op.label} is not a list of elements")
        seen = [each if isinstance(each, tuple) else freeze(each) for each in op.answer]
        reads.append(Reading(op.label, seen, op.invoked))
    if not reads:
        return Anomalies(), "the set was never read"
    if not adds:
        return Anomalies(), "the history holds no add: what was in the set is not known"
    return check_set(adds, reads), ""


def _added(op: Op) -> Any:
    return op.asked if op.asked is not None else op.answer


def to_json(path: str, judgement: Judgement) -> dict[str, Any]:
    """The answer for one file, as ``--json`` prints it."""
    return {
        "file": path,
        **({"kind": judgement.kind} if judgement.kind else {}),
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
        **({"notes": list(judgement.warnings)} if judgement.warnings else {}),
    }


def to_text(path: str, judgement: Judgement) -> str:
    """The answer for one file in words."""
    lines = []
    read_as = f"read as {judgement.kind}" if judgement.kind else ""
    if len(judgement.answers) == 1:
        ((name, answer),) = judgement.answers.items()
        lines.append(f"{path}: {answer.verdict.value} ({name}){_tail(answer)}{read_as and f'; {read_as}'}")
    else:
        lines.append(f"{path}: {read_as}")
        lines += [f"  {name:<36} {answer.verdict.value}{_tail(answer)}" for name, answer in judgement.answers.items()]
        ruled, kept = (", ".join(names) or "nothing" for names in (judgement.ruled_out, judgement.kept))
        lines.append(f"  ruled out: {ruled}; proved: {kept}")
    for name in judgement.anomalies.names():
        count = judgement.anomalies.count[name]
        lines += [f"  {name} ({count}): {witness}" for witness in judgement.anomalies.witnesses[name][:2]]
    lines += [f"  note: {warning}" for warning in judgement.warnings]
    return "\n".join(lines)


def _tail(answer: ModelAnswer) -> str:
    if answer.verdict == Verdict.UNKNOWN:
        return f": {answer.why}"
    return f": {', '.join(answer.anomalies)}" if answer.anomalies else ""
