"""Grafana's dashboards, made by its own SDK: ``python dashboards/build.py`` writes them into ``grafana/dashboards``.

Legends and groups come from labels, so that every workload, engine and strategy has its own. A quantile asks for the
native histogram first and for the classic one where Prometheus has no native ones.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER = Path(__file__).parent / "grafana" / "dashboards"
SOURCE = dashboard.DataSourceRef("prometheus", "${datasource}")
RANGE = "[$__rate_interval]"
CHOSEN = 'job=~"$job",instance=~"$instance"'
WHOLE = 24
"""The columns of a dashboard."""

Query = tuple[str, str]
"""An expression and its legend."""
Panels = Sequence[Any]
Rows = Sequence[tuple[str, Panels]]


# Expressions


def of(metric: str, *labels: str, chosen: str = CHOSEN) -> str:
    """A metric of the load processes that were chosen."""
    return f"{metric}{{{','.join((*labels, chosen)).strip(',')}}}"


def per_second(metric: str, *labels: str, by: str = "", chosen: str = CHOSEN) -> str:
    """How much a counter grows in a second, over all processes."""
    return f"sum{by_of(by)} (rate({of(metric, *labels, chosen=chosen)}{RANGE}))"


def by_of(*labels: str) -> str:
    """The clause that keeps these labels."""
    kept = ", ".join(label for label in labels if label)
    return f" by ({kept})" if kept else ""


def quantile(share: float, metric: str, by: str = "kind", chosen: str = CHOSEN) -> str:
    """A quantile of a histogram, from native buckets where there are any."""
    native = f"sum{by_of(by)} (rate({of(metric, chosen=chosen)}{RANGE}))"
    classic = f"sum{by_of(by, 'le')} (rate({of(metric + '_bucket', chosen=chosen)}{RANGE}))"
    return f"histogram_quantile({share}, {native}) or histogram_quantile({share}, {classic})"


RUN = "run_id, engine, strategy, isolation, workload"
JOIN = f"* on (job, instance) group_left ({RUN}) {of('loadgen_run_info')}"


def by_run(expression: str) -> str:
    """What load processes show, with the labels of the run that each has a part in."""
    return f"({expression}) {JOIN}"


ALL = per_second("loadgen_ops_total")
OK = per_second("loadgen_ops_total", 'outcome="ok"')
LOST = per_second("loadgen_ops_total", 'outcome!="ok"')
SKIPPED = per_second("loadgen_ops_total", 'outcome="skipped"')


def verdict(name: str) -> str:
    """The runs with this verdict."""
    return of("loadgen_verdict", f'verdict="{name}"')


# Panels


def lines(title: str, unit: str, *queries: Query, stacked: bool = False, log: bool = False, help_text: str = "") -> Any:
    """Curves over time."""
    made = timeseries.Panel().title(title).unit(unit).min(0).fill_opacity(10 if stacked else 0).line_width(2)
    made = made.legend(
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["mean", "max"])
    ).tooltip(
        common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    )
    if stacked:
        made = made.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if log:
        made = made.scale_distribution(
            common_builders.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        )
    return asked(made, queries).description(help_text or title)


def number(title: str, unit: str, *queries: Query, help_text: str = "", bad_from: float | None = None) -> Any:
    """The latest value of each series; with ``bad_from`` red from there on, else green."""
    steps = [dashboard.Threshold(None, "green")]
    if bad_from is not None:
        steps.append(dashboard.Threshold(bad_from, "red"))
    thresholds = build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
    made = stat.Panel().title(title).unit(unit).thresholds(thresholds).text_mode(common.BigValueTextMode.AUTO)
    made = made.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    return asked(made.graph_mode(common.BigValueGraphMode.NONE), queries).description(help_text or title)


def names(title: str, expression: str, label: str, help_text: str = "") -> Any:
    """The label of the series that is there: a state, a phase or a verdict, over time."""
    made = statetimeline.Panel().title(title).show_value(common.VisibilityMode.NEVER).row_height(0.9)
    thresholds = build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE)
    steps = [dashboard.Threshold(None, "transparent"), dashboard.Threshold(1, "blue")]
    made = made.thresholds(thresholds.steps(steps))
    colours = build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS)
    return asked(made.color_scheme(colours), [(expression, f"{{{{{label}}}}}")]).description(help_text or title)


def rows_of(title: str, *queries: Query, help_text: str = "") -> Any:
    """A table of the latest values: a row for each series."""
    made = table.Panel().title(title).description(help_text or title).datasource(SOURCE).show_header(True)
    for index, (expression, legend) in enumerate(queries):
        target = prometheus.Dataquery().expr(expression).instant().format(PromQueryFormat.TABLE)
        made = made.with_target(target.ref_id(chr(ord("A") + index)).legend_format(legend))
    hidden = {"Time": True, "__name__": True}
    return made.with_transformation(
        dashboard.DataTransformerConfig("organize", options={"excludeByName": hidden, "indexByName": {}})
    )


def heat(title: str, metric: str, help_text: str = "") -> Any:
    """Where the times of all ops lie, second by second."""
    expression = f"sum (rate({of(metric)}{RANGE})) or sum by (le) (rate({of(metric + '_bucket')}{RANGE}))"
    made = heatmap.Panel().title(title).description(help_text or title).datasource(SOURCE).calculate(False)
    made = made.y_axis(heatmap.YAxisConfig().unit("s")).color(heatmap.HeatmapColorOptions().scheme("Turbo").steps(64))
    target = prometheus.Dataquery().expr(expression).range().format(PromQueryFormat.HEATMAP).ref_id("A")
    return made.with_target(target.legend_format("{{le}}"))


def asked(made: Any, queries: Sequence[Query]) -> Any:
    """The panel with its queries over time."""
    made = made.datasource(SOURCE)
    for index, (expression, legend) in enumerate(queries):
        target = prometheus.Dataquery().expr(expression).range().legend_format(legend)
        made = made.with_target(target.ref_id(chr(ord("A") + index)))
    return made


# Dashboards


def variable(name: str, label: str, query: str) -> Any:
    """A choice among the values of a label, all of them at first."""
    made = build.QueryVariable(name).label(label).query(query).datasource(SOURCE).multi(True).include_all(True)
    made = made.all_value(".*").refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return made.current(dashboard.VariableOption(selected=True, text="All", value="$__all"))


def page(uid: str, title: str, text: str, rows: Rows, *variables: Any) -> Any:
    """One dashboard. Panels of a row share its width; each row is as high as a row of curves, or of numbers."""
    made = build.Dashboard(title).uid(uid).description(text).tags(["loadgen"]).timezone("browser").editable()
    made = made.time("now-15m", "now").refresh("5s").tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    made = made.with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    for each in variables:
        made = made.with_variable(each)
    link = build.DashboardLink("loadgen").type(dashboard.DashboardLinkType.DASHBOARDS).tags(["loadgen"])
    made = made.link(link.as_dropdown(True).include_vars(True).keep_time(True))
    ids = itertools.count(1)
    for name, panels in rows:
        made = made.with_row(build.Row(name).id(next(ids)))
        low = all(isinstance(each, stat.Panel) for each in panels)
        width, height = (WHOLE // min(len(panels), 4), 4) if low else (WHOLE // min(len(panels), 2), 8)
        for each in panels:
            made = made.with_panel(each.id(next(ids)).span(width).height(height))
    return made


def load_variables() -> tuple[Any, ...]:
    """Which load processes are shown."""
    return (
        variable("job", "Job", "label_values(loadgen_run_state, job)"),
        variable(
            "instance",
            "Process",
            'label_values({__name__=~"loadgen_run_info|loadgen_run_state",job=~"$job"}, instance)',
        ),
    )


def sale() -> Any:
    """A run of any workload as it goes on."""
    good = per_second("loadgen_ops_total", 'outcome="ok"', by="kind, answer")
    rows: Rows = (
        (
            "Now",
            (
                number("Answers a second", "ops", (per_second("loadgen_ops_total", 'outcome="ok"'), "answered")),
                number("Response p99", "s", (quantile(0.99, "loadgen_response_seconds"), "{{kind}}")),
                number(
                    "Skipped",
                    "percentunit",
                    (
                        f"{SKIPPED} / {ALL}",
                        "of ops",
                    ),
                    help_text="Ops that were due and that no session could take in time: they were never sent.",
                    bad_from=0.01,
                ),
                number(
                    "Violations",
                    "short",
                    (f"sum ({of('loadgen_violations')}) or vector(0)", "proved"),
                    help_text="Known once the run has ended and was judged; 0 before.",
                    bad_from=1,
                ),
            ),
        ),
        (
            "The run",
            (
                rows_of("Runs", (of("loadgen_run_info"), ""), help_text="What each process runs, or ran last."),
                names("Phase", f"max by (phase) ({of('loadgen_phase')})", "phase"),
                names("State", f"max by (state) ({of('loadgen_run_state')})", "state"),
                names("Verdict", f"max by (verdict) ({of('loadgen_verdict')})", "verdict", "Known after the end."),
            ),
        ),
        (
            "Arrivals and answers",
            (
                lines(
                    "Asked, due and sent",
                    "ops",
                    (f"sum ({of('loadgen_arrivals_planned_per_second')})", "arrivals that the shape asks for"),
                    (per_second("loadgen_ops_due_total"), "due, with what follows"),
                    (per_second("loadgen_ops_started_total"), "sent"),
                    (per_second("loadgen_ops_total", 'outcome="skipped"'), "skipped"),
                ),
                lines("Answers", "ops", (good, "{{kind}}: {{answer}}"), stacked=True),
                lines(
                    "Not answered",
                    "ops",
                    (per_second("loadgen_ops_total", 'outcome!="ok"', by="kind, outcome"), "{{kind}}: {{outcome}}"),
                    help_text="fail: it did not happen. info: nobody knows. skipped: it was never sent.",
                ),
                lines(
                    "Tries that failed",
                    "ops",
                    (f"{per_second('loadgen_tries_failed_total', by='class')} or vector(0)", "{{class}}"),
                    help_text="By class of error, whether they were tried again or not.",
                ),
            ),
        ),
        (
            "Times",
            (
                lines(
                    "Response time",
                    "s",
                    (quantile(0.5, "loadgen_response_seconds"), "{{kind}} p50"),
                    (quantile(0.99, "loadgen_response_seconds"), "{{kind}} p99"),
                    log=True,
                    help_text="From the instant when an op was due: what a customer waits.",
                ),
                lines(
                    "Service time",
                    "s",
                    (quantile(0.5, "loadgen_service_seconds"), "{{kind}} p50"),
                    (quantile(0.99, "loadgen_service_seconds"), "{{kind}} p99"),
                    log=True,
                    help_text="From the instant when it was sent: what the database takes.",
                ),
                heat("Response times", "loadgen_response_seconds"),
                heat("Service times", "loadgen_service_seconds"),
            ),
        ),
        (
            "The client",
            (
                lines(
                    "Sessions",
                    "short",
                    (f"sum ({of('loadgen_sessions_connected')})", "connected"),
                    (f"sum ({of('loadgen_sessions_busy')})", "busy"),
                    (f"sum ({of('loadgen_ops_queued')})", "ops that wait for one"),
                ),
                lines(
                    "CPU of each process",
                    "percentunit",
                    (f"rate({of('loadgen_client_cpu_seconds_total')}{RANGE})", "{{instance}}"),
                    (f"rate({of('loadgen_client_saturated_seconds_total')}{RANGE})", "{{instance}} was the limit"),
                ),
                lines(
                    "Lag of the load's loop",
                    "s",
                    (quantile(0.99, "loadgen_loop_lag_seconds", by="instance"), "{{instance}} p99"),
                ),
            ),
        ),
    )
    text = "A run of any workload: what is due, what is answered, how long it takes, and whether the client keeps up."
    return page("loadgen-sale", "loadgen: the sale", text, rows, *load_variables())


def capacity() -> Any:
    """How much a system carries within an objective."""
    slowest = f"max ({quantile(0.99, 'loadgen_response_seconds')})"
    share_lost = f"{LOST} / {ALL}"
    within = f"{OK} and on () ({slowest}) <= $objective and on () ({share_lost}) <= 0.01"
    rows: Rows = (
        (
            "Within the objective",
            (
                number(
                    "Highest rate within it",
                    "ops",
                    (f"max_over_time(({within})[$__range:$__interval])", "answers a second"),
                    help_text="The highest rate of answers in the time shown at which the slowest kind's p99 met the "
                    "objective, and at most 1 % of the ops were not answered.",
                ),
                number(
                    "Highest rate at all", "ops", (f"max_over_time(({OK})[$__range:$__interval])", "answers a second")
                ),
                number(
                    "Time within it",
                    "percentunit",
                    (
                        f"avg_over_time((({slowest}) <= bool $objective)[$__range:$__interval])",
                        "of the time with answers",
                    ),
                ),
                number(
                    "The client was the limit",
                    "s",
                    (f"sum (increase({of('loadgen_client_saturated_seconds_total')}[$__range]))", "seconds"),
                    help_text="A capacity measured in such seconds is the client's, not the server's.",
                    bad_from=1,
                ),
            ),
        ),
        (
            "Rate and response",
            (
                lines(
                    "Rate",
                    "ops",
                    (f"sum ({of('loadgen_arrivals_planned_per_second')})", "arrivals that the shape asks for"),
                    (OK, "answered"),
                    (within, "answered within the objective"),
                ),
                lines(
                    "Response p99 by kind",
                    "s",
                    (quantile(0.99, "loadgen_response_seconds"), "{{kind}}"),
                    ("vector($objective)", "objective"),
                    log=True,
                ),
                lines("Not answered", "percentunit", (share_lost, "of ops")),
                lines(
                    "Waiting",
                    "short",
                    (f"sum ({of('loadgen_ops_queued')})", "ops that wait for a session"),
                    (f"sum ({of('loadgen_sessions_busy')})", "busy sessions"),
                    help_text="All sessions busy and a queue: more sessions, or a faster server, are what is missing.",
                ),
            ),
        ),
    )
    text = "How many answers a second a system gives within an objective for the p99, and what was missing beyond it."
    objective = build.TextBoxVariable("objective").label("Objective for p99, seconds").default_value("0.2")
    return page("loadgen-capacity", "loadgen: capacity", text, rows, *load_variables(), objective)


def comparison() -> Any:
    """Engines and strategies side by side: of runs that go on at the same time, or one after the other."""
    legend = "{{engine}} {{strategy}} {{isolation}}"
    by = "engine, strategy, isolation"
    joined = of("loadgen_run_info")

    def rate(metric: str, *labels: str) -> str:
        return f"sum by ({by}) (rate({of(metric, *labels)}{RANGE}) * on (job, instance) group_left ({by}) {joined})"

    def joined_quantile(share: float, metric: str) -> str:
        parts = [
            f"histogram_quantile({share}, sum by ({keep}) (rate({of(name)}{RANGE})"
            f" * on (job, instance) group_left ({by}) {joined}))"
            for name, keep in ((metric + "_bucket", f"{by}, le"), (metric, by))
        ]
        return " or ".join(parts)

    answered = rate("loadgen_ops_total", 'outcome="ok"')
    rows: Rows = (
        ("What was run", (rows_of("Runs", (joined, "")),)),
        (
            "Side by side",
            (
                lines("Answers", "ops", (answered, legend)),
                lines(
                    "Response p99, all kinds",
                    "s",
                    (joined_quantile(0.99, "loadgen_response_seconds"), legend),
                    log=True,
                ),
                lines(
                    "Service p50, all kinds", "s", (joined_quantile(0.5, "loadgen_service_seconds"), legend), log=True
                ),
                lines(
                    "Tries that failed, for each answer",
                    "short",
                    (f"{rate('loadgen_tries_failed_total')} / {answered} or 0 * {answered}", legend),
                ),
                lines(
                    "CPU of the client for each answer",
                    "s",
                    (f"{rate('loadgen_client_cpu_seconds_total')} / {answered}", legend),
                ),
                lines(
                    "Violations",
                    "short",
                    (f"sum by ({by}) ({by_run(of('loadgen_violations'))}) or 0 * {answered}", legend),
                    help_text="Known once a run has ended and was judged.",
                ),
            ),
        ),
    )
    text = (
        "Engines and strategies side by side. Whether a difference is more than chance, loadgen compare says, not this."
    )
    return page("loadgen-comparison", "loadgen: engines compared", text, rows, *load_variables())


def consistency() -> Any:
    """What was proved, and what may hide something."""
    rows: Rows = (
        (
            "Verdict",
            (
                number(
                    "Violations proved",
                    "short",
                    (f"sum ({of('loadgen_violations')}) or vector(0)", "all checks"),
                    bad_from=1,
                ),
                number(
                    "Valid runs",
                    "short",
                    (f"sum ({verdict('valid')}) or vector(0)", "at present"),
                ),
                number(
                    "Invalid runs",
                    "short",
                    (f"sum ({verdict('invalid')}) or vector(0)", "at present"),
                    bad_from=1,
                ),
                number(
                    "Undecided runs",
                    "short",
                    (f"sum ({verdict('unknown')}) or vector(0)", "at present"),
                    help_text="Unknown is not valid: loadgen report says what could not be decided.",
                    bad_from=1,
                ),
            ),
        ),
        (
            "By run",
            (
                rows_of(
                    "Verdicts", (f"{by_run(of('loadgen_verdict'))} == 1", ""), help_text="Of the processes that live."
                ),
                rows_of("Violations by check", (by_run(of("loadgen_violations")), "")),
            ),
        ),
        (
            "What can go wrong, over time",
            (
                lines(
                    "Nobody knows whether it happened",
                    "ops",
                    (per_second("loadgen_ops_total", 'outcome="info"', by="kind"), "{{kind}}"),
                    help_text="Ops whose answer was lost: each may have happened or not, and checks allow for both.",
                ),
                lines(
                    "It did not happen",
                    "ops",
                    (per_second("loadgen_ops_total", 'outcome="fail"', by="kind"), "{{kind}}"),
                ),
                lines(
                    "Tries that failed",
                    "ops",
                    (f"{per_second('loadgen_tries_failed_total', by='class')} or vector(0)", "{{class}}"),
                ),
                lines(
                    "Answers",
                    "ops",
                    (per_second("loadgen_ops_total", 'outcome="ok"', by="kind, answer"), "{{kind}}: {{answer}}"),
                ),
            ),
        ),
    )
    text = "The verdict of each run and what its checks proved; before the end, what may hide something."
    return page("loadgen-consistency", "loadgen: consistency", text, rows, *load_variables())


def server(engine: str, title: str, text: str, up: str, rows: Rows) -> Any:
    """What an engine's own metrics show, below the answers and times of the load on the same axis."""
    nothing = ""
    above = (
        "The load",
        (
            lines(
                "Answers",
                "ops",
                (per_second("loadgen_ops_total", 'outcome="ok"', by="kind", chosen=nothing), "{{kind}}"),
            ),
            lines(
                "Response p99", "s", (quantile(0.99, "loadgen_response_seconds", chosen=nothing), "{{kind}}"), log=True
            ),
        ),
    )
    chosen = variable("server", "Server", f"label_values({up}, instance)")
    return page(f"loadgen-{engine}", f"loadgen: {title}", text, (above, *rows), chosen)


AT = 'instance=~"$server"'


def rate_of(metric: str, *labels: str, by: str = "instance") -> str:
    """How much a server's counter grows in a second."""
    return per_second(metric, *labels, by=by, chosen=AT)


def now_of(metric: str, *labels: str, by: str = "instance") -> str:
    """A server's gauge."""
    return f"sum{by_of(by)} ({of(metric, *labels, chosen=AT)})"


def postgres() -> Any:
    """postgres_exporter."""
    database = 'datname!~"template.*"'
    hits, reads = rate_of("pg_stat_database_blks_hit"), rate_of("pg_stat_database_blks_read")
    rows: Rows = (
        (
            "Transactions and locks",
            (
                lines(
                    "Transactions",
                    "ops",
                    (rate_of("pg_stat_database_xact_commit", database, by="datname"), "{{datname}} commits"),
                    (rate_of("pg_stat_database_xact_rollback", database, by="datname"), "{{datname}} rollbacks"),
                ),
                lines(
                    "Sessions by state", "short", (now_of("pg_stat_activity_count", database, by="state"), "{{state}}")
                ),
                lines(
                    "Locks",
                    "short",
                    (now_of("pg_locks_count", database, by="mode"), "{{mode}}"),
                    help_text="Held or awaited, by mode. Many sharelocks: sessions wait for a row.",
                ),
                lines(
                    "Longest transaction",
                    "s",
                    (f"max by (state) ({of('pg_stat_activity_max_tx_duration', database, chosen=AT)})", "{{state}}"),
                ),
                lines(
                    "Deadlocks and conflicts",
                    "ops",
                    (rate_of("pg_stat_database_deadlocks", by="datname"), "{{datname}} deadlocks"),
                    (rate_of("pg_stat_database_conflicts", by="datname"), "{{datname}} conflicts of a standby"),
                ),
            ),
        ),
        (
            "Rows and buffers",
            (
                lines(
                    "Rows changed",
                    "ops",
                    (rate_of("pg_stat_database_tup_inserted", database), "inserted"),
                    (rate_of("pg_stat_database_tup_updated", database), "updated"),
                    (rate_of("pg_stat_database_tup_deleted", database), "deleted"),
                ),
                lines("Found in shared buffers", "percentunit", (f"{hits} / ({hits} + {reads})", "{{instance}}")),
                lines("Temporary files", "Bps", (rate_of("pg_stat_database_temp_bytes"), "{{instance}}")),
                lines(
                    "Size of the databases", "bytes", (now_of("pg_database_size_bytes", by="datname"), "{{datname}}")
                ),
            ),
        ),
    )
    text = "What postgres_exporter tells of the server, below the load on the same axis."
    return server("postgres", "PostgreSQL", text, "pg_up", rows)


def mysql() -> Any:
    """mysqld_exporter."""
    status = "mysql_global_status_"
    requests = rate_of(f"{status}innodb_buffer_pool_read_requests")
    reads = rate_of(f"{status}innodb_buffer_pool_reads")
    waits, waited_ms = rate_of(f"{status}innodb_row_lock_waits"), rate_of(f"{status}innodb_row_lock_time")
    rows: Rows = (
        (
            "Transactions and locks",
            (
                lines(
                    "Statements",
                    "ops",
                    (
                        rate_of(
                            f"{status}commands_total",
                            'command=~"begin|commit|rollback|select|insert|update|delete"',
                            by="command",
                        ),
                        "{{command}}",
                    ),
                ),
                lines(
                    "Threads",
                    "short",
                    (now_of(f"{status}threads_running"), "running"),
                    (now_of(f"{status}threads_connected"), "connected"),
                    (now_of(f"{status}innodb_row_lock_current_waits"), "waiting for a row"),
                ),
                lines("Waits for a row", "ops", (waits, "{{instance}}")),
                lines("Time of such a wait", "ms", (f"{waited_ms} / {waits}", "mean, {{instance}}")),
            ),
        ),
        (
            "Log and buffers",
            (
                lines("Redo log", "Bps", (rate_of(f"{status}innodb_os_log_written"), "written, {{instance}}")),
                lines(
                    "fsync",
                    "ops",
                    (rate_of(f"{status}innodb_os_log_fsyncs"), "of the log"),
                    (rate_of(f"{status}innodb_data_fsyncs"), "of data"),
                ),
                lines("Found in the buffer pool", "percentunit", (f"1 - {reads} / {requests}", "{{instance}}")),
                lines(
                    "Network",
                    "Bps",
                    (rate_of(f"{status}bytes_received"), "received"),
                    (rate_of(f"{status}bytes_sent"), "sent"),
                ),
            ),
        ),
    )
    text = "What mysqld_exporter tells of the server, below the load on the same axis."
    return server("mysql", "MySQL", text, "mysql_up", rows)


def tidb() -> Any:
    """TiDB's own metrics, on its status port."""

    def p99(metric: str, by: str, *labels: str) -> str:
        name = of(f"{metric}_bucket", *labels, chosen=AT)
        return f"histogram_quantile(0.99, sum by ({by}, le) (rate({name}{RANGE})))"

    rows: Rows = (
        (
            "Statements and transactions",
            (
                lines(
                    "Statements",
                    "ops",
                    (rate_of("tidb_server_handle_query_duration_seconds_count", by="sql_type"), "{{sql_type}}"),
                ),
                lines(
                    "Statement p99",
                    "s",
                    (p99("tidb_server_handle_query_duration_seconds", "sql_type"), "{{sql_type}}"),
                    log=True,
                ),
                lines(
                    "Transactions",
                    "ops",
                    (
                        rate_of(
                            "tidb_session_transaction_duration_seconds_count", 'scope="general"', by="txn_mode, type"
                        ),
                        "{{txn_mode}} {{type}}",
                    ),
                ),
                lines(
                    "Transaction p99",
                    "s",
                    (
                        p99("tidb_session_transaction_duration_seconds", "txn_mode, type", 'scope="general"'),
                        "{{txn_mode}} {{type}}",
                    ),
                    log=True,
                ),
                lines("Connections", "short", (now_of("tidb_server_connections"), "{{instance}}")),
            ),
        ),
        (
            "Locks and storage",
            (
                lines(
                    "What transactions spend their time on",
                    "s",
                    (rate_of("tidb_session_txn_state_seconds_sum", by="type"), "{{type}}"),
                    stacked=True,
                    help_text="Seconds in each second, over all sessions: acquiring_lock are waits for others.",
                ),
                lines(
                    "Statements that locked again",
                    "short",
                    (f"{rate_of('tidb_session_statement_pessimistic_retry_count_sum')}", "retries a second"),
                    help_text="A pessimistic statement is done again where the row was changed meanwhile.",
                ),
                lines(
                    "Commands to the storage p99",
                    "s",
                    (p99("tidb_tikvclient_txn_cmd_duration_seconds", "type"), "{{type}}"),
                    log=True,
                ),
                lines(
                    "Locks of others resolved",
                    "ops",
                    (rate_of("tidb_tikvclient_lock_resolver_actions_total", by="type"), "{{type}}"),
                ),
                lines(
                    "CPU", "percentunit", (f"rate({of('process_cpu_seconds_total', chosen=AT)}{RANGE})", "{{instance}}")
                ),
                lines("Memory", "bytes", (of("process_resident_memory_bytes", chosen=AT), "{{instance}}")),
            ),
        ),
    )
    text = (
        "What TiDB tells at its status port, below the load on the same axis. TiKV and PD have dashboards of their own."
    )
    return server("tidb", "TiDB", text, "tidb_server_connections", rows)


def oceanbase() -> Any:
    """obagent's ob_basic metrics; their times are microseconds."""

    def stat_of(*ids: str, by: str = "tenant_name") -> str:
        return rate_of("ob_sysstat", f'stat_id=~"{"|".join(ids)}"', by=by)

    def mean(time_id: str, count_id: str) -> str:
        return f"{stat_of(time_id)} / {stat_of(count_id)}"

    used, most = 'stat_id="130001"', 'stat_id="130004"'

    rows: Rows = (
        (
            "Transactions and locks",
            (
                lines(
                    "Transactions",
                    "ops",
                    (stat_of("30007"), "{{tenant_name}} commits"),
                    (stat_of("30009"), "{{tenant_name}} rollbacks"),
                    (stat_of("30011"), "{{tenant_name}} timeouts"),
                ),
                lines("Mean time of a commit", "µs", (mean("30008", "30007"), "{{tenant_name}}")),
                lines("Waits for a row to write", "ops", (stat_of("60021", "60022"), "{{tenant_name}}")),
                lines(
                    "Mean time of such a wait",
                    "µs",
                    (f"{stat_of('60023')} / {stat_of('60021', '60022')}", "{{tenant_name}}"),
                ),
                lines(
                    "Active sessions", "short", (now_of("ob_active_session_num", by="tenant_name"), "{{tenant_name}}")
                ),
                lines(
                    "Requests in the queue",
                    "µs",
                    (mean("20002", "20001"), "mean wait, {{tenant_name}}"),
                    help_text="A request waits there for a worker thread of its tenant.",
                ),
            ),
        ),
        (
            "Statements, log and memory",
            (
                lines(
                    "Statements",
                    "ops",
                    (stat_of("40000"), "{{tenant_name}} select"),
                    (stat_of("40002"), "{{tenant_name}} insert"),
                    (stat_of("40006"), "{{tenant_name}} update"),
                    (stat_of("40008"), "{{tenant_name}} delete"),
                ),
                lines("Mean write of the log", "µs", (mean("80041", "80040"), "{{tenant_name}}")),
                lines(
                    "Memstore in use",
                    "percentunit",
                    (
                        f"{now_of('ob_sysstat', used, by='tenant_name')}"
                        f" / {now_of('ob_sysstat', most, by='tenant_name')}",
                        "{{tenant_name}}",
                    ),
                ),
                lines("Wait events", "ops", (rate_of("ob_waitevent_wait_total", by="tenant_name"), "{{tenant_name}}")),
            ),
        ),
    )
    text = "What obagent tells (ob_basic), below the load on the same axis. seekdb has no metrics of its own."
    return server("oceanbase", "OceanBase", text, "ob_active_session_num", rows)


PAGES = (sale, capacity, comparison, consistency, postgres, mysql, tidb, oceanbase)


def files() -> Iterator[tuple[Path, str]]:
    """Each dashboard's file, and what it must hold."""
    for make in PAGES:
        text = json.dumps(make().build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
        yield FOLDER / f"{make.__name__}.json", text + "\n"


if __name__ == "__main__":
    for path, text in files():
        path.write_text(text, encoding="utf-8")
