"""A session on the MySQL wire is what a run needs, or is refused: the steps, played against a server in memory."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.engines import mysql, oceanbase, tidb
from loadgen.engines.engine import Level
from loadgen.engines.mysql_settings import Profile
from loadgen.errors import SessionRefused

VERSIONS = {
    "mysql": ("8.4.3", "MySQL Community Server - GPL"),
    "tidb": ("8.0.11-TiDB-v8.5.0", "TiDB Server"),
    "oceanbase": ("5.7.25-OceanBase_CE-v4.2.5.3", "OceanBase_CE 4.2.5.3"),
}
PROFILES = {"mysql": mysql.LOAD, "tidb": tidb.LOAD, "oceanbase": oceanbase.LOAD}
LEVELS = {"mysql": mysql.ENGINE.levels, "tidb": tidb.ENGINE.levels, "oceanbase": oceanbase.ENGINE.levels}
ENGINES = pytest.mark.parametrize("engine", list(PROFILES))


class UnknownVariableError(Exception):
    """As a driver raises it."""


class Server:
    """Answers what it is asked, as if every SET had been taken, but for what is ``fixed``; it has not what it lacks."""

    def __init__(
        self, engine: str, level: Level, *, fixed: dict[str, Any] | None = None, lacks: Sequence[str] = ()
    ) -> None:
        self.version, self.comment = VERSIONS[engine]
        self.run = "this-run"
        self.database = "loadgen"
        self.lacks = set(lacks)
        self.said: list[str] = []
        isolation = level.name.removesuffix(" optimistic").upper().replace(" ", "-")
        mode = "optimistic" if level.name.endswith("optimistic") else "pessimistic"
        self.values: dict[str, Any] = {
            **dict.fromkeys(("character_set_client", "character_set_connection", "character_set_results"), "utf8mb4"),
            "collation_connection": "utf8mb4_bin",
            **_wanted(PROFILES[engine]),
            "transaction_isolation": isolation,
            "tx_isolation": isolation,
            "tidb_txn_mode": mode,
            "binlog_format": "ROW",
            "log_bin": 1,
            **(fixed or {}),
        }

    def answer(self, sql: str) -> Sequence[Sequence[Any]]:
        """The rows of one statement."""
        self.said.append(sql)
        if sql.startswith("SHOW VARIABLES"):
            return [(name, "") for name in self.values if name not in self.lacks]
        if lacking := [name for name in self.lacks if re.search(rf"@@(SESSION\.)?{name}\b", sql)]:
            raise UnknownVariableError(1193, f"Unknown system variable '{lacking[0]}'")
        if not sql.startswith("SELECT"):
            return ()
        names = [part.strip().removeprefix("@@") for part in sql.split(",") if "@@" in part][1:]
        return [(self.version, self.comment, self.database, self.run, *(self.values[name] for name in names))]

    def verify(self, profile: Profile, engine: str, level: Level, run_id: str = "this-run") -> dict[str, str]:
        """Play the steps of a session on it."""
        steps = profile.steps(self.version, engine, level, run_id, in_schema=True)
        try:
            sql = next(steps)
            while True:
                try:
                    rows = self.answer(sql)
                except UnknownVariableError as error:
                    sql = steps.throw(error)
                else:
                    sql = steps.send(rows)
        except StopIteration as end:
            verified: dict[str, str] = end.value
            return verified


def _wanted(profile: Profile) -> dict[str, Any]:
    from loadgen.engines.mysql_settings import _COMMON

    return {**_COMMON, **profile.values}


def fresh(profile: Profile) -> Profile:
    """The profile, knowing no server."""
    return Profile(profile.values, profile.refused, profile.asked)


@ENGINES
def test_session_that_is_as_it_was_set_is_taken_at_every_level(engine: str) -> None:
    """And what it said of itself is told."""
    for level in LEVELS[engine].values():
        verified = Server(engine, level).verify(fresh(PROFILES[engine]), engine, level)
        assert verified["run"] == "this-run" and verified["sql_select_limit"] == str(2**63 - 1)


@ENGINES
def test_one_setting_that_is_not_taken_refuses_the_session_by_its_name(engine: str) -> None:
    """Whichever it is: each one changes what a statement means."""
    level = next(iter(LEVELS[engine].values()))
    for name in _wanted(PROFILES[engine]):
        with pytest.raises(SessionRefused, match=name):
            Server(engine, level, fixed={name: "17"}).verify(fresh(PROFILES[engine]), engine, level)


@ENGINES
@pytest.mark.parametrize(
    "fixed",
    [
        {"character_set_client": "gbk"},
        {"character_set_results": None},
        {"collation_connection": "utf8mb4_general_ci"},
        {"transaction_isolation": "READ-UNCOMMITTED"},
    ],
    ids=str,
)
def test_other_characters_or_level_refuse_the_session(engine: str, fixed: dict[str, Any]) -> None:
    """They were set, too."""
    level = LEVELS[engine]["read committed"]
    with pytest.raises(SessionRefused, match=next(iter(fixed))):
        Server(engine, level, fixed=fixed).verify(fresh(PROFILES[engine]), engine, level)


@ENGINES
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda server: setattr(server, "run", "another"), "of the run another"),
        (lambda server: setattr(server, "run", None), "gone"),
        (lambda server: setattr(server, "run", "this-run,another"), "this-run,another"),
        (lambda server: setattr(server, "database", "elsewhere"), "elsewhere"),
        (lambda server: setattr(server, "database", None), "in the database ''"),
        (lambda server: setattr(server, "version", "10.11.6-NobodyKnowsDB"), "NobodyKnowsDB|mysql"),
    ],
    ids=["another run", "no run", "two runs", "another database", "no database", "another server"],
)
def test_another_place_refuses_the_session(engine: str, change: Callable[[Server], None], told: str) -> None:
    """A pooler or a proxy may lead anywhere."""
    level = LEVELS[engine]["read committed"]
    server = Server(engine, level)
    server.comment = "" if "Nobody" in told else server.comment
    change(server)
    if engine == "mysql" and "Nobody" in told:
        return  # a fork of MySQL is the conductor's to refuse
    with pytest.raises(SessionRefused, match=told):
        server.verify(fresh(PROFILES[engine]), engine, level)


@ENGINES
@given(data=st.data())
def test_variables_that_a_server_lacks_are_learned_once_and_left_out(engine: str, data: st.DataObject) -> None:
    """Whatever an older version or a fork has not; but what every server has must be there."""
    profile, level = fresh(PROFILES[engine]), LEVELS[engine]["read committed"]
    needed = {"autocommit", "sql_mode", "sql_select_limit", "tidb_txn_mode"}
    lacks = data.draw(st.sets(st.sampled_from(sorted(set(_wanted(profile)) - needed))))
    first = Server(engine, level, lacks=sorted(lacks))
    assert not lacks & first.verify(profile, engine, level).keys()
    again = Server(engine, level, lacks=sorted(lacks))
    assert not lacks & again.verify(profile, engine, level).keys()
    assert not any(sql.startswith("SHOW") for sql in again.said), "it is known by now"


@pytest.mark.parametrize("name", ["autocommit", "sql_mode", "sql_select_limit"])
def test_server_without_what_every_server_has_is_refused(name: str) -> None:
    """It is no database that we know."""
    level = LEVELS["mysql"]["read committed"]
    with pytest.raises(SessionRefused, match=name):
        Server("mysql", level, lacks=[name]).verify(fresh(mysql.LOAD), "mysql", level)


@pytest.mark.parametrize("isolation", ["read uncommitted", "read committed"])
def test_binary_log_of_statements_refuses_the_levels_at_which_nothing_could_be_written(isolation: str) -> None:
    """Said before the load, with what to do; without a binary log, or above, it matters not."""
    level, format_ = LEVELS["mysql"][isolation], {"binlog_format": "STATEMENT"}
    with pytest.raises(SessionRefused, match=r"binlog_format = ROW"):
        Server("mysql", level, fixed=format_).verify(fresh(mysql.LOAD), "mysql", level)
    Server("mysql", level, fixed={**format_, "log_bin": 0}).verify(fresh(mysql.LOAD), "mysql", level)
    above = LEVELS["mysql"]["repeatable read"]
    Server("mysql", above, fixed=format_).verify(fresh(mysql.LOAD), "mysql", above)


def test_mode_of_tidbs_transactions_is_a_part_of_the_level() -> None:
    """The other one is another level."""
    for name, other in (("repeatable read", "optimistic"), ("repeatable read optimistic", "pessimistic")):
        level = LEVELS["tidb"][name]
        with pytest.raises(SessionRefused, match="tidb_txn_mode"):
            Server("tidb", level, fixed={"tidb_txn_mode": other}).verify(fresh(tidb.LOAD), "tidb", level)
