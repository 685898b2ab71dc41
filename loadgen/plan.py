"""The plan: the one frozen value that says everything about a run, and how it is parsed from what a user typed."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from loadgen.clock import is_number as is_number
from loadgen.clock import parse_duration as parse_duration
from loadgen.clock import parse_range
from loadgen.databases import DATABASES
from loadgen.databases import ISOLATIONS as ISOLATIONS
from loadgen.dsn import masked_dsn, read_dsn
from loadgen.errors import PlanError
from loadgen.shapes import DEFAULT_DURATION_S, Curve, Pieces, Shape, asked_shape, is_closed, stored_curve
from loadgen.shapes import SHAPES as SHAPES

ENGINES = tuple(DATABASES)
CLUSTERS = ("embedded", "container", "compose", "existing")
READ_FROM = ("primary", "replica")
SPARE_CONNECTIONS = 2
"""What must be free on a server beside the sessions: for the beat of the run's lock, and for a person who looks on."""

# Bounds: each keeps a mistyped number from becoming a run that cannot end or fit. They are far above what one
# host can drive, so a real plan never meets them.
MAX_RATE = 1_000_000.0
MAX_DURATION_S = 7 * 24 * 3600.0
MAX_LATE_LIMIT_S = MAX_THINK_TIME_S = 3600.0
MAX_SESSIONS = 10_000
MAX_SEED = 2**63 - 1

_BOUNDS = (
    *(("nodes", 1, MAX_SEED), ("sessions", 1, MAX_SEED), ("seed", 0, MAX_SEED)),
    *(("peak_rate", 0, MAX_RATE), ("duration_s", 0, MAX_DURATION_S), ("late_limit_s", 0, MAX_LATE_LIMIT_S)),
    ("warm_up_s", 0, MAX_DURATION_S),
)
"""The bounds of a plan's numbers, for values from a file. NaN is within no bounds."""

_UNITS = {"ms": 1.0, "s": 1000.0, "%": 1.0, "": 1.0}
_SLO = re.compile(
    r"(?P<metric>[a-z_]+(?:\.[a-z0-9_.]+)?)\s*(?P<relation><=|>=|<|>)\s*(?P<bound>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|%|)"
)
SLO_TIMES = ("p50", "p90", "p95", "p99", "p999", "max")
SLO_PEAK = "peak_per_second"
SLO_MEAN_SUFFIX = "_per_second"
"""The rates: of the best whole second, and the mean, which is named after the main kind's good answer."""
SLO_SHARES = ("skipped", "fail", "info")


Value = int | float | str | bool


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a workload: ``--name`` on the command line, LOADGEN_NAME, a field on Locust's page, and in the plan.

    The type of ``default`` is that of the value; numbers lie between ``least`` and ``most``. ``choices`` are the texts
    that are allowed. ``read`` makes the value of a text where that is not enough, and raises PlanError. ``shown`` is
    the default as ``loadgen options`` shows it, where that is not the value.
    """

    name: str
    default: Value
    help: str
    least: float = 0
    most: float = 1_000_000_000
    choices: tuple[str, ...] = ()
    read: Callable[[str], Value] | None = None
    shown: str | None = None
    on_page: bool = True


@dataclass(frozen=True, slots=True)
class Slo:
    """A service level objective: a metric, a relation and a bound.

    Metrics: ``KIND.p99`` and its like for response times, ``KIND.service.p99`` for service times (bound in
    milliseconds); ``ANSWER_per_second``, the mean rate of the main kind's good answer, and ``peak_per_second``;
    ``skipped``, ``fail`` and ``info`` as percent of the ops of the main kind that were due.
    """

    text: str
    metric: str
    relation: str
    bound: float

    def met_by(self, value: float | None) -> bool:
        """Whether ``value`` keeps the objective. A figure that could not be measured does not keep it."""
        if value is None or math.isnan(value):
            return False
        return {
            "<=": value <= self.bound,
            ">=": value >= self.bound,
            "<": value < self.bound,
            ">": value > self.bound,
        }[self.relation]


@dataclass(frozen=True, init=False)
class Plan:
    """Everything about one run. ``kind_weights`` is the mix; an empty one means the workload's own.

    The workload's own options (workload.Option) are in ``options``, and each is an attribute too: ``plan.venues``.
    """

    workload: str = "flashsale"
    engine: str = ENGINES[0]
    cluster: str = "embedded"
    nodes: int = 1
    dsn: str = field(default="", repr=False)
    isolation: str = ""
    read_from: str = "primary"
    shape: str = "double11"
    shape_pieces: Pieces = ()
    peak_rate: float = 400.0
    duration_s: float = DEFAULT_DURATION_S
    late_limit_s: float = 1.0
    think_time_s: tuple[float, float] = (0.0, 0.0)
    warm_up_s: float = 0.0
    slo: tuple[Slo, ...] = ()
    seed: int = 1
    sessions: int = 32
    run_dir: str = ""
    keep: bool = False
    allow_unknown_engine: bool = False
    kind_weights: tuple[tuple[str, int], ...] = ()
    options: tuple[tuple[str, Value], ...] = ()

    def __init__(self, **values: Any) -> None:
        """The plan of ``values``: those that are no fields are options of the workload."""
        options = dict(values.pop("options", ()))
        for each in fields(self):
            object.__setattr__(self, each.name, values.pop(each.name, each.default))
        options |= values
        object.__setattr__(self, "options", tuple(options.items()))
        # As attributes, so that a transaction body reads them as fast as a field.
        self.__dict__.update(options)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """An option of the workload."""

    def with_(self, **changes: Any) -> "Plan":
        """This plan with some of its fields or options changed."""
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON values, without its secrets. Options stand beside the fields."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "options"}
        values["dsn"] = masked_dsn(self.dsn)
        values["slo"] = [slo.text for slo in self.slo]
        values["kind_weights"] = dict(self.kind_weights)
        for name in ("shape_pieces", "think_time_s"):
            if values[name] == getattr(DEFAULTS, name):
                del values[name]
        return {**values, **dict(self.options)}


FIELDS = frozenset(Plan.__dataclass_fields__)
"""Names that no option of a workload can have."""
DEFAULTS = Plan()
"""The plan of a user who typed no option."""


def plan_from_json(values: Mapping[str, Any]) -> Plan:
    """The plan that ``to_json`` wrote (with its DSN still masked). Raises PlanError on anything else.

    Options of the workload are taken as they are: the workload knows what they may be (``Workload.stored``).
    """
    try:
        # A run of an older version did as these say, and its plan does not tell.
        later = ("read_from", "allow_unknown_engine", "shape_pieces", "think_time_s", "warm_up_s")
        values = {**{name: getattr(DEFAULTS, name) for name in later}, **values}
        known = {name: values[name] for name in FIELDS - {"options"}}
        known["slo"] = parse_slos(",".join(known.get("slo", ())))
        known["shape_pieces"] = tuple(tuple(piece) for piece in known["shape_pieces"])
        known["think_time_s"] = tuple(map(float, known["think_time_s"]))
        known["kind_weights"] = tuple(known.get("kind_weights", {}).items())
        plan = Plan(**known, options={name: values[name] for name in values if name not in FIELDS})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PlanError(f"plan.json does not hold a whole plan: {error}") from error
    _check_stored(plan)
    return plan


def _check_stored(plan: Plan) -> None:
    """Refuse a plan from a file if no user could have asked for it. Raises PlanError."""
    for name in FIELDS:
        value, default = getattr(plan, name), getattr(DEFAULTS, name)
        if type(value) is not type(default) and not (type(default) is float and type(value) is int):
            raise PlanError(f"{name} is {str(value)[:40]!r}, which is no {type(default).__name__}")
    for name, least, most in _BOUNDS:
        if not least <= getattr(plan, name) <= most:
            raise PlanError(f"{name} is {getattr(plan, name)}, which no run has")
    for name, value in plan.options:
        if not isinstance(value, str | int | float) or not name.isidentifier():
            raise PlanError(f"{name} is {str(value)[:40]!r}, which is no value of an option")
    if plan.read_from not in READ_FROM:
        raise PlanError(f"read_from is {plan.read_from!r}, which no run has")
    stored_curve(plan.shape, plan.shape_pieces, plan.duration_s)
    if len(plan.think_time_s) != 2 or not 0 <= plan.think_time_s[0] <= plan.think_time_s[1] <= MAX_THINK_TIME_S:
        raise PlanError(f"think_time_s is {plan.think_time_s}, which no run has")
    if not all(
        type(name) is str and type(weight) is int and 0 <= weight <= MAX_SEED for name, weight in plan.kind_weights
    ):
        raise PlanError("kind_weights are not whole numbers by the names of kinds")


def parse_plan(
    options: Mapping[str, Any],
    own: Sequence[Option] = (),
    metrics: tuple[Sequence[str], Sequence[str]] | None = None,
    own_shapes: Mapping[str, Shape | Curve] | None = None,
) -> Plan:
    """The plan that a user asked for by ``options``: names as in Plan (times without their ``_s``, as text).

    ``own`` are the workload's options, ``metrics`` the kinds and the rates that its objectives may name (None: any).
    Values may be strings, as they come from a command line, an environment or a web form; a missing or empty one means
    the default. ``own_shapes`` are those of the workload and of the files that the user named. Raises PlanError, whose
    message names the option, the value and what would be right.
    """
    given = {name: value for name, value in options.items() if value is not None and value != ""}
    dsn = str(given.get("dsn", ""))
    cluster = _choice(given, "cluster", CLUSTERS, "existing" if dsn else "embedded")
    if dsn and cluster != "existing":
        raise PlanError(
            f"--dsn names an existing cluster, so --cluster {cluster} contradicts it: leave one of them out"
        )
    if cluster == "existing" and not dsn:
        raise PlanError(
            f"--cluster existing needs --dsn (or LOADGEN_DSN), for example {DATABASES[DEFAULTS.engine].example}"
        )
    engine = engine_for_dsn(dsn, _choice(given, "engine", ENGINES, DEFAULTS.engine) if "engine" in given else "")
    return Plan(
        workload=str(given.get("workload", DEFAULTS.workload)),
        engine=engine,
        cluster=cluster,
        nodes=_integer(given, "nodes", 1, 1, 9),
        dsn=dsn,
        isolation=parse_isolation(str(given.get("isolation", ""))),
        read_from=_choice(given, "read_from", READ_FROM, DEFAULTS.read_from),
        **_schedule(given, own_shapes or {}),
        late_limit_s=parse_duration(given.get("late_limit", DEFAULTS.late_limit_s), "late-limit", MAX_LATE_LIMIT_S),
        think_time_s=_think_time(str(given.get("think_time", "")), str(given.get("shape", DEFAULTS.shape))),
        warm_up_s=parse_duration(given["warm_up"], "warm-up", MAX_DURATION_S) if "warm_up" in given else 0.0,
        slo=parse_slos(str(given.get("slo", "")), metrics),
        seed=_integer(given, "seed", DEFAULTS.seed, 0, MAX_SEED),
        sessions=_integer(given, "sessions", DEFAULTS.sessions, 1, MAX_SESSIONS),
        run_dir=str(given.get("run_dir", "")),
        keep=_boolean(given, "keep"),
        allow_unknown_engine=_boolean(given, "allow_unknown_engine"),
        options={option.name: parse_option(option, given) for option in own},
    )


def parse_option(option: Option, given: Mapping[str, Any]) -> Value:
    """The value of one of the workload's options; its default where none is given. Raises PlanError."""
    name, default = option.name, option.default
    if name not in given:
        return default
    if option.read is not None:
        return option.read(str(given[name]))
    if option.choices:
        return _choice(given, name, option.choices, str(default))
    if isinstance(default, bool):
        return _boolean(given, name)
    if isinstance(default, int):
        return _integer(given, name, default, int(option.least), int(option.most))
    if isinstance(default, float):
        return _number(given, name, default, option.most)
    return str(given[name])


def check_options(plan: Plan, own: Sequence[Option]) -> None:
    """Refuse a stored plan whose options are not all there, each as a user could have typed it. Raises PlanError."""
    given = dict(plan.options)
    for option in own:
        value = given.get(option.name)
        if type(value) is not type(option.default):
            raise PlanError(f"{option.name} is {str(value)[:40]!r}, which is no {type(option.default).__name__}")
        parse_option(option, given)


def _schedule(given: Mapping[str, Any], own_shapes: Mapping[str, Shape | Curve]) -> dict[str, Any]:
    """The shape of a plan, with the duration and the peak rate that the user gives, or else the shape does."""
    duration_s = parse_duration(given["duration"], "duration", MAX_DURATION_S) if "duration" in given else None
    peak_rate = _number(given, "peak_rate", DEFAULTS.peak_rate, MAX_RATE) if "peak_rate" in given else None
    text, curve = asked_shape(str(given.get("shape", DEFAULTS.shape)), duration_s, peak_rate, own_shapes)
    duration_s = duration_s or curve.duration_s or DEFAULTS.duration_s
    peak_rate = peak_rate or curve.peak_rate or DEFAULTS.peak_rate
    if duration_s > MAX_DURATION_S or peak_rate > MAX_RATE:
        raise PlanError(
            f"--shape {text[:80]!r} has {peak_rate:,g} arrivals per second and lasts {duration_s:,g} s: at "
            f"most {MAX_RATE:,.0f} (--peak-rate) and {MAX_DURATION_S:,.0f} s (--duration) are allowed"
        )
    pieces = curve.pieces if text in own_shapes else ()
    return {"shape": text, "shape_pieces": pieces, "duration_s": duration_s, "peak_rate": peak_rate}


def _think_time(text: str, shape: str) -> tuple[float, float]:
    """The shortest and the longest pause between the ops of a session. Raises PlanError."""
    if text and not is_closed(shape):
        raise PlanError(
            f"--think-time {text!r} has no effect with --shape {shape}, whose arrivals do not depend on "
            "sessions: use --shape closed, or a lower --peak-rate"
        )
    return parse_range(text, "think-time", MAX_THINK_TIME_S) if text else DEFAULTS.think_time_s


def parse_isolation(text: str) -> str:
    """The isolation level that ``text`` spells, free of case, space, hyphen and underscore; empty for the default."""
    wanted = re.sub(r"[\s_-]", "", text).lower()
    if not wanted:
        return ""
    for level in ISOLATIONS:
        if level.replace(" ", "") == wanted:
            return level
    raise PlanError(f"--isolation {text!r} is not one of {', '.join(ISOLATIONS)}")


def parse_slos(text: str, metrics: tuple[Sequence[str], Sequence[str]] | None = None) -> tuple[Slo, ...]:
    """The objectives of ``order.p99<=200ms,placed_per_second>=500,skipped<=1%``.

    ``metrics`` are the kinds and the rates that they may name; None: any. Raises PlanError.
    """
    return tuple(_slo(part.strip(), metrics) for part in text.split(",") if part.strip())


def _slo(text: str, metrics: tuple[Sequence[str], Sequence[str]] | None) -> Slo:
    match = _SLO.fullmatch(text)
    if match:
        metric, relation, bound, unit = match.group("metric", "relation", "bound", "unit")
        *kind, last = metric.split(".")
        is_time = last in SLO_TIMES and (len(kind) == 1 or (len(kind) == 2 and kind[1] == "service"))
        is_rate = not kind and metric.endswith(SLO_MEAN_SUFFIX)
        if metrics is not None:
            is_time, is_rate = is_time and kind[0] in metrics[0], metric in metrics[1]
        fits = {"ms": is_time, "s": is_time, "%": metric in SLO_SHARES, "": is_rate}[unit]
        if fits:
            return Slo(text, metric, relation, float(bound) * _UNITS[unit])
    kind_name, rate = ("KIND", "ANSWER_per_second") if metrics is None else (metrics[0][0], metrics[1][0])
    raise PlanError(
        f"--slo {text!r} is not an objective such as {kind_name}.p99<=200ms, {kind_name}.service.p99<=50ms, "
        f"{rate}>=500 or skipped<=1%"
    )


def _choice(given: Mapping[str, Any], name: str, choices: tuple[str, ...], default: str) -> str:
    value = str(given.get(name, default)).strip().lower()
    if value not in choices:
        raise PlanError(f"{_flag(name)} {value!r} is not one of {', '.join(choices)}")
    return value


def _integer(given: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    text = str(given.get(name, default)).strip().replace("_", "")
    if not re.fullmatch(r"[+-]?\d{1,30}", text) or not least <= int(text) <= most:
        raise PlanError(f"{_flag(name)} {text!r} is not a whole number from {least} to {most:,}")
    return int(text)


def _number(given: Mapping[str, Any], name: str, default: float, most: float) -> float:
    text = str(given.get(name, default)).strip()
    if not is_number(text) or not 0 < float(text) <= most:
        raise PlanError(f"{_flag(name)} {text!r} is not a number above 0 and at most {most:,.0f}")
    return float(text)


def _boolean(given: Mapping[str, Any], name: str) -> bool:
    value = str(given.get(name, "false")).strip().lower()
    if value not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
        raise PlanError(f"{_flag(name)} {value!r} is not true or false")
    return value in ("true", "1", "yes", "on")


def _flag(name: str) -> str:
    return "-u" if name == "sessions" else "--" + name.replace("_", "-")


def engine_for_dsn(dsn: str, named: str) -> str:
    """The engine that is ``named``, else that of the DSN's scheme. Raises PlanError if they contradict each other."""
    if not dsn:
        return named or DEFAULTS.engine
    meant = read_dsn(dsn).database
    engine = _choice({"engine": named} if named else {}, "engine", ENGINES, meant.name)
    asked = DATABASES[engine]
    if meant.wire is not asked.wire:
        raise PlanError(f"--engine {engine} is reached by a {asked.scheme}:// DSN, this one is {meant.scheme}://")
    return engine


def engines_asked(named: Sequence[str] | None, dsn: str, environ: Mapping[str, str]) -> Sequence[str]:
    """The engines of a command: those ``named``, with a DSN else LOADGEN_ENGINE or its own. Raises PlanError."""
    if not dsn:
        return named or ENGINES
    if len(named or ()) > 1:
        raise PlanError("--dsn, or LOADGEN_DSN, names one server: name one --engine, or none")
    return (engine_for_dsn(dsn, named[0] if named else environ.get("LOADGEN_ENGINE", "")),)
