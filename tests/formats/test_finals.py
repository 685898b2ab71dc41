"""What the probes acknowledged must be in their tables at the end, and what they refused must not."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadgen.history.history import write_final
from loadgen.judge.judge import exit_code, judge
from loadgen.op import Outcome
from loadgen.probes.finals import final_findings
from loadgen.verdict import Finding, Verdict
from tests.formats.probe_runs import NAMES, ProbeRun, play, probe_plan

STRATEGIES = ("atomic", "pessimistic", "naive")
TABLES = {"append": "append_0", "register": "register", "bank": "accounts", "longfork": "longfork"}


def found(run: ProbeRun, directory: Path, model: str = "read-committed") -> dict[str, Finding]:
    """The findings by name."""
    history = run.history(directory)
    return {each.name: each for each in final_findings(run.plan.workload, history, run.plan.strategy, model)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(NAMES),
    strategy=st.sampled_from(STRATEGIES),
    seed=st.integers(0, 2**32),
    trouble=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_correct_store_is_never_accused(
    tmp_path_factory: pytest.TempPathFactory, name: str, strategy: str, seed: int, trouble: float
) -> None:
    """Whatever failed, and whatever nobody knows of, and at every level."""
    run = play(probe_plan(name, strategy=strategy, seed=seed), seed, trouble=trouble, numbers=60)

    findings = found(run, tmp_path_factory.mktemp("run"), model="strict-serializable")

    assert [finding for finding in findings.values() if finding.verdict != Verdict.VALID] == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(NAMES), seed=st.integers(0, 2**32))
def test_each_commit_that_was_acknowledged_and_rolled_back_is_a_lost_write(
    tmp_path_factory: pytest.TempPathFactory, name: str, seed: int
) -> None:
    """One in five is a lie, and the number found is the number told."""
    random = Random(seed)
    run = play(
        probe_plan(name, seed=seed),
        seed,
        trouble=0.0,
        numbers=100,
        lie=lambda _: "lost" if random.random() < 0.2 else "",
    )

    findings = found(run, tmp_path_factory.mktemp("run"))

    assert findings["lost-write"].anomalies == run.lies
    assert [each.name for each in findings.values() if each.anomalies] == ["lost-write"] * bool(run.lies)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(NAMES), seed=st.integers(0, 2**32))
def test_each_commit_that_was_refused_and_is_there_is_found(
    tmp_path_factory: pytest.TempPathFactory, name: str, seed: int
) -> None:
    """As a ghost where values tell whose they are, else as a version that nobody wrote."""
    random = Random(seed)
    run = play(
        probe_plan(name, seed=seed),
        seed,
        trouble=0.0,
        numbers=100,
        lie=lambda _: "refused" if random.random() < 0.2 else "",
    )

    findings = found(run, tmp_path_factory.mktemp("run"))

    shown = "ghost" if name in ("append", "longfork") else "phantom-write"
    assert (findings[shown].anomalies > 0) == (run.lies > 0)
    if shown == "ghost":
        assert findings[shown].anomalies == run.lies
    if name == "bank":
        assert findings[shown].anomalies == 2 * run.lies


@pytest.mark.parametrize("name", NAMES)
def test_witness_names_the_transaction_and_the_row(tmp_path: Path, name: str) -> None:
    """``T17`` is op 17."""
    lost: list[int] = []

    def lie(number: int) -> str:
        if number > 20 and not lost:
            lost.append(number)
            return "lost"
        return ""

    finding = found(play(probe_plan(name), 5, trouble=0.0, lie=lie), tmp_path)["lost-write"]

    assert finding.anomalies == 1
    assert finding.witnesses[0].startswith(f"T{lost[0]} was acknowledged")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_balances_that_the_transfers_do_not_explain_are_a_lost_write(tmp_path: Path, strategy: str) -> None:
    """Where a transfer can't be undone by another that wrote back what it had read."""
    run = play(probe_plan("bank", strategy=strategy), 5)
    run.tables["accounts"][0][0] -= 7
    run.tables["accounts"][1][0] += 7

    assert found(run, tmp_path / "strict", "snapshot-isolation")["lost-write"].anomalies == 1
    lenient = found(run, tmp_path / "lenient")["lost-write"]
    assert lenient.anomalies == (strategy != "naive")
    if lenient.anomalies:
        assert "account 0 holds " in lenient.witnesses[0] and "(800 in all)" in lenient.witnesses[0]


def test_total_that_is_not_the_banks_is_a_lost_write(tmp_path: Path) -> None:
    """Money came from nowhere, at any level."""
    run = play(probe_plan("bank"), 5, trouble=0.0)
    run.tables["accounts"][3][0] += 100

    assert "(900 in all)" in found(run, tmp_path)["lost-write"].witnesses[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["row", "table", "version"])
def test_rows_that_are_gone_are_lost(tmp_path: Path, name: str, how: str) -> None:
    """One row deleted, a table emptied, a version set back."""
    run = play(probe_plan(name), 5, trouble=0.0)
    table = run.tables[TABLES[name]]
    if how == "table":
        table.clear()
    elif how == "row" or name in ("append", "longfork"):
        del table[max(table)]
    else:
        table[0][1] -= 1

    assert found(run, tmp_path)["lost-write"].anomalies > 0


@pytest.mark.parametrize("name", NAMES)
def test_without_the_final_reads_a_probe_is_undecided(tmp_path: Path, name: str) -> None:
    """The server died before them: nothing is valid."""
    run = play(probe_plan(name), 5, trouble=0.0).write(tmp_path / "run")
    assert exit_code(judge(run)) == 0, judge(run)
    (run / "history" / f"final.{TABLES[name]}.arrows").unlink()

    summary = judge(run)

    assert exit_code(summary) == 5 and TABLES[name] in summary["unknown"] and not summary["complete"]


@pytest.mark.parametrize("name", NAMES)
def test_dropped_table_of_a_probe_is_the_loss_of_all_its_writes(tmp_path: Path, name: str) -> None:
    """The server said that it is not there any more."""
    played = play(probe_plan(name), 5, trouble=0.0)
    run = played.write(tmp_path / "run")
    table = next(table for table in played.workload.tables(played.plan) if table.name == TABLES[name])
    (run / "history" / f"final.{table.name}.arrows").unlink()
    nothing = {column: [] for column in table.final}
    write_final(run / "history", table.name, nothing, table.final, {"gone": "no such table"})  # type: ignore[arg-type]

    summary = judge(run)

    assert exit_code(summary) == 4 and summary["violations"]["lost-write"] > 0


def test_value_that_was_changed_in_place_is_found_by_who_read_it(tmp_path: Path) -> None:
    """Its version stayed: whoever reads it sees another value than the one that was written there."""
    run = play(probe_plan("register"), 5, trouble=0.0)
    at = next(
        index for index, row in enumerate(run.rows) if row.touched and not row.touched[0] % 2 and row.touched[2] > 2
    )
    key, value, version = run.rows[at].touched[:3]
    other = next(row.touched[i + 1] for row in run.rows for i in range(0, len(row.touched), 3) if row.touched[i] % 2)
    assert other != value
    run.rows[at] = run.rows[at]._replace(touched=(key, other, version, *run.rows[at].touched[3:]))

    findings = found(run, tmp_path / "committed")

    assert findings["phantom-write"].anomalies == 1
    assert f"register {key // 2} was read as {other} at version {version}" in findings["phantom-write"].witnesses[0]
    assert found(run, tmp_path / "uncommitted", "read-uncommitted")["phantom-write"].anomalies == 0


def test_half_of_an_append_of_which_nobody_knows_is_a_lost_write(tmp_path: Path) -> None:
    """It happened as a whole or not at all."""
    run = play(probe_plan("append"), 5, trouble=0.0)
    at = next(index for index, row in enumerate(run.rows) if sum(key % 2 and key > 0 for key in row.touched[::3]) >= 2)
    touched = run.rows[at].touched
    packed, value = next(pair for pair in zip(touched[::3], touched[1::3], strict=True) if pair[0] % 2 and pair[0] > 0)
    run.rows[at] = run.rows[at]._replace(outcome=int(Outcome.INFO), answer=0, touched=())
    assert found(run, tmp_path / "whole")["lost-write"].verdict == Verdict.VALID
    key = packed // 2
    row = run.tables[f"append_{key % 3}"][key]
    row[0] = ",".join(each for each in row[0].split(",") if each != str(value))

    finding = found(run, tmp_path / "half")["lost-write"]

    assert finding.anomalies == 1 and "is there by half" in finding.witnesses[0]
