"""What a session on the MySQL wire must be for a run to mean anything: set by statement, asked back, or refused.

A server's defaults, its init_connect, an account or a pooler may change what our statements mean: cut the rows of a
read, leave a transaction open, let half of one commit, compare text otherwise. So each session sets what a run needs,
whatever the defaults are, and asks back in one query. Pure, but for what it remembers of servers: the statements are
run by those who have a connection.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadgen.engines.engine import META_TABLE, SCHEMA, Level
from loadgen.engines.identity import on_mysql_wire
from loadgen.errors import SessionRefused

UNKNOWN_VARIABLE = 1193
"""The code of a variable that this server does not have: a run does not need it there."""
FOREVER_S = 7 * 24 * 3600
"""Longer than any run may take."""
_SELECT_ALL = 2**64 - 1
_TRUTH = {"on": "1", "off": "0", "true": "1", "false": "0"}


@dataclass(frozen=True, slots=True)
class Setting:
    """A session variable, the SQL literal that a run needs it to be, and what else the server may call that."""

    name: str
    literal: str
    others: tuple[str, ...] = ()

    def holds(self, answer: str) -> bool:
        """Whether ``answer``, as ``plain`` has it, says that it is so."""
        return answer in {plain(self.literal.strip("'")), *map(plain, self.others)}


def settings_of(values: Mapping[str, str | int], others: Mapping[str, tuple[str, ...]] | None = None) -> list[Setting]:
    """Settings from Python values, texts quoted."""
    return [
        Setting(name, str(value) if isinstance(value, int) else f"'{value}'", (others or {}).get(name, ()))
        for name, value in values.items()
    ]


COMMON = settings_of(
    {
        "autocommit": 1,
        # Strict, so that a value which does not fit is an error; the backslash escapes, as our driver writes them.
        "sql_mode": "STRICT_ALL_TABLES",
        "sql_select_limit": _SELECT_ALL,
        "sql_safe_updates": 0,
        "foreign_key_checks": 1,
        "unique_checks": 1,
        "wait_timeout": FOREVER_S,
        "interactive_timeout": FOREVER_S,
        "net_read_timeout": 60,
        "net_write_timeout": 600,
        "time_zone": "+00:00",
        "sql_auto_is_null": 0,
        "max_join_size": _SELECT_ALL,
        "sql_big_selects": 1,
    },
    # TiDB and OceanBase know smaller bounds for some.
    {
        "sql_select_limit": (str(2**63 - 1),),
        "max_join_size": (str(2**63 - 1),),
    },
)
"""What a run needs of every engine of this wire."""
TRANSACTION = settings_of({"completion_type": 0, "transaction_read_only": 0}, {"completion_type": ("NO_CHAIN",)})
"""COMMIT only commits, and a transaction may write."""
CHARACTERS = ("character_set_client", "character_set_connection", "character_set_results")
_CHARACTER_SET, _COLLATION = "utf8mb4", "utf8mb4_bin"


@dataclass(slots=True)
class Profile:
    """The settings of one kind of session, and how its level is asked back; what a server lacks is remembered."""

    settings: Sequence[Setting]
    level_variables: tuple[str, ...] = ("transaction_isolation", "tx_isolation")
    refuse: Callable[[Mapping[str, str], Level | None], str] = field(default=lambda _answers, _level: "")
    """Why a session with these answers is refused; an empty text if it is not."""
    asked: tuple[str, ...] = ()
    """Variables that are asked and not set."""
    lacking: set[str] = field(default_factory=set)

    def set_sql(self) -> str:
        """One statement that sets all."""
        assignments = [f"@@SESSION.{one.name} = {one.literal}" for one in self.settings if one.name not in self.lacking]
        return ", ".join((f"SET NAMES {_CHARACTER_SET} COLLATE {_COLLATION}", *assignments))

    def names(self) -> list[str]:
        """The variables to ask, in this order."""
        names = (
            *(one.name for one in self.settings),
            *CHARACTERS,
            "collation_connection",
            *self.level_variables,
            *self.asked,
        )
        return [name for name in names if name not in self.lacking]

    def ask_sql(self, *, in_schema: bool) -> str:
        """One query that asks all back: what the server is, the database, the runs of its tables, then ``names``."""
        marks = f"(SELECT GROUP_CONCAT(DISTINCT run) FROM {SCHEMA}.{META_TABLE} WHERE name NOT IN ('', '{META_TABLE}'))"
        columns = ["VERSION()", "@@version_comment", "DATABASE()", marks if in_schema else "NULL"]
        return f"SELECT {', '.join((*columns, *(f'@@{name}' for name in self.names())))}"

    def exist_sql(self) -> str:
        """Which of all its variables the server has."""
        every = {one.name for one in self.settings} | set(self.level_variables) | set(self.asked)
        listed = ", ".join(f"'{name}'" for name in sorted(every))
        return f"SHOW VARIABLES WHERE Variable_name IN ({listed})"

    def learn(self, found: Iterable[str]) -> None:
        """Remember what a server lacks, by what exist_sql found there."""
        every = {one.name for one in self.settings} | set(self.level_variables) | set(self.asked)
        self.lacking = every - {name.lower() for name in found}

    def verified(
        self, row: Sequence[Any], engine: str, level: Level | None, run_id: str, *, in_schema: bool
    ) -> dict[str, str]:
        """What the answers to ``ask_sql`` say, by name. Raises SessionRefused for a session that a run can't use."""
        version, comment, database, runs = ("" if value is None else str(value) for value in row[:4])
        answers = dict(zip(self.names(), map(plain, row[4:]), strict=True))
        identity = on_mysql_wire(version, comment)
        if identity.engine != engine:
            raise SessionRefused(f"the session is on a server that says it is {identity.fork or identity.engine}")
        if in_schema and database.lower() != SCHEMA:
            raise SessionRefused(f"the session is in the database {database or 'of no name'!r}, not in {SCHEMA!r}")
        if in_schema and run_id and runs != run_id:
            raise SessionRefused(f"the tables in {SCHEMA!r} are {f'of the run {runs}' if runs else 'of no run'}")
        for one in self.settings:
            if one.name in answers and not one.holds(answers[one.name]):
                raise SessionRefused(_told(one.name, answers[one.name], one.literal))
        for name in CHARACTERS:
            if answers[name] != _CHARACTER_SET:
                raise SessionRefused(_told(name, answers[name], _CHARACTER_SET))
        if level is not None:
            wanted = level.isolation
            for name in self.level_variables:
                if name in answers and answers[name].replace("-", " ") != wanted:
                    raise SessionRefused(_told(name, answers[name], wanted))
        if reason := self.refuse(answers, level):
            raise SessionRefused(reason)
        return {"version": version, "database": database, "run": runs, **answers}


def plain(value: Any) -> str:
    """A variable's value as text that compares: lower case, with 1 and 0 for what is on and off."""
    text = ("" if value is None else value.decode() if isinstance(value, bytes) else str(value)).strip().lower()
    return _TRUTH.get(text, text)


def _told(name: str, answer: str, wanted: str) -> str:
    return (
        f"{name} is {answer or 'empty'!r} in a session of this server, and {wanted} can't be set: a run needs that "
        "(see the server's, the account's and any pooler's settings)"
    )
