"""PostgreSQL's outcome table: what an error means, by stage and SQLSTATE, and what its sample may show."""

import asyncio

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.engines.engine import level_of
from loadgen.engines.postgres import ENGINE, RULES, sanitised
from loadgen.engines.postgres_wire import (
    ConnectionLostError,
    RolledBackAtCommitError,
    ServerError,
    UnconfirmedCommitError,
    UnreadableAnswerError,
)
from loadgen.errors import PlanError
from loadgen.op import Outcome, Stage

FAIL, INFO = Outcome.FAIL, Outcome.INFO
BEFORE_COMMIT = (Stage.CONNECT, Stage.BEGIN, Stage.STATEMENT)


def server(sqlstate: str, severity: str = "ERROR", message: str = "no") -> ServerError:
    """What the wire raises for the server's error."""
    return ServerError({"C": sqlstate, "V": severity, "S": "FEHLER", "M": message})


def closed_by(sqlstate: str) -> ConnectionLostError:
    """A connection that the server closed with a last word."""
    error = ConnectionLostError("the server closed the connection")
    error.__cause__ = server(sqlstate, "FATAL")
    return error


TABLE = [
    # code, class, retry and drop before COMMIT, outcome at COMMIT
    (server("40001"), "40001", "conflict", True, False, FAIL),
    (server("40P01"), "40P01", "deadlock", True, False, FAIL),
    (server("55P03"), "55P03", "timeout", True, False, FAIL),
    (server("57014"), "57014", "timeout", True, False, INFO),
    (server("23505"), "23505", "constraint", False, False, FAIL),
    (server("23514"), "23514", "constraint", False, False, FAIL),
    (server("42P01"), "42P01", "other", False, False, INFO),
    (server("25P02"), "25P02", "other", False, False, FAIL),
    (server("25P03", "FATAL"), "25P03", "timeout", True, True, FAIL),
    (server("25P04", "FATAL"), "25P04", "timeout", True, True, INFO),
    (server("25006"), "25006", "unavailable", True, True, INFO),
    (server("53300", "FATAL"), "53300", "resource", True, True, INFO),
    (server("53100"), "53100", "resource", False, False, INFO),
    (server("57P01", "FATAL"), "57P01", "unavailable", True, True, INFO),
    (server("57P02", "FATAL"), "57P02", "unavailable", True, True, INFO),
    (server("57P03", "FATAL"), "57P03", "unavailable", True, True, INFO),
    (server("08006"), "08006", "connection", True, True, INFO),
    (server("08007"), "08007", "connection", True, True, INFO),
    (server("40003"), "40003", "connection", False, True, INFO),
    (server("28P01", "FATAL"), "28P01", "connection", False, True, INFO),
    (server("XX000", "PANIC"), "XX000", "other", False, True, INFO),
    (server("ZZ999"), "ZZ999", "other", False, False, INFO),
    (closed_by("57P01"), "57P01", "unavailable", True, True, INFO),
    (closed_by("25P03"), "25P03", "timeout", True, True, FAIL),
    (ConnectionLostError("gone"), "08006", "connection", True, True, INFO),
    (RolledBackAtCommitError(), "25P02", "other", False, False, FAIL),
    (UnconfirmedCommitError(), "01000", "unavailable", False, False, INFO),
    (UnreadableAnswerError("what?"), "UnreadableAnswerError", "connection", True, True, INFO),
    (asyncpg.SerializationError("no"), "40001", "conflict", True, False, FAIL),
    (asyncpg.ConnectionDoesNotExistError("gone"), "08003", "connection", True, True, INFO),
    (asyncpg.InterfaceError("connection is closed"), "InterfaceError", "connection", True, True, INFO),
    (asyncpg.InternalClientError("state 12"), "InternalClientError", "connection", True, True, INFO),
    (ConnectionRefusedError(111, "refused"), "ECONNREFUSED", "connection", True, True, INFO),
    (BrokenPipeError(32, "pipe"), "EPIPE", "connection", True, True, INFO),
    (TimeoutError(), "TimeoutError", "connection", True, True, INFO),
    (asyncio.IncompleteReadError(b"", 1), "IncompleteReadError", "connection", True, True, INFO),
    (AssertionError("a bug"), "AssertionError", "connection", True, True, INFO),
    (ValueError("a value does not fit"), "ValueError", "other", False, False, INFO),
]


@pytest.mark.parametrize(("error", "code", "error_class", "retry", "drop", "at_commit"), TABLE)
def test_error_before_commit_fails(
    error: BaseException, code: str, error_class: str, retry: bool, drop: bool, at_commit: Outcome
) -> None:
    """Before COMMIT was sent nothing has happened, whatever the error; only some are worth another try."""
    failure = ENGINE.classify(error, Stage.STATEMENT)

    assert (failure.outcome, failure.code, failure.error_class) == (FAIL, code, error_class)
    assert (failure.retry, failure.drop) == (retry, drop)


@pytest.mark.parametrize(("error", "code", "error_class", "retry", "drop", "at_commit"), TABLE)
def test_error_at_commit_fails_only_on_a_clear_refusal(
    error: BaseException, code: str, error_class: str, retry: bool, drop: bool, at_commit: Outcome
) -> None:
    """From COMMIT on only what the server clearly rolled back is a fail, and only a fail is tried again."""
    failure = ENGINE.classify(error, Stage.COMMIT)

    assert (failure.outcome, failure.code, failure.error_class) == (at_commit, code, error_class)
    assert failure.retry == (retry and at_commit is FAIL)


def test_error_before_the_commit_of_a_pipeline_fails() -> None:
    """A statement that travelled with COMMIT and failed kept the server from coming to it, whatever the code."""
    error = ServerError({"C": "57014", "V": "ERROR", "M": "late"}, before_commit=True)

    failure = ENGINE.classify(error, Stage.COMMIT)

    assert failure.outcome is FAIL
    assert failure.retry


def test_error_while_connecting_drops_the_connection() -> None:
    """What cannot be opened is not kept."""
    assert ENGINE.classify(server("42501"), Stage.CONNECT).drop


SQLSTATES = st.sampled_from(sorted(RULES)) | st.text("0123456789ABCPXZ", min_size=5, max_size=5)


@given(SQLSTATES, st.sampled_from(["ERROR", "FATAL", "PANIC"]), st.sampled_from(BEFORE_COMMIT))
def test_no_error_before_commit_is_ever_unknown(sqlstate: str, severity: str, stage: Stage) -> None:
    """Before COMMIT no code makes an outcome unknown."""
    assert ENGINE.classify(server(sqlstate.ljust(5, "0"), severity), stage).outcome is FAIL


@given(SQLSTATES, st.sampled_from(["ERROR", "FATAL", "PANIC"]))
def test_no_error_at_commit_is_ok_and_unknown_codes_are_info(sqlstate: str, severity: str) -> None:
    """At COMMIT no error is ok, and a code that no rule calls a refusal is info and not tried again."""
    sqlstate = sqlstate.ljust(5, "0")
    failure = ENGINE.classify(server(sqlstate, severity), Stage.COMMIT)
    rule = RULES.get(sqlstate) or RULES.get(sqlstate[:2])

    assert failure.outcome is (FAIL if rule is not None and rule.refusal else INFO)
    assert not (failure.retry and failure.outcome is INFO)


def test_sample_keeps_names_that_the_server_calls_names_and_no_values() -> None:
    """A constraint's name helps; a key, a token or a literal has no place in a report."""
    error = ServerError(
        {
            "C": "23505",
            "V": "ERROR",
            "M": 'duplicate key value violates unique constraint "orders_pkey"',
            "D": "Key (id)=(4711) already exists.",
            "n": "orders_pkey",
        }
    )

    sample = ENGINE.classify(error, Stage.STATEMENT).sample

    assert sample == 'duplicate key value violates unique constraint "orders_pkey"'


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_sample_never_shows_what_is_quoted(secret: str) -> None:
    """Whatever stands in quotes is replaced, whatever it holds."""
    assert sanitised(f'invalid input syntax for type integer: "{secret}"') == (
        'invalid input syntax for type integer: "?"'
    )


def test_sample_hides_numbers() -> None:
    """Numbers are values too."""
    assert sanitised("value 4711 is out of range, at 3.14") == "value ? is out of range, at ?"


def test_read_uncommitted_is_refused_as_what_it_would_silently_become() -> None:
    """PostgreSQL runs read committed instead, so it is not offered."""
    with pytest.raises(PlanError, match="read uncommitted"):
        level_of(ENGINE, "read uncommitted")


def test_repeatable_read_means_snapshot_isolation() -> None:
    """The level is judged by what PostgreSQL documents for it."""
    assert level_of(ENGINE, "repeatable read").means == "snapshot-isolation"
    assert level_of(ENGINE, "").name == "read committed"
