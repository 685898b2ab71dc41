"""What a statement's text becomes on each wire."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.workload import Statement

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
TEXTS = st.text(st.sampled_from("ab1: %s_$-"), max_size=12)


def test_parameters_are_letters_digits_and_underscores() -> None:
    """In the order of their first appearance; one that appears twice has one number."""
    statement = Statement("UPDATE t SET a = :w_id1, b = :Total + :w_id1 WHERE c = :_x")

    assert statement.parameters == ("w_id1", "Total", "_x")
    assert statement.postgres == "UPDATE t SET a = $1, b = $2 + $1 WHERE c = $3"
    assert statement.mysql == "UPDATE t SET a = %s, b = %s + %s WHERE c = %s"
    assert statement.mysql_order == (0, 1, 0, 2)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a::int, '5'::text, b::pg_catalog.int4 FROM t",
        "SELECT '12:30:45', ':name', 'it''s :name', TIME '10:11:12', \"odd :name\" FROM t",
        "SELECT 1 -- :name is no parameter\n",
        "SELECT /* :name */ 1",
        "SELECT a[1:2], b[low:high] FROM t",
        "SELECT 10:30",
    ],
)
def test_colon_in_a_text_a_cast_or_a_comment_stays(text: str) -> None:
    """On both wires."""
    statement = Statement(text)

    assert statement.parameters == ()
    assert statement.postgres == text.strip()
    assert statement.mysql == text.strip()


def test_dialects_end_a_text_where_they_end_it() -> None:
    """A backslash escapes on the MySQL wire, and on PostgreSQL's only behind an E."""
    assert Statement(r"SELECT '\', :a").parameters == ("a",)
    assert Statement(r"SELECT E'\' :b', :a").parameters == ("a",)
    assert Statement("SELECT $$ :b $$, $t$ :b $$ $t$, :a").parameters == ("a",)
    assert Statement("SELECT :a", mysql=r"SELECT '\' :b', `:b`, :a # :b").mysql == r"SELECT '\' :b', `:b`, %s # :b"


def test_percent_sign_stays_a_percent_sign() -> None:
    """Also where it looks like a place for a value."""
    statement = Statement("SELECT 5 % 3, '%s', '100 %' WHERE a LIKE :a AND b = '%%'")

    assert statement.postgres == "SELECT 5 % 3, '%s', '100 %' WHERE a LIKE $1 AND b = '%%'"
    assert statement.mysql % ("'x'",) == "SELECT 5 % 3, '%s', '100 %' WHERE a LIKE 'x' AND b = '%%'"


def test_parameter_that_only_one_dialect_has_is_refused() -> None:
    """Nothing would be sent for it."""
    with pytest.raises(ValueError, match="lacks: b"):
        Statement("SELECT :a", mysql="SELECT :a + :b")


@given(st.lists(st.one_of(NAMES.map(lambda name: (name, "")), TEXTS.map(lambda text: ("", text)))))
def test_only_what_stands_outside_of_texts_is_a_parameter(parts: list[tuple[str, str]]) -> None:
    """Whatever the texts hold."""
    quoted = {"": [f"'{text}'" for name, text in parts if not name]}
    source = "SELECT " + ", ".join(f":{name}" if name else f"'{text}'" for name, text in parts)
    statement = Statement(source)
    names = [name for name, _ in parts if name]

    assert statement.parameters == tuple(dict.fromkeys(names))
    assert [statement.parameters[index] for index in statement.mysql_order] == names
    assert statement.mysql % tuple(f":{name}" for name in names) == source.strip()
    assert (
        re.sub(
            r"'[^']*'|\$(\d+)",
            lambda m: f":{statement.parameters[int(m[1]) - 1]}" if m[1] else m[0],
            (statement.postgres),
        )
        == source.strip()
    ), quoted
