"""The summary that a person reads at the end of a run: the verdict first, and all of it on one screen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from loadgen.clock import pause_words
from loadgen.plan import DEFAULTS, FIELDS
from loadgen.report.edition import NOT_THE_CLUSTER, engine_title
from loadgen.report.page import MARGIN, WIDTH, Page, margin_for
from loadgen.report.words import counts_in, own_lines, words_in
from loadgen.untrusted import printable
from loadgen.workload.facts import WorkloadFacts, words_of

HEIGHT = 51
MOST_SHOWN = 4
"""How many errors, objectives and warnings are listed, if there is room."""
WITNESS_LINES = 4
"""Lines that one witness may take where there are few of them."""

KINDS = words_of(DEFAULTS.workload, {}).timed
"""What has response times in a run of the default workload, in their order in the report."""
NOT_ANSWERS = {
    *("kind", "noun", "good", "acknowledged", "due", "started", "ok", "fail", "info", "skipped"),
    *("per_second_mean", "per_second_peak"),
}
"""Figures of the main kind that count no answer."""
WANTED_DURABILITY = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "synchronous_standby_names",
    "innodb_flush_log_at_trx_commit",
    "sync_binlog",
    "commit_log",
)

Facts = Mapping[str, Any]


def render(summary: Facts, plan_facts: Facts, *, run_dir: str, height: int = HEIGHT, width: int = WIDTH) -> str:
    """The report of one run as plain text, at most ``height`` lines of WIDTH columns; fewer make it longer.

    ``summary`` is summary.json, ``plan_facts`` is plan.json (either may lack keys: a broken run is reported too).
    Only where even the shortest form does not fit is it longer: each violated check keeps a line. The verdict is the
    first line and the last one.
    """
    lines: list[str] = []
    words, own = words_in(summary, plan_facts), own_lines(summary, plan_facts)
    margin = margin_for([f"{_things(words)}/s", *(label for label, *_ in own)], width)
    for shown in range(MOST_SHOWN, 0, -1):
        page = Page(shown, width, margin)
        lines = _page(summary, plan_facts, run_dir, height, page, words, own)
        if len(lines) <= height:
            break
    return printable("\n".join(lines) + "\n")


def _page(
    summary: Facts,
    plan_facts: Facts,
    run_dir: str,
    height: int,
    top: Page,
    words: WorkloadFacts,
    own: Sequence[Sequence[str]],
) -> list[str]:
    """The report's lines, on pages like ``top``."""
    checks, bottom = replace(top, lines=[]), replace(top, lines=[])
    _verdict(top, summary)
    _counts(top, summary, plan_facts, words)
    _isolation(top, summary, words)
    _times(top, summary, words)
    _errors(top, summary)
    for label, *told in own:
        bottom.add(label, *told, most_lines=3)
    _slos(bottom, summary)
    _client(bottom, summary, words)
    _warnings(bottom, summary)
    _what_ran(bottom, summary, plan_facts, words)
    _where(bottom, summary, plan_facts, run_dir)
    verdict, _, text = top.lines[0].partition(" ")
    bottom.lines.append(f"{verdict}: {text.strip()}")
    _checks(checks, summary, height - len(top.lines) - len(bottom.lines))
    return top.lines + checks.lines + bottom.lines


def _title(summary: Facts, plan_facts: Facts) -> str:
    """The engine beside a figure, by what the summary knows and, where it lacks it, the plan."""
    told = {name: value for name, value in (summary.get("engine") or {}).items() if value}
    return engine_title({**(plan_facts.get("engine") or {}), **told})


def _verdict(page: Page, summary: Facts) -> None:
    checks = _check_list(summary)
    bad = [check for check in checks if check.get("verdict") == "invalid"]
    verdict = str(summary.get("verdict", "unknown"))
    if bad:
        counts = ", ".join(f"{check['name']} {_count(check.get('anomalies', 0))}" for check in bad)
        text = f"{len(bad)} of {len(checks)} checks proved a violation: {counts}"
    elif verdict == "valid":
        text = f"all {len(checks)} checks hold"
        missed = [slo for slo in summary.get("slo") or () if not slo.get("met")]
        text += f"; {_plural(len(missed), 'objective')} missed" if missed else ""
        text += f", but {summary['exit_reason']} (exit code 1)" if summary.get("exit_reason") else ""
    else:
        open_checks = [check for check in checks if check.get("verdict") != "valid"]
        text = f"no violation was proved, but {len(open_checks)} of {len(checks)} checks could not decide"
        if not checks:
            text = "the run was not judged"
    page.add(verdict.upper(), text)
    if died := summary.get("died"):
        page.add("", f"{_plural(len(died), 'load process')} died: {', '.join(map(str, died))}", most_lines=1)
    for name, reason in (summary.get("lost") or {}).items():
        page.add("", f"load process {name} was lost: {reason}", most_lines=1)
    if cut_short := summary.get("cut_short") or summary.get("error"):
        page.add("", f"cut short: {cut_short}")
    if reason := summary.get("unknown"):
        page.add("", str(reason))


def _what_ran(page: Page, summary: Facts, plan_facts: Facts, words: WorkloadFacts) -> None:
    plan, engine = plan_facts.get("plan") or {}, plan_facts.get("engine") or {}
    cluster = (summary.get("engine") or {}).get("cluster") or plan.get("cluster", "")
    nodes = (summary.get("engine") or {}).get("nodes") or plan.get("nodes", 1)
    replication = (plan_facts.get("cluster") or {}).get("replication") or {}
    replicated = f" ({replication['kind']})" if replication.get("kind") else ""
    title = _title(summary, plan_facts)
    level = engine.get("level") or (summary.get("engine") or {}).get("isolation") or ""
    asked = "as asked" if plan.get("isolation") else "its default"
    means = f", documented as {engine['means']}" if engine.get("means") else ""
    page.add("Engine", f"{title}, {cluster}, {_plural(int(nodes), 'node')}{replicated}; {level} ({asked}{means})")
    durability = plan_facts.get("durability") or {}
    if told := ", ".join(f"{name}={durability[name]}" for name in WANTED_DURABILITY if durability.get(name)):
        page.add("", f"durability: {told}", most_lines=1)
    edition = str((summary.get("engine") or {}).get("edition") or engine.get("edition") or "")
    if edition in NOT_THE_CLUSTER and not any(edition in str(warning) for warning in summary.get("warnings") or ()):
        page.add("", NOT_THE_CLUSTER[edition])
    if plan:
        started = summary.get("started_utc") or plan_facts.get("started_utc", "")
        rate = f"peak {plan['peak_rate']:,g} {words.noun}s/s"
        if plan["shape"] == "closed":
            rate = pause_words(plan.get("think_time_s") or (0, 0)) or "as fast as answered"
        page.add(
            "Plan",
            f"{plan['workload']}, {plan['shape']} {rate} for {plan['duration_s']:g} s, {_own_options(plan)}"
            f"{_count(plan['sessions'])} sessions, seed {plan['seed']}; started {started}",
        )
        _sessions(page, summary, plan)


def _things(words: WorkloadFacts) -> str:
    """What the ops of the main kind are called, as a label."""
    return f"{words.noun[:1].upper()}{words.noun[1:]}s"


def _own_options(plan: Facts) -> str:
    """The options that are the workload's own, each with its value."""
    own = {name.replace("_", "-"): value for name, value in plan.items() if name not in FIELDS}
    return "".join(f"{name} {_count(value) if type(value) is int else value}, " for name, value in own.items())


def _sessions(page: Page, summary: Facts, plan: Facts) -> None:
    """From which second on there were how many sessions, where that was not what was planned, all the time."""
    changes = [change for change in summary.get("sessions") or () if isinstance(change, Sequence) and len(change) == 2]
    if changes and any(count != plan["sessions"] for _, count in changes):
        told = ", ".join(f"{_count(count)} from second {_count(second)}" for second, count in changes[:6])
        page.add("", f"sessions over time: {told}{', …' if len(changes) > 6 else ''}")


def _counts(page: Page, summary: Facts, plan_facts: Facts, words: WorkloadFacts) -> None:
    counts = counts_in(summary, words)
    if not counts:
        return
    things = _things(words)
    page.add(
        f"{things}/s",
        f"{_rate(counts.get('per_second_mean'))} mean, {_rate(counts.get('per_second_peak'))} in the best second "
        f"({words.good or 'ok'} {words.noun}s only) on {_title(summary, plan_facts)}",
    )
    page.add("Limit", *_limit(summary), most_lines=3)
    due, started, skipped = (counts.get(name, 0) for name in ("due", "started", "skipped"))
    share = f" ({100 * skipped / due:.1f} %{_causes(summary)})" if due else ""
    parts = [
        f"{words.title(name).replace('_', ' ')} {_count(count)}"
        for name, count in counts.items()
        if name not in NOT_ANSWERS
    ]
    answers = f" ({', '.join(parts)})" if parts else ""
    page.add(
        things,
        f"due {_count(due)} = started {_count(started)} + skipped {_count(skipped)}{share}",
        f"started = ok {_count(counts.get('ok', 0))}{answers} + fail {_count(counts.get('fail', 0))} "
        f"+ info {_count(counts.get('info', 0))}",
    )


def _limit(summary: Facts) -> list[str]:
    """Whether the figures are what the server can do."""
    return [str(summary["limit"])] if summary.get("limit") else []


def _causes(summary: Facts) -> str:
    """Why ops were skipped, where it was not only because they were late."""
    causes = {name: count for name, count in (summary.get("skipped_because") or {}).items() if count}
    if not set(causes) - {"late"}:
        return ""
    return ": " + ", ".join(f"{name.replace('_', ' ')} {_count(count)}" for name, count in causes.items())


def _isolation(page: Page, summary: Facts, words: WorkloadFacts) -> None:
    """Of a workload of nothing but transactions always; beside other checks only where something was broken."""
    isolation = summary.get("isolation") or {}
    if not isolation or not (words.all_kinds_count or isolation.get("anomalies")):
        return
    page.add(
        "Isolation",
        f"documented {isolation['documented']}: {isolation['verdict']}; "
        f"ruled out: {', '.join(isolation['ruled_out']) or 'nothing'}; "
        f"not ruled out: {', '.join(isolation['kept']) or 'nothing'}",
        *(f"beyond what is documented, {name}: {witness}" for name, witness in isolation.get("beyond", {}).items()),
        most_lines=3,
    )


def _times(page: Page, summary: Facts, words: WorkloadFacts) -> None:
    response, service = summary.get("response_time_ms") or {}, summary.get("service_time_ms") or {}
    names = (*words.timed, *sorted(set(response) - set(words.timed)))
    kinds = [kind for kind in names if (response.get(kind) or {}).get("count")]
    if not kinds:
        return

    def row(kind: str, times: Facts, names: Sequence[str]) -> str:
        return "".join(f"{_ms((times.get(kind) or {}).get(name)):>8}" for name in names)

    def head(names: Sequence[str]) -> str:
        return "".join(f"{name.replace('p999', 'p99.9'):>8}" for name in names)

    responses, services = ("p50", "p95", "p99", "p999", "max"), ("p50", "p99", "p999", "max")
    longest = min(max(14, *(len(words.title(kind)) + 1 for kind in kinds)), 14 + (page.width - MARGIN) // 5)
    titles = [
        f"{_cut(words.title(kind), longest - 1):<{longest}}{_count(response[kind]['count']):>9}" for kind in kinds
    ]
    table = longest + 9 + 8 * len(responses) + 3 + 8 * len(services)
    if page.width >= max(WIDTH, MARGIN + table):
        left = " " * min(page.margin, page.width - table)
        above = f"{'response ms, from due':>{9 + 8 * len(responses)}}   {'service ms, from sent':>{8 * len(services)}}"
        page.lines.append(f"{'Times':<{len(left) + longest}}{above}")
        page.lines.append(f"{left}{'kind':<{longest}}{'count':>9}{head(responses)}   {head(services)}")
        for kind, title in zip(kinds, titles, strict=True):
            page.lines.append(f"{left}{title}{row(kind, response, responses)}   {row(kind, service, services)}")
        return
    for what, times, names in (
        ("response ms, from due", response, responses),
        ("service ms, from sent", service, services),
    ):
        # The last of them are the ones that matter most; on the narrowest terminal the labels have no room.
        fitting = names[-max(1, (page.width - page.margin - longest - 9) // 8) :]
        margin = " " * page.margin if page.width >= page.margin + longest + 9 + 8 else ""
        page.lines.append(f"{'Times' if times is response else '':<{page.margin}}{what}")
        page.lines.append(f"{margin}{'kind':<{longest}}{'count':>9}{head(fitting)}")
        page.lines += [f"{margin}{title}{row(kind, times, fitting)}" for kind, title in zip(kinds, titles, strict=True)]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _errors(page: Page, summary: Facts) -> None:
    errors: Sequence[Facts] = summary.get("errors") or ()
    lines = [
        f"{_count(error.get('count', 0)):>8} × {error.get('code', '')} {error.get('class', '')} at "
        f"{error.get('stage', '')}: {error.get('sample') or 'no text'}"
        for error in sorted(errors, key=lambda error: -int(error.get("count", 0)))
    ]
    for index, line in enumerate(lines[: page.shown]):
        page.add("" if index else "Errors", line, most_lines=1)
    if len(lines) > page.shown:
        page.add("", f"and {_plural(len(lines) - page.shown, 'other kind')} of error, in summary.json")


def _checks(page: Page, summary: Facts, room: int) -> None:
    """Violated checks with a witness each, as long as ``room`` lines allow; the others by name."""
    checks = _check_list(summary)
    bad = [check for check in checks if check.get("verdict") == "invalid"]
    unsure = [check for check in checks if check.get("verdict") not in ("invalid", "valid")]
    good = [str(check["name"]) for check in checks if check.get("verdict") == "valid"]
    room -= min(4, page.shown) * bool(good) + min(3, page.shown) * bool(unsure)
    each = max(1, min(WITNESS_LINES, room // len(bad))) if bad else 0
    label = "Checks"
    for check in bad:
        text = f"✗ {check['name']} {_count(check.get('anomalies', 0))}: {_witness(check)}"
        page.add(label, text, most_lines=each)
        label = ""
    if unsure:
        names = ", ".join(str(check["name"]) for check in unsure) if good or bad else f"all {len(unsure)}"
        reasons = list(dict.fromkeys(str(check.get("unknown") or "no reason given") for check in unsure))
        page.add(label, f"? undecided: {names}: {'; '.join(reasons)}", most_lines=3)
        label = ""
    if good:
        page.add(label, f"✓ {', '.join(good)}", most_lines=4)


def _slos(page: Page, summary: Facts) -> None:
    slos: Sequence[Facts] = sorted(summary.get("slo") or (), key=lambda slo: bool(slo.get("met")))
    for index, slo in enumerate(slos[: page.shown]):
        unit = " %" if slo["text"].endswith("%") else " ms" if slo["text"].endswith("s") else " /s"
        value = "not measured" if slo.get("value") is None else f"{slo['value']:,.4g}{unit}"
        page.add("" if index else "SLO", f"{'✓' if slo.get('met') else '✗'} {slo['text']}: {value}", most_lines=1)
    if len(slos) > page.shown:
        page.add("", f"and {len(slos) - page.shown} more, in summary.json")


def _client(page: Page, summary: Facts, words: WorkloadFacts) -> None:
    client = summary.get("client") or {}
    if client.get("cpu_us_per_order") is None:
        return
    noun = f"{'an' if words.noun[:1] in 'aeiou' else 'a'} {words.noun}"
    page.add(
        "Client",
        f"{client['cpu_us_per_order']:,.0f} µs of CPU {noun}, "
        f"{client.get('cpu_seconds') or 0:,.1f} s in all, "
        f"{client.get('peak_rss_mb') or 0:,.0f} MB at most; {_blame(summary)}",
    )


def _blame(summary: Facts) -> str:
    """Whether it was the client that held the run back: its CPU, or its sessions."""
    saturated = round((summary.get("client") or {}).get("saturated_seconds") or 0)
    limited_by = summary.get("limited_by")
    if limited_by == "sessions":
        return "its CPU was not the bottleneck, its sessions were too few"
    if not saturated:
        return "the client was not the bottleneck"
    if "limited_by" in summary and limited_by not in ("client", "closed"):
        held = "" if limited_by else " and held nothing back"
        return f"its CPU was saturated in {_plural(saturated, 'second')}{held}"
    return f"the client was the bottleneck in {_plural(saturated, 'second')}: give it --processes, or other cores"


def _warnings(page: Page, summary: Facts) -> None:
    warnings = [str(warning) for warning in dict.fromkeys(summary.get("warnings") or ())]
    for index, warning in enumerate(warnings[: page.shown]):
        page.add("" if index else "Warnings", f"- {warning}")
    if len(warnings) > page.shown:
        page.add("", f"- and {len(warnings) - page.shown} more, in summary.json")


def _where(page: Page, summary: Facts, plan_facts: Facts, run_dir: str) -> None:
    # Commands are never wrapped or cut: they are there to be copied.
    told = [run_dir]
    if kept := summary.get("kept"):
        told += ["the server's data is kept; start it with", f"  {kept}"]
        if connect := (plan_facts.get("cluster") or {}).get("connect"):
            told += [f"and look at it with  {connect}"]
    if (plan_facts.get("plan") or {}).get("cluster") == "existing":
        told += ["left on the server: loadgen's own schema with the tables of this run; to remove it:  loadgen clean"]
    if page.shown > 1 or not summary.get("kept"):
        told += [f"judge it again:  loadgen check {run_dir}"]
    page.lines += [f"{'' if index else 'Run':<{page.margin}}{line}" for index, line in enumerate(told)]


def _check_list(summary: Facts) -> list[Facts]:
    return [check for check in summary.get("checks") or () if isinstance(check, Mapping) and "name" in check]


def _witness(check: Facts) -> str:
    witness = check.get("witness") or "no witness"
    return str(witness if isinstance(witness, str) else next(iter(witness), "no witness"))


def _count(value: Any) -> str:
    return f"{int(value):,}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"


def _rate(value: Any) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def _ms(value: Any) -> str:
    return "-" if value is None else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"
