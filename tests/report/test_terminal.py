"""The report on the terminal: what must be on it, and that it fits a screen."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.report.page import HANDLER, WIDTH, coloured, columns, folded, terminal_columns
from loadgen.report.terminal import HEIGHT, KINDS, render
from loadgen.shop.sale import CHECKS
from tests.plans import sale_plan

TIMES = {"p50": 1.2, "p90": 3.4, "p99": 22.1, "p999": 101.2, "max": 1543.2, "count": 11020}
PLAN_FACTS: dict[str, Any] = {
    "plan": sale_plan().to_json(),
    "engine": {
        "name": "postgres",
        "title": "PostgreSQL",
        "version": "18.6",
        "edition": "",
        "level": "read committed",
        "means": "read-committed",
    },
    "durability": {"fsync": "on", "synchronous_commit": "on"},
    "cluster": {"connect": "psql -h /tmp/data"},
}


def summary(**changes: Any) -> dict[str, Any]:
    """A valid run's summary, with ``changes``."""
    return {
        "verdict": "valid",
        "complete": True,
        "started_utc": "2025-01-01T00:00:00.000Z",
        "duration_s": 60.0,
        "engine": {"name": "postgres", "edition": "", "version": "18.6", "cluster": "embedded", "nodes": 1},
        "orders": {
            "due": 14000,
            "started": 13998,
            "ok": 13980,
            "placed": 11000,
            "sold_out": 2900,
            "limited": 80,
            "fail": 10,
            "info": 8,
            "skipped": 2,
            "per_second_mean": 198.3,
            "per_second_peak": 412,
        },
        "response_time_ms": dict.fromkeys(KINDS, TIMES),
        "service_time_ms": dict.fromkeys(KINDS, TIMES),
        "undersell": {"units": 0, "causes": {}},
        "errors": [],
        "checks": [check(name) for name in CHECKS],
        "slo": [],
        "client": {"cpu_seconds": 12.3, "cpu_us_per_order": 141.2, "saturated_seconds": 0, "peak_rss_mb": 151},
        "warnings": [],
        **changes,
    }


def check(name: str, anomalies: int = 0, witness: str = "", unknown: str = "") -> dict[str, Any]:
    """One check's line of a summary."""
    verdict = "invalid" if anomalies else "unknown" if unknown else "valid"
    return {"name": name, "verdict": verdict, "anomalies": anomalies, "witness": witness, "unknown": unknown}


def rendered(**changes: Any) -> str:
    """The report of ``summary(**changes)``."""
    return render(summary(**changes), PLAN_FACTS, run_dir="runs/x")


def assert_fits(report: str) -> None:
    """At most one screen."""
    assert len(report.splitlines()) <= HEIGHT
    assert max(len(line) for line in report.splitlines()) <= WIDTH


def test_a_valid_run_says_so_first() -> None:
    """The first word is the verdict, and the rates come next."""
    report = rendered()

    assert report.startswith("VALID ")
    assert "198 mean, 412 in the best second" in report.splitlines()[1]
    assert_fits(report)


def test_whether_the_limit_was_reached_stands_beside_the_rates() -> None:
    """Before anybody takes the rate for what the database can do."""
    report = rendered(limited_by=None, limit="not reached: all that was offered was served")

    assert report.splitlines()[2] == "Limit     not reached: all that was offered was served"


@pytest.mark.parametrize(
    ("limited_by", "saturated", "blame"),
    [
        ("sessions", 0, "its CPU was not the bottleneck, its sessions were too few"),
        ("sessions", 3, "its CPU was not the bottleneck, its sessions were too few"),
        ("client", 3, "the client was the bottleneck in 3 seconds"),
        (None, 3, "its CPU was saturated in 3 seconds and held nothing back"),
        ("server", 3, "its CPU was saturated in 3 seconds"),
        (None, 0, "the client was not the bottleneck"),
    ],
)
def test_the_client_is_blamed_for_what_it_was(limited_by: str | None, saturated: int, blame: str) -> None:
    """Its CPU, its sessions or nothing: never the one for the other."""
    client = {"cpu_seconds": 50.0, "cpu_us_per_order": 141.2, "saturated_seconds": saturated, "peak_rss_mb": 151}
    report = " ".join(rendered(client=client, limited_by=limited_by).split())

    assert f"MB at most; {blame}" in report


def test_what_was_lost_is_told_at_the_top_with_its_cause() -> None:
    """A valid run that exits with 1 says why in its first line; skipped ops say whose they were."""
    orders = summary()["orders"] | {"started": 13000, "skipped": 1000}
    report = rendered(
        exit_reason="load process 1 was lost",
        lost={"1": "it had no word from its master for 10 s"},
        skipped_because={"late": 2, "worker_lost": 998, "no_number": 0},
        orders=orders,
    )

    assert report.splitlines()[0].endswith("but load process 1 was lost (exit code 1)")
    assert "load process 1 was lost: it had no word from its master for 10 s" in report.splitlines()[1]
    assert "skipped 1,000 (7.1 %: late 2, worker lost 998)" in report
    assert_fits(report)


@pytest.mark.parametrize(
    ("sessions", "told"),
    [
        ([], ""),
        ([[0, 32]], ""),
        ([[0, 32], [7, 20]], "32 from second 0, 20 from second 7"),
        ([[0, 20]], "20 from second 0"),
        ([[second, second] for second in range(9)], "4 from second 4, 5 from second 5, …"),
    ],
)
def test_sessions_that_changed_are_told_with_the_second(sessions: list[list[int]], told: str) -> None:
    """The plan's number alone would be wrong."""
    report = " ".join(rendered(sessions=sessions).split())

    assert "32 sessions, seed" in report
    assert ("sessions over time" in report) is bool(told)
    assert told in report


def test_violated_checks_are_named_with_count_and_first_witness() -> None:
    """Whoever reads the report alone knows what broke, how often, and one proof."""
    checks = [check(name) for name in CHECKS if name != "lost-update"]
    report = rendered(verdict="invalid", checks=[check("lost-update", 812, "order 5 read version 3"), *checks])

    assert report.startswith("INVALID ")
    assert "✗ lost-update 812: order 5 read version 3" in report
    assert report.index("✗ lost-update") < report.index("✓ ")


@given(
    violated=st.sets(st.sampled_from(CHECKS)),
    undecided=st.sets(st.sampled_from(CHECKS)),
    warnings=st.integers(0, 12),
    errors=st.integers(0, 12),
    slos=st.integers(0, 9),
    died=st.integers(0, 9),
    words=st.integers(1, 200),
)
def test_any_run_fits_the_screen_and_names_every_violated_check(
    violated: set[str], undecided: set[str], warnings: int, errors: int, slos: int, died: int, words: int
) -> None:
    """However much went wrong, it is one screen, and no violated check goes missing."""
    text = " ".join(["word"] * words)
    checks = [
        check(name, anomalies=7 * (name in violated), witness=text, unknown=text if name in undecided else "")
        for name in CHECKS
    ]
    error = {"code": "40001", "class": "conflict", "stage": "commit", "count": 3, "sample": text}
    slo = {"text": "order.p99<=200ms", "value": 251.0, "met": False}
    report = rendered(
        verdict="invalid" if violated else "unknown" if undecided else "valid",
        complete=False,
        cut_short=text,
        died=["worker"] * died,
        checks=checks,
        warnings=[f"{number} {text}" for number in range(warnings)],
        errors=[error] * errors,
        slo=[slo] * slos,
        undersell={"units": 3, "causes": {"unknown": 3}},
        kept="postgres -D /tmp/data",
    )

    assert_fits(report)
    for name in violated:
        assert f"✗ {name} 7: word" in report


def test_refused_orders_have_percentiles_of_their_own() -> None:
    """Quick refusals must not make placing an order look quick."""
    report = rendered(response_time_ms={"order": TIMES, "order_refused": {**TIMES, "p50": 0.3}})

    assert "order placed" in report
    assert "order refused" in report


@pytest.mark.parametrize(("edition", "title"), [("seekdb", "OceanBase"), ("unistore", "TiDB")])
def test_a_lesser_edition_never_stands_as_the_whole_database(edition: str, title: str) -> None:
    """The rate stands beside the edition, and a sentence says what it is not."""
    engine = {"name": title.lower(), "edition": edition, "version": "1.4.0", "cluster": "embedded", "nodes": 1}
    report = render(summary(engine=engine), {"engine": {"title": title}}, run_dir="runs/x")

    assert f"on {edition} 1.4.0" in report.splitlines()[1]
    assert "no figure here is one of" in report


def test_a_missed_objective_comes_before_the_met_ones_and_beside_valid() -> None:
    """A valid run that missed an objective does not look green."""
    report = rendered(
        slo=[
            {"text": "order.p99<=200ms", "value": 22.1, "met": True},
            {"text": "placed_per_second>=500", "value": 198.3, "met": False},
        ]
    )

    assert "1 objective missed" in report.splitlines()[0]
    assert report.index("✗ placed_per_second>=500: 198.3 /s") < report.index("✓ order.p99<=200ms: 22.1 ms")


def test_stale_reads_of_replicas_are_told_and_are_no_violation() -> None:
    """How many, how old, and the stalest one in words; a run without replicas has no such line."""
    one = {"reads": 40, "stale": 3, "stale_percent": 7.5, "staleness_ms": {"p50": 1.25, "p99": 30.0, "max": 30.0}}
    more = {"read_your_writes": 2, "monotonic_reads": 0, "witnesses": {"stale": "browse 7 saw SKU 3 at version 9"}}

    report = rendered(replica_reads={**one, **more, "by_replica": [one]})

    assert report.startswith("VALID")
    assert "40 reads from 1 replica: stale 3 (7.5 %), by ms: p50 1.2, p99 30.0, max 30.0; older than the" in report
    assert "own writes 2, than its earlier reads 0" in report
    assert "stale: browse 7 saw SKU 3 at version 9" in report
    assert "Replicas" not in rendered(replica_reads=None)


def test_a_saturated_client_is_blamed() -> None:
    """A figure that the client limited says so."""
    client = {"cpu_seconds": 50.0, "cpu_us_per_order": 141.2, "saturated_seconds": 12, "peak_rss_mb": 151}

    assert "the client was the bottleneck in 12 seconds" in rendered(client=client)


def test_a_kept_server_is_told_whole_however_long_its_command() -> None:
    """The command can be copied: it is on one line."""
    command = "sudo -u postgres " + "/a/long/path" * 20

    report = rendered(kept=command)

    assert any(line.strip() == command for line in report.splitlines())
    assert "psql -h /tmp/data" in report


def test_an_empty_summary_still_makes_a_report() -> None:
    """A run that could not be judged is reported too, and never as valid."""
    report = render({}, {}, run_dir="runs/x")

    assert report.startswith("UNKNOWN ")
    assert "runs/x" in report


def test_colour_adds_nothing_but_colour() -> None:
    """Without its escape sequences the coloured report is the plain one, but for the verdict's box."""
    import re

    report = rendered(verdict="invalid", checks=[check("oversell", 3, "one too many")], warnings=["fsync is off"])
    plain = re.sub(r"\033\[[0-9;]*m", "", coloured(report))

    assert "\033[" not in report
    assert [line.split() for line in plain.splitlines()] == [line.split() for line in report.splitlines()]


@pytest.mark.parametrize("width", [40, 60, 72, 80, 100, 109, 110])
def test_report_fits_the_terminal_and_breaks_no_word(width: int) -> None:
    """Every line but those to copy has at most its columns, and the words are those of the widest report."""
    long_witness = "order 17 (token 5) was acknowledged at 12.3 s and is gone " * 4
    checks = [check(name) for name in CHECKS[1:]] + [check(CHECKS[0], 3, long_witness)]
    changes = {"verdict": "invalid", "checks": checks, "warnings": ["a warning that is long enough to be wrapped " * 3]}
    report = render(summary(**changes), PLAN_FACTS, run_dir="runs/x", width=width, height=200)

    assert max(len(line) for line in report.splitlines() if "loadgen check" not in line) <= max(width, 41)
    assert set(report.split()) - {"…"} <= set(rendered(**changes).split()) | set(long_witness.split()) | set(
        " ".join(changes["warnings"]).split()
    ) | {"response", "service", "ms,", "from", "due", "sent"}
    assert report.count("p99.9") == 2 or width < 72


@pytest.mark.parametrize("verdict", ["valid", "invalid", "unknown"])
def test_verdict_is_the_first_line_and_the_last_one(verdict: str) -> None:
    """Whoever looks at the end of a log sees it, too; in colour twice."""
    report = rendered(verdict=verdict, checks=[check("oversell", *([1] if verdict == "invalid" else []))])
    lines = report.splitlines()

    assert lines[-1].startswith(verdict.upper() + ": ")
    assert lines[0].split() == lines[-1].replace(":", "", 1).split()
    assert coloured(report).splitlines()[-1].startswith("\033[1;")


def test_marks_stay_apart_without_utf_8() -> None:
    """In ASCII and in Latin-1, what holds, what is violated and what is undecided have signs of their own."""
    report = rendered(
        verdict="invalid",
        checks=[check("oversell", 1, "gone"), check("ghost", unknown="no reads"), check("lost-order")],
    )
    for encoding in ("ascii", "latin-1", "cp437"):
        text = report.encode(encoding, HANDLER).decode(encoding)
        assert "X oversell 1" in text
        assert "? undecided: ghost" in text
        assert "+ lost-order" in text or "√ lost-order" in text
    assert "µ" not in report.encode("ascii", HANDLER).decode()


@pytest.mark.parametrize(
    ("named", "expected"),
    [("80", 80), ("200", WIDTH), ("1", 40), ("", WIDTH), ("wide", WIDTH), ("-5", WIDTH), ("0", WIDTH)],
)
def test_columns_are_what_the_environment_says(named: str, expected: int, tmp_path: Path) -> None:
    """COLUMNS beats everything; nonsense is none, and a file has no width."""
    with (tmp_path / "file").open("w") as file:
        assert columns(file, {"COLUMNS": named}) == expected
        assert terminal_columns(file, {}) == 0


def test_what_stays_on_an_existing_server_is_told() -> None:
    """And how it is removed; a server of the run's own is gone with it."""
    facts = {**PLAN_FACTS, "plan": sale_plan(cluster="existing").to_json()}

    assert "loadgen clean" in render(summary(), facts, run_dir="runs/x")
    assert "loadgen clean" not in rendered()


@pytest.mark.parametrize("width", [0, 60, 80, 120])
def test_line_of_progress_breaks_between_words(width: int) -> None:
    """And is whole where there is no terminal."""
    line = "   1s due 22 placed 22/s fail 0 info 0 skip 0 | busy 4+0 | p50 17 p99 168 lag 108 ms"

    assert folded(line, width).split() == line.split()
    assert max(map(len, folded(line, width).splitlines())) <= (width or len(line))
    assert folded(line, width).startswith("   1s")
    assert (folded(line, width) == line) == (width in (0, 120))
