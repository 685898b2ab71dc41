"""DSNs as addresses: what they may say, where what they leave out comes from, and that no message shows a password."""

from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.engines.address import hosts_of, in_turn, joined, members_of, parse_dsn
from loadgen.engines.engine import CONNECT_TIMEOUT_S, Address
from loadgen.errors import PlanError

ENVIRON = {"USER": "me"}


def plain(address: Address) -> Address:
    """``address`` without the mode that libpq has where none is named."""
    named = {name: value for name, value in address.parameters.items() if (name, value) != ("sslmode", "prefer")}
    return replace(address, parameters=named)


GOOD = [
    ("postgres://u:p@h:5433/db", Address("h", 5433, "u", "p", "db")),
    ("postgresql://u:p@h/db", Address("h", 5432, "u", "p", "db")),
    ("POSTGRES://u@h", Address("h", 5432, "u", "", "u")),
    ("postgres://", Address("127.0.0.1", 5432, "me", "", "me")),
    ("postgres://u:p%40%2F%3Aq@h/d%20b", Address("h", 5432, "u", "p@/:q", "d b")),
    ("postgres://u:p@[::1]:99/db", Address("::1", 99, "u", "p", "db")),
    ("postgres://u@a:1,b:2/db", Address("a:1,b:2", 0, "u", "", "db")),
    ("postgres://u@a,b/db?port=7", Address("a:7,b:7", 0, "u", "", "db")),
    ("postgres://u@/db?host=/run/pg&port=7", Address("", 7, "u", "", "db", "/run/pg")),
    ("postgres://u@/db?host=/run/a,/run/a,b&port=7,8,9", Address("/run/a:7,/run/a:8,b:9", 0, "u", "", "db")),
    ("postgres://u@%2Frun%2Fpg/db", Address("", 5432, "u", "", "db", "/run/pg")),
    (
        "postgres://u@h/db?sslmode=verify-full&sslrootcert=/ca.pem",
        Address("h", 5432, "u", "", "db", "", {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}),
    ),
    ("postgres://h/?user=a&password=b&dbname=c", Address("h", 5432, "a", "b", "c")),
    ("postgres://u@h/db?password=a+b%26#c", Address("h", 5432, "u", "a+b&#c", "db")),
    ("postgres://user@server:p@h/db", Address("h", 5432, "user@server", "p", "db")),
    ("postgres://u@h/db?host=ignored&hostaddr=10.0.0.1", Address("10.0.0.1", 5432, "u", "", "db")),
    ("host=h port=7 user=u dbname=db", Address("h", 7, "u", "", "db")),
    (r"host='h' user = u password='p\'a ss' dbname=d\ b", Address("h", 5432, "u", "p'a ss", "d b")),
    ("host=a,::1 port=1,2 user=u password=x://y dbname=d", Address("a:1,[::1]:2", 0, "u", "x://y", "d")),
    ("postgresql+asyncpg://u:p@h/db", Address("h", 5432, "u", "p", "db")),
    ("postgresql+psycopg2://u:p@h/db", Address("h", 5432, "u", "p", "db")),
    ("jdbc:postgresql://h:1/db?user=me@server&password=p", Address("h", 1, "me@server", "p", "db")),
    ("mysql+pymysql://u:p@h/db?charset=utf8mb4", Address("h", 3306, "u", "p", "db")),
    ("mariadb://u@h/", Address("h", 3306, "u")),
    ("root@sys#one".join(("mysql://", ":p@w@h/")), Address("h", 3306, "root@sys#one", "p@w")),
    (
        "jdbc:mysql://h/db?user=u&password=p&useSSL=false&allowPublicKeyRetrieval=true&serverTimezone=UTC",
        Address("h", 3306, "u", "p", "db", "", {"ssl-mode": "disabled"}),
    ),
    ("mysql://u:p@h:3307/db", Address("h", 3307, "u", "p", "db")),
    ("mysql://u@h/", Address("h", 3306, "u")),
    ("mysql://u:p@a:1,b,[::1]:3/db", Address("a:1,b:3306,[::1]:3", 0, "u", "p", "db")),
    ("mysql://root@sys#one:p#w@h:2881/", Address("h", 2881, "root@sys#one", "p#w")),
    ("mysql://root@localhost/?unix_socket=/s.sock", Address("localhost", 3306, "root", socket="/s.sock")),
]


@pytest.mark.parametrize(("dsn", "address"), GOOD)
def test_dsn_that_is_right_becomes_its_address(dsn: str, address: Address) -> None:
    """Each form that PostgreSQL's and MySQL's own tools take."""
    assert plain(parse_dsn(dsn, ENVIRON)) == address


BAD = [
    "",
    "postgres",
    "postgres:/u:SECRET@h/db",
    "http://u:SECRET@h/",
    "://u:SECRET@h",
    "postgres://u:SECRET@h:port/db",
    "postgres://u:SECRET@h:0x10/db",
    "postgres://u:SECRET@h:99999/db",
    "postgres://u:SECRET@h:-1/db",
    "postgres://u:SECRET@[::1/db",
    "postgres://u:SECRET@h/db?sslmode",
    "postgres://u:SECRET%@h/db",
    "postgres://u:SECRET%zz@h/db",
    "postgres://u:SEC/RET@h/db",
    "postgres://u:SECRET/1@h/db",
    "postgres://u:SEC?RET@h/db",
    "postgres://u:SECRET",
    "postgres://u:SECRET%00@h/db",
    "postgres://u:SECRET@a,b/db?port=1,2,3",
    "mysql://u:SECRET@a,b/db?unix_socket=/run/s",
    "mysql://u:SECRET@a,b:port/db",
    "mysql://u:SECRET@h:port/db",
    "postgres://u:1?SECRET=x@h/db",
    "postgres://u:x@h/db?S%20ECRET=1",
    "postgres://u:SECRET%ff@h/db",
    "postgres://u:SECRET\udcff@h/db",
    "postgres://u:SECRET@h:0/db",
    "postgres://u@h/db?sslmode=SECRET",
    "postgres://u@h/db?connect_timeout=SECRET",
    "postgres+ssh://u:SECRET@h/db",
    "mysqlx://u:SECRET@h/db",
    "u:SECRET@tcp(h:3306)/db",
    "host=h password='SECRET",
    "host=h password=SECRET user",
    "host=h user=SECRET =",
    "host=h port=SECRET",
    "mysql://u:SECRET@[::1/db",
]


@pytest.mark.parametrize("dsn", BAD)
def test_dsn_that_is_malformed_is_refused_without_its_password(dsn: str) -> None:
    """One line that says what is wrong, and nothing that might be the password or a part of it."""
    with pytest.raises(PlanError) as raised:
        parse_dsn(dsn, {})

    message = str(raised.value)
    assert "dsn" in message.lower()
    assert "SEC" not in message
    assert "RET" not in message
    assert "\n" not in message


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1))
def test_any_password_comes_back_from_its_encoded_form(password: str) -> None:
    """Percent-encoding carries every password there and back."""
    for scheme in ("postgres", "mysql"):
        assert parse_dsn(f"{scheme}://u:{quote(password, safe='')}@h:1/db", {}).password == password


@given(st.text("abc:@/?#[],%1 =&", max_size=30))
def test_any_text_is_an_address_or_a_plan_error(text: str) -> None:
    """Nothing that a user types gives a traceback."""
    for scheme in ("postgres", "mysql"):
        try:
            parse_dsn(f"{scheme}://{text}", {})
        except PlanError as error:
            assert "\n" not in str(error)


def test_password_comes_from_the_environment_where_the_dsn_has_none() -> None:
    """PGPASSWORD and MYSQL_PWD, as the engines' own tools read them; the DSN beats both."""
    environ = {"PGPASSWORD": "env", "MYSQL_PWD": "my", "PGUSER": "pg", "PGDATABASE": "base", "PGHOST": "/run/x"}

    assert parse_dsn("postgres://h/", environ).password == "env"
    assert parse_dsn("postgres://u:dsn@h/", environ).password == "dsn"
    assert parse_dsn("mysql://u@h/", environ).password == "my"
    assert plain(parse_dsn("postgres://", environ)) == Address("", 5432, "pg", "env", "base", "/run/x")


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """A password file with an escaped colon, wildcards and a comment."""
    path = tmp_path / ".pgpass"
    path.write_text("# all of them\nh:5432:db:u:a\\:b\\\\c\nh2:*:*:u:second\n*:*:*:last:third\n")
    path.chmod(0o600)
    return path


def test_password_comes_from_the_password_file(password_file: Path) -> None:
    """The first line that fits, by libpq's rules."""
    environ = {"HOME": str(password_file.parent)}

    assert parse_dsn("postgres://u@h/db", environ).password == "a:b\\c"
    assert parse_dsn("postgres://u@h2:9/x", environ).password == "second"
    assert parse_dsn("postgres://u@none:9,h2:9/x", environ).password == "second"
    assert parse_dsn("postgres://last@anywhere/x", environ).password == "third"
    assert parse_dsn("postgres://u@h/other", environ).password == ""
    assert parse_dsn(f"postgres://u@h2/x?passfile={password_file}", {}).password == "second"
    assert "passfile" not in parse_dsn(f"postgres://u@h2/x?passfile={password_file}", {}).parameters


def test_password_file_that_others_may_read_is_ignored(password_file: Path) -> None:
    """As libpq does."""
    password_file.chmod(0o644)

    assert parse_dsn("postgres://u@h/db", {"PGPASSFILE": str(password_file)}).password == ""


def test_address_that_is_masked_shows_no_secret() -> None:
    """Neither the password nor the one of the TLS key."""
    address = parse_dsn("postgres://u:SECRET@h/db?sslpassword=SECRET&sslmode=require", {})

    assert "SECRET" not in str(address.masked())
    assert "SECRET" not in repr(parse_dsn("postgres://u:SECRET@h/db", {}))
    assert address.masked()["parameters"]["sslmode"] == "require"


def test_hosts_of_an_address_are_in_its_order() -> None:
    """Several hosts, each with its port."""
    address = parse_dsn("postgres://u@a:1,[::2]:3,c/db", {})

    assert hosts_of(address) == [("a", 1), ("::2", 3), ("c", 5432)]
    assert hosts_of(parse_dsn("postgres://u@a:1/db", {})) == [("a", 1)]


def test_members_of_an_address_are_what_it_was_joined_from() -> None:
    """Each host by itself, with all the rest; a unix socket, whatever is in its path, is one again."""
    same = {"user": "u", "password": "p", "database": "d", "parameters": {"sslmode": "require"}}
    members = (
        Address("a", 1, **same),
        Address("::2", 3, **same),
        Address("", 5432, socket="/tmp/a,b", **same),
        Address("", 5433, socket="/tmp/a,b", **same),
    )

    assert members_of(joined(members)) == members
    assert members_of(joined(members[:1])) == members[:1]
    assert members_of(joined(members[2:3])) == members[2:3]


def test_hosts_that_are_tried_in_turn_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers at once leaves its share to the others; one that is frozen takes no more than its own."""
    now = [100.0]
    monkeypatch.setattr("loadgen.engines.address.time.monotonic", lambda: now[0])
    turns = in_turn(parse_dsn("mysql://u@a,b,c/", {}))

    assert next(turns)[1] == pytest.approx(CONNECT_TIMEOUT_S / 3)
    now[0] += CONNECT_TIMEOUT_S / 3
    assert next(turns) == (Address("b", 3306, "u"), pytest.approx(CONNECT_TIMEOUT_S / 3))
    assert next(turns)[1] == pytest.approx(CONNECT_TIMEOUT_S * 2 / 3)
    assert [host for host, _ in in_turn(Address("a", 1))] == [Address("a", 1)]
