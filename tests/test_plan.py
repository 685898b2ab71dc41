"""The plan: what a user typed becomes one frozen value, or one line that says what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.dsn import masked_dsn
from loadgen.errors import PlanError
from loadgen.plan import Slo, parse_duration, parse_slos, plan_from_json
from tests.plans import parse_sale


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "oracle"}, "--engine 'oracle' is not one of postgres"),
        ({"strategy": "lucky"}, "--strategy 'lucky' is not one of naive"),
        ({"isolation": "sometimes"}, "--isolation 'sometimes' is not one of read uncommitted"),
        ({"read_from": "mars"}, "--read-from 'mars' is not one of primary, replica"),
        ({"skew": "zipf:-1"}, "--skew 'zipf:-1' is not uniform"),
        ({"skew": "zipf:nan"}, "--skew"),
        ({"skew": "hot"}, "--skew 'hot'"),
        ({"cluster": "cloud"}, "--cluster 'cloud' is not one of embedded,"),
        ({"shape": "square"}, "--shape 'square' is not one of double11"),
        ({"peak_rate": "0"}, "--peak-rate '0' is not a number above 0"),
        ({"peak_rate": "-5"}, "--peak-rate '-5'"),
        ({"peak_rate": "nan"}, "--peak-rate 'nan'"),
        ({"peak_rate": "1e30"}, "--peak-rate '1e30'"),
        ({"skus": "0"}, "--skus '0' is not a whole number"),
        ({"skus": "9" * 40}, "is not a whole number from 1 to 1,000,000"),
        ({"stock": "0"}, "--stock '0' is not a whole number from 1"),
        ({"stock": "-1"}, "--stock '-1' is not a whole number"),
        ({"stock": "99999999999999999999999"}, "--stock"),
        ({"stock": "1.5"}, "--stock '1.5' is not a whole number"),
        ({"duration": "0"}, "--duration '0' is not a time"),
        ({"duration": "0s"}, "--duration '0s' is not a time from above 0"),
        ({"duration": "-5s"}, "--duration '-5s' is not a time from above 0"),
        ({"duration": "soon"}, "--duration 'soon' is not a time"),
        ({"late_limit": "-1s"}, "--late-limit '-1s' is not a time"),
        ({"late_limit": "99h"}, "--late-limit '99h' is not a time from above 0 to 3600 s"),
        ({"sessions": "0"}, "-u '0' is not a whole number"),
        ({"seed": "abc"}, "--seed 'abc' is not a whole number"),
        ({"slo": "order.p98<=2ms"}, "--slo 'order.p98<=2ms' is not an objective"),
        ({"slo": "order.p99<=2%"}, "--slo"),
        ({"cluster": "existing"}, "--cluster existing needs --dsn"),
        ({"dsn": "postgres://h/", "cluster": "embedded"}, "contradicts"),
        ({"dsn": "http://h/"}, "--dsn must begin with"),
        ({"dsn": "postgres://h/", "engine": "mysql"}, "is reached by a mysql:// DSN"),
        ({"buckets": "4"}, "only --strategy bucketed"),
        ({"strategy": "bucketed", "buckets": "8", "stock": "4"}, "leaves a bucket empty"),
    ],
)
def test_wrong_option_is_refused_in_one_line_that_names_it(options: dict[str, str], said: str) -> None:
    """Every refusal names the option and its value, in one line."""
    with pytest.raises(PlanError) as caught:
        parse_sale(options)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("90s", 90.0), ("1m30s", 90.0), ("250ms", 0.25), ("1.5h", 5400.0), ("2m", 120.0)],
)
def test_duration_is_read_in_every_spelling(text: str, seconds: float) -> None:
    """Seconds, and the units that Locust's own options know."""
    assert parse_duration(text, "duration", 1e6) == seconds


@pytest.mark.parametrize(
    ("spelling", "level"),
    [
        *((spelling, "read committed") for spelling in ("read committed", "READ-COMMITTED", "ReadCommitted")),
        *(("read_committed", "read committed"), ("REPEATABLE-READ Optimistic", "repeatable read optimistic")),
    ],
)
def test_isolation_spelling_is_free_of_case_and_separators(spelling: str, level: str) -> None:
    """Whatever a DBA's own database calls it."""
    assert parse_sale({"isolation": spelling}).isolation == level


def test_bucketed_has_eight_buckets_by_default() -> None:
    """The strategy brings its own default; the others have one row a SKU."""
    assert parse_sale({"strategy": "bucketed"}).buckets == 8
    assert parse_sale({}).buckets == 1


def test_dsn_names_the_engine_and_the_cluster() -> None:
    """--dsn implies an existing cluster, and its scheme the engine."""
    plan = parse_sale({"dsn": "mysql://root@db:3306/"})

    assert (plan.engine, plan.cluster) == ("mysql", "existing")


def test_plan_survives_json_without_its_secret() -> None:
    """plan.json holds all of the plan but the password."""
    plan = parse_sale({"dsn": "postgres://u:secret@h/db?sslpassword=deep", "slo": "order.p99<=200ms, skipped<=1%"})
    plan = plan.with_(kind_weights=(("order", 10), ("pay", 8)))
    stored = plan.to_json()

    assert "secret" not in str(stored)
    assert "deep" not in str(stored)
    assert "secret" not in repr(plan)
    assert plan_from_json(stored) == plan.with_(dsn="postgres://u:***@h/db?sslpassword=***")


@pytest.mark.parametrize(
    ("dsn", "masked"),
    [
        ("postgres://u:p@h/d", "postgres://u:***@h/d"),
        ("postgres://u:p@ss@h/d", "postgres://u:***@h/d"),
        ("postgres://u:p/w#x@h/d", "***"),
        ("mysql://u@h/d?password=x#y&a=b", "mysql://u:***@h/d?parameter%202=***"),
        ("mysql://root@tenant#cluster:x@h/", "mysql://root%40tenant%23cluster:***@h"),
        ("host=h user=u password='x y' sslmode=require", "postgres://u:***@h?sslmode=require"),
        ("postgres://u:h@h/h", "postgres://u:***@h/h"),
        ("postgres://u@h:5432/d", "postgres://u@h:5432/d"),
        ("postgres://h:5432/d", "postgres://h:5432/d"),
    ],
)
def test_masked_dsn_hides_the_password_wherever_it_stands(dsn: str, masked: str) -> None:
    """In the user part, also with unescaped separators, and in the parameters."""
    assert masked_dsn(dsn) == masked


def test_slo_units_become_milliseconds_and_percent() -> None:
    """A bound in seconds is kept in milliseconds."""
    slos = parse_slos("order.p99<=0.2s, order.service.p50<5ms, placed_per_second>=500, skipped<=1%")

    assert [(slo.metric, slo.relation, slo.bound) for slo in slos] == [
        ("order.p99", "<=", 200.0),
        ("order.service.p50", "<", 5.0),
        ("placed_per_second", ">=", 500.0),
        ("skipped", "<=", 1.0),
    ]


def test_plan_of_an_older_version_read_from_the_primary() -> None:
    """A run that was stored before replicas were read from can still be judged."""
    stored = parse_sale({}).to_json()
    del stored["read_from"]

    assert plan_from_json(stored) == parse_sale({"read_from": "primary"})


@pytest.mark.parametrize(("value", "met"), [(200.0, True), (200.1, False), (None, False), (float("nan"), False)])
def test_slo_that_could_not_be_measured_is_not_met(value: float | None, met: bool) -> None:
    """No figure is no success."""
    assert Slo("order.p99<=200ms", "order.p99", "<=", 200.0).met_by(value) is met


@given(st.dictionaries(st.sampled_from(["engine", "skew", "skus", "duration", "slo", "dsn", "peak_rate"]), st.text()))
def test_any_text_is_a_plan_or_a_plan_error(options: dict[str, str]) -> None:
    """No text from a command line or a web form raises anything but PlanError."""
    try:
        plan = parse_sale(options)
    except PlanError as error:
        assert str(error)
    else:
        assert plan.skus >= 1
        assert plan.duration_s > 0
