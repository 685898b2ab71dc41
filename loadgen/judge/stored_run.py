"""A stored run, opened: its plan, what the load side said at its end, its history, and how far it may be trusted.

``load.json`` is the closing record. It lists the streams that the run wrote, each with its rows and its checksum, and
for each load process how many rows it made and how many of them were written. What is missing or altered is a doubt:
then nothing is called valid, though a violation that something else proves stays one. What a process that is known to
be dead did not write is no doubt: its numbers without an ending are ``info``.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadgen.errors import PlanError, StoreError
from loadgen.history.history import History, LoadProcess, read_history
from loadgen.history.run_directory import read_plan
from loadgen.measures.offered import Offered, offered
from loadgen.plan import Plan, plan_from_json
from loadgen.untrusted import MOST_JSON_BYTES, exists, mapping, read_json, read_plain, texts
from loadgen.workload.follow_up_draws import untold_follow_ups
from loadgen.workload.loading import installed_workloads, load_workload, sha256_of
from loadgen.workload.table import table_names
from loadgen.workload.workload import Workload


@dataclass(slots=True)
class StoredRun:
    """A run directory as read."""

    path: Path
    plan: Plan
    facts: Mapping[str, Any]
    """plan.json."""
    load: Mapping[str, Any]
    """load.json; empty if the run was killed before it ended."""
    history: History
    offered: Offered = field(default_factory=lambda: Offered([]))
    """The history's processes with a row for every arrival that was due: what figures are computed from."""
    doubts: list[str] = field(default_factory=list)
    """Why nothing here may be called valid."""
    warnings: list[str] = field(default_factory=list)
    lost_numbers: bool = False
    """Whether numbers that load processes received are missing. Data that no op asked for then proves nothing."""
    file: Workload | None = None
    """What judges it; None if there is nothing that may."""
    unjudged: str = ""
    """Why there is nothing that may judge it."""
    refusal: str = ""
    """Why nothing here proves anything at all: the plan is not the one that was run."""

    @property
    def workload(self) -> str:
        """The workload's name."""
        return self.plan.workload

    @property
    def doubt(self) -> str:
        """The first doubt, and how many more there are; empty if there is none."""
        doubts = [self.refusal, *self.doubts] if self.refusal else self.doubts
        more = f" (and {len(doubts) - 1} more)" if len(doubts) > 1 else ""
        return doubts[0] + more if doubts else ""

    @property
    def tables(self) -> Sequence[str]:
        """The tables that have to be read at its end."""
        told = texts(mapping(self.facts.get("workload")).get("tables"))
        return told or (table_names(self.file.tables(self.plan)) if self.file else ())

    def died(self, process: str) -> bool:
        """Whether a load process is known to have ended without a last word, or could not be written any more."""
        return bool(self.load.get("error")) or process in texts(self.load.get("died"))


def open_run(run_dir: Path, workload: Workload | None = None, *, trust: bool = False) -> StoredRun:
    """Open the run in ``run_dir``, of ``workload`` or of what ``choose`` finds.

    Raises StoreError where there is no run, or its plan is broken.
    """
    path = run_dir / "plan.json"
    facts = read_plan(path)
    if not isinstance(facts.get("plan"), dict):
        raise StoreError(f"{path} holds no plan")
    try:
        plan = plan_from_json(facts["plan"])
    except PlanError as error:
        raise StoreError(f"{path}: {error}") from error
    warnings: list[str] = []
    file, unjudged = choose(run_dir, plan.workload, mapping(facts.get("workload")), workload, warnings, trust=trust)
    if file is not None:
        try:
            plan = file.stored(plan, texts(mapping(facts.get("workload")).get("options")))
        except PlanError as error:
            raise StoreError(f"{path}: {error}") from error
    load, fault = _closing_record(run_dir / "load.json")
    listed = load.get("streams")
    run_id = facts.get("run_id")
    history = read_history(
        run_dir / "history",
        run_id=run_id if isinstance(run_id, str) else "",
        listed=listed.keys() if isinstance(listed, dict) else None,
    )
    run = StoredRun(run_dir, plan, facts, load, history, file=file, unjudged=unjudged)
    run.warnings += [*warnings, *texts(facts.get("warnings")), *texts(load.get("warnings")), *history.warnings]
    if fault:
        run.doubts.append(fault)
    told = load.get("plan_checksum")
    if told is not None and told != plan_checksum(path):
        run.refusal = f"{path} is not the one that was run: its checksum in load.json is another"
    run.doubts += texts(load.get("interference"))
    _compare_streams(run, listed)
    _weigh_problems(run)
    _weigh_processes(run)
    _weigh_final_reads(run)
    run.offered = _offered(run)
    run.warnings += run.offered.notes
    return run


def choose(
    run_dir: Path,
    name: str,
    facts: Mapping[str, Any],
    given: Workload | None,
    warnings: list[str],
    *,
    trust: bool,
) -> tuple[Workload | None, str]:
    """The workload that judges a run: the given one, the installed one, or with ``trust`` the run's own copy.

    None, and why, if there is none. No path that a run directory names is imported. Raises PlanError.
    """
    if given is not None:
        if given.name != name:
            raise PlanError(f"the run is of the workload {name}, but the file holds {given.name}")
        return given, ""
    path = installed_workloads().get(name)
    hash_told = facts.get("sha256")
    if path is not None:
        installed = load_workload(path)
        if installed.evidence_version == facts.get("evidence_version", 1):
            if isinstance(hash_told, str) and hash_told != sha256_of(path):
                warnings.append(f"the installed {name} judges this run, and it is not the file that the run loaded")
            return installed, ""
    copy = run_dir / "history" / "workload.py"
    if trust and copy.is_file():
        warnings.append(f"judged by the run's own copy {copy} (SHA-256 {sha256_of(copy)})")
        copied = load_workload(copy)
        if copied.name != name:
            raise PlanError(f"the run is of the workload {name}, and {copy} holds {copied.name}")
        return copied, ""
    why = "the installed one judges other evidence" if path else "the run's workload file is not installed"
    return None, f"{why}: name it by --workload FILE, or trust the run's copy by --trust-workload"


def _offered(run: StoredRun) -> Offered:
    """What was offered, for the figures. If the files are implausible, it comes from the history alone."""
    try:
        return offered(run.history.processes, run.plan, mapping(run.facts.get("workload")), run.load)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        note = f"the schedule was not counted again: {type(error).__name__}: {error}"
        return Offered(list(run.history.processes), [note])


def plan_checksum(path: Path) -> str:
    """The checksum of plan.json that load.json keeps. Raises StoreError."""
    return f"{zlib.crc32(read_plain(path, MOST_JSON_BYTES)):08x}"


def _closing_record(path: Path) -> tuple[Mapping[str, Any], str]:
    """load.json, and what is wrong with it."""
    if not exists(path):
        return {}, "the run was killed before its load had ended: there is no load.json"
    try:
        load = read_json(path)
    except StoreError as error:
        return {}, f"how the load ended is unknown: {error}"
    return load, "" if load else f"how the load ended is unknown: {path} is empty"


def _compare_streams(run: StoredRun, listed: Any) -> None:
    """Compare what was read with what the run says it wrote."""
    if listed is None:
        return
    if not isinstance(listed, dict):
        run.doubts.append("load.json does not list the streams of the run correctly")
        return
    for name, told in listed.items():
        sealed = run.history.sealed.get(name)
        if name not in run.history.sealed:
            fault = f"the stream {name} is missing"
        elif sealed is None or sealed.to_json() != told:
            rows = mapping(told).get("rows")
            fault = f"the stream {name} is not as it was written ({sealed.rows if sealed else '?'} of {rows} rows)"
        else:
            continue
        run.doubts.append(fault)
        run.history.damaged.add(name)
        run.history.final.pop(name.removeprefix("final."), None)
        _distrust(run, name)
    for process, told in mapping(run.load.get("processes")).items():
        made, written = mapping(told).get("made"), mapping(told).get("written")
        # One that died never told how many it had made, and a history that broke took no more: what is open is info.
        if made != written and not run.load.get("error") and not (made is None and run.died(process)):
            run.doubts.append(f"load process {process} made {made} rows, and {written} were written")
            _distrust(run, f"{process}.ops")


def _distrust(run: StoredRun, stream: str) -> None:
    """Rows of this stream are missing, so its process may have sent more ops."""
    process, _, what = stream.rpartition(".")
    run.lost_numbers |= what == "invoked"
    for known in run.history.processes:
        if known.name == process:
            known.closed_at = None


def _weigh_problems(run: StoredRun) -> None:
    """Damage in the history casts doubt on everything, except for the truncated end of a process that is known to be
    dead."""
    for problem in run.history.problems:
        process = run.history.torn.get(problem)
        (run.warnings if process is not None and run.died(process) else run.doubts).append(problem)
    for name in run.history.damaged:
        process, _, what = name.rpartition(".")
        run.lost_numbers |= what == "invoked" and not run.died(process)
    known = {process.name for process in run.history.processes}
    run.lost_numbers |= any(
        name.endswith(".ops") and name.removesuffix(".ops") not in known for name in run.history.sealed
    )


def _weigh_processes(run: StoredRun) -> None:
    if not run.history.processes:
        run.doubts.append("the history has no load process")
    for process in run.history.processes:
        if process.closed_at is None:
            _weigh_open(run, process)
        elif words := _untold(run, process):
            run.doubts.append(
                f"a part of the history is missing: load process {process.name} ended in order, and does not tell "
                f"{words}"
            )
            process.closed_at = None


def _untold(run: StoredRun, process: LoadProcess) -> str:
    """The rows that a load process that ended in order should have and lacks; empty if nothing is missing."""
    if run.file is None:
        return ""
    if run.file.untold is not None and (words := run.file.untold(process, run.plan)):
        return words
    told = mapping(mapping(run.load.get("processes")).get(process.name)).get("start_ns")
    start_ns = told if type(told) is int and 0 <= told < 2**62 else None
    lacking = untold_follow_ups(process, run.file, run.plan, start_ns)
    return f"how {lacking} ops ended that had to follow an answer" if lacking else ""


def _weigh_open(run: StoredRun, process: LoadProcess) -> None:
    if run.died(process.name) or not run.load:
        run.warnings.append(f"load process {process.name} did not end in order, so its open ops count as info")
    elif not run.doubts:
        run.doubts.append(f"load process {process.name} left no last word, and nobody saw it die")


def _weigh_final_reads(run: StoredRun) -> None:
    """Without the final reads of every table, it is unknown whether acknowledged data is there."""
    history = run.history
    lacking = [name for name in run.tables if not history.final.get(name)]
    gone = [name for name in run.tables if history.final_facts.get(name, {}).get("gone")]
    if gone and (run.file is None or run.file.examine is None):
        run.doubts.append(f"the table {', '.join(gone)} did not exist any more when the tables were read")
    if lacking or not history.final:
        run.doubts.append(f"there is no whole final read of {', '.join(lacking) or 'any table'}")
