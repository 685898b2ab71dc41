"""The settings that a run needs of a session on the MySQL wire: set by statement, read back, or refused.

A server's defaults, its init_connect, an account or a pooler may change what loadgen's statements mean: limit the rows
of a read, leave a transaction open, commit half of one, or compare text differently. So each session sets what a run
needs, and reads all of it back in one query. Nothing here does I/O: a connection runs the steps.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadgen.engines.engine import LOCK_TABLE, META_TABLE, SCHEMA, Level
from loadgen.engines.identity import on_mysql_wire
from loadgen.errors import SessionRefused

FOREVER_S = 7 * 24 * 3600
"""Longer than any run may take."""
ALL_ROWS = 2**63 - 1
_UNKNOWN_VARIABLE = 1193
_CANNOT_BE_SET = {_UNKNOWN_VARIABLE, 1227, 1228, 1229, 1231, 1232, 1238, 3164}
"""Codes of a SET that fails for what it sets, not for the connection."""
_CHARACTER_SET, _COLLATION = "utf8mb4", "utf8mb4_bin"
_CHARACTERS = {
    **dict.fromkeys(("character_set_client", "character_set_connection", "character_set_results"), _CHARACTER_SET),
    "collation_connection": _COLLATION,
}
_LEVELS = ("transaction_isolation", "tx_isolation")
"""The level in force, by its name now and its old one."""
_SAME = {"on": "1", "off": "0", "no_chain": "0"}

_ABOUT = 4
"""How many columns come before the variables: what the server is, and where."""

Values = Mapping[str, str | int]
Steps = Generator[str, Sequence[Sequence[Any]], dict[str, str]]
"""Statements to run in turn: a row set is sent back for each, or its error thrown in. Returns what was verified."""

_NEEDED = ("autocommit", "sql_mode", "sql_select_limit")
"""What every server has: one that does not is none that we know."""
_COMMON: Values = {
    "autocommit": 1,
    # Strict, so that a value which does not fit is an error; the backslash escapes, as the drivers write them.
    "sql_mode": "STRICT_ALL_TABLES",
    "sql_select_limit": ALL_ROWS,
    "completion_type": 0,
    "transaction_read_only": 0,
    "sql_safe_updates": 0,
    "sql_auto_is_null": 0,
    "sql_big_selects": 1,
    "foreign_key_checks": 1,
    "unique_checks": 1,
    "group_concat_max_len": 1024,
    "time_zone": "+00:00",
}
_LASTING: Values = {
    "wait_timeout": FOREVER_S,
    "interactive_timeout": FOREVER_S,
    "net_read_timeout": 60,
    "net_write_timeout": 600,
    "timestamp": 0,
}
"""What is set too, and need not be so: a session that ends early is an error, and nothing worse."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of session. ``refused`` says why a run can't use one with these answers; an empty text if it can."""

    values: Values
    refused: Callable[[Mapping[str, str], Level | None], str] = field(default=lambda _answers, _level: "")
    asked: tuple[str, ...] = ()
    """Variables that are asked and not set: ``refused`` looks at them."""
    lacking: dict[str, frozenset[str]] = field(default_factory=dict)
    """Which variables a server lacks, by its version: learned from its refusal to set them."""

    def steps(self, version: str, engine: str, level: Level | None, run_id: str, *, in_schema: bool) -> Steps:
        """The steps that make a session on a server of ``version`` what a run needs, and verify that it is.

        ``in_schema``: in our database, whose tables must be those of the run ``run_id`` unless that is empty. ``level``
        is None for a session of no level, ``engine`` is empty where it is not known yet. Raises SessionRefused.
        """
        if in_schema:
            yield f"USE {SCHEMA}"
        for last in (False, True):
            try:
                yield self._set_sql(version)
                # It may have begun a transaction too, in which all that follows would stay. Only now: where
                # completion_type says so, a ROLLBACK ends the session.
                yield "ROLLBACK"
                if level is not None:
                    yield level.set_sql
                rows = yield self._ask_sql(version, in_schema=in_schema)
                if [len(row) for row in rows] != [_ABOUT + len(_CHARACTERS) + len(self._names(version))]:
                    raise SessionRefused("this server does not answer a query for its variables as MySQL does")
                (row,) = rows
                return self._verified(version, row, engine, level, run_id, in_schema=in_schema)
            except SessionRefused:
                raise
            except Exception as error:
                code = error.args[0] if error.args else 0
                if code not in _CANNOT_BE_SET:
                    raise
                if code != _UNKNOWN_VARIABLE or last:
                    raise _not_set(error) from None
            try:
                yield f"SET @@SESSION.sql_select_limit = {ALL_ROWS}"
            except Exception as error:  # noqa: BLE001 - the drivers' errors have no common base
                raise _not_set(error) from None
            found = yield self._exist_sql()
            self._learn(version, {str(name).lower() for name, *_ in found})
        raise AssertionError("the second try returns or raises")

    def _names(self, version: str) -> list[str]:
        lacking = self.lacking.get(version, frozenset(_LEVELS[1:]))
        return [name for name in (*_COMMON, *self.values, *self.asked, *_LEVELS) if name not in lacking]

    def _set_sql(self, version: str) -> str:
        lacking = self.lacking.get(version, frozenset())
        values = {**_LASTING, **_COMMON, **self.values}
        assignments = [f"@@SESSION.{name} = {_literal(value)}" for name, value in values.items() if name not in lacking]
        return ", ".join((f"SET NAMES {_CHARACTER_SET} COLLATE {_COLLATION}", *assignments))

    def _ask_sql(self, version: str, *, in_schema: bool) -> str:
        not_tables = f"('', '{META_TABLE}', '{LOCK_TABLE}')"
        marks = f"(SELECT GROUP_CONCAT(DISTINCT run) FROM {SCHEMA}.{META_TABLE} WHERE name NOT IN {not_tables})"
        columns = ["VERSION()", "@@version_comment", "DATABASE()", marks if in_schema else "''"]
        return f"SELECT {', '.join((*columns, *(f'@@{name}' for name in (*_CHARACTERS, *self._names(version)))))}"

    def _exist_sql(self) -> str:
        every = (*_COMMON, *_LASTING, *self.values, *self.asked, *_LEVELS)
        return f"SHOW VARIABLES WHERE Variable_name IN ({', '.join(map(_literal, every))})"

    def _learn(self, version: str, found: set[str]) -> None:
        if missing := [name for name in _NEEDED if name not in found]:
            raise SessionRefused(f"this server has no variable {missing[0]}: loadgen does not support this database")
        every = {*_COMMON, *_LASTING, *self.values, *self.asked, *_LEVELS}
        # One of the two names of the level is enough.
        twice = _LEVELS[1:] if _LEVELS[0] in found else ()
        self.lacking[version] = frozenset(every - found) | frozenset(twice)

    def _verified(
        self, version: str, row: Sequence[Any], engine: str, level: Level | None, run_id: str, *, in_schema: bool
    ) -> dict[str, str]:
        says, comment, database, runs = ("" if value is None else _text(value) for value in row[:_ABOUT])
        names = (*_CHARACTERS, *self._names(version))
        answers = {name: plain(value) for name, value in zip(names, row[_ABOUT:], strict=True)}
        identity = on_mysql_wire(says, comment)
        if engine and identity.engine != engine:
            raise SessionRefused(
                f"a session is connected to a server that reports itself as {identity.fork or identity.engine}"
            )
        if in_schema and database.lower() != SCHEMA:
            raise SessionRefused(f"a session is in the database {database!r} and not in {SCHEMA!r}")
        if in_schema and run_id and runs != run_id:
            raise SessionRefused(
                f"the tables in the database {SCHEMA!r} are {f'of the run {runs}' if runs else 'gone'}: "
                "another run uses the server, or the tables were dropped"
            )
        for name, wanted in {**_CHARACTERS, **_COMMON, **self.values}.items():
            if name in answers and answers[name] != plain(wanted):
                raise SessionRefused(_told(name, answers[name], wanted))
        isolation = level.name.removesuffix(" optimistic") if level is not None else ""
        for name in _LEVELS:
            if isolation and name in answers and answers[name].replace("-", " ") != isolation:
                raise SessionRefused(_told(name, answers[name], isolation))
        if reason := self.refused(answers, level):
            raise SessionRefused(reason)
        return {"version": says, "database": database, "run": runs, **answers}


def _not_set(error: Exception) -> SessionRefused:
    reason = " ".join(str(part) for part in error.args[1:]) or type(error).__name__
    return SessionRefused(f"this server does not let a session be set as a run needs it: {reason}")


def plain(value: Any) -> str:
    """A variable's value as text that compares: lower case, with 1 and 0 for what is on and off."""
    text = _text(value).strip().lower()
    return _SAME.get(text, text)


def _text(value: Any) -> str:
    return "" if value is None else value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _literal(value: str | int) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'"


def _told(name: str, answer: str, wanted: str | int) -> str:
    return (
        f"{name} is {answer!r} in a session of this server, though {wanted!r} was set, which a run needs: see the "
        "settings of the server, of the account, and of a pooler between"
    )
