"""Where a connection's settings come from, in which order, and that none is passed over or taken for another."""

from pathlib import Path

import pytest

from loadgen.engines.address import parse_dsn
from loadgen.engines.engine import Address
from loadgen.engines.postgres_parameters import KEPT, MET, VARIABLES, WHERE
from loadgen.errors import PlanError

SERVICE = """\
# servers
[other]
host=elsewhere
[prod]
host=db1,db2
port=6432
user=bench
password=from-file
dbname=shop
sslmode=require
[last]
host=nowhere
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with a service file."""
    (tmp_path / ".pg_service.conf").write_text(SERVICE)
    return tmp_path


@pytest.mark.parametrize("dsn", ["postgres:///?service=prod", "service=prod", "postgres://"])
def test_service_names_the_server(dsn: str, home: Path) -> None:
    """By the DSN or by PGSERVICE: never 127.0.0.1 instead."""
    environ = {"HOME": str(home)} | ({} if "service" in dsn else {"PGSERVICE": "prod"})

    address = parse_dsn(dsn, environ)

    assert (address.host, address.user, address.database) == ("db1:6432,db2:6432", "bench", "shop")
    assert address.password == "from-file"
    assert address.parameters == {"sslmode": "require"}


def test_dsn_beats_service_beats_environment(home: Path) -> None:
    """One by one, as in libpq."""
    environ = {
        "PGSERVICEFILE": str(home / ".pg_service.conf"),
        "PGUSER": "env",
        "PGCONNECT_TIMEOUT": "3",
        "PGPORT": "1",
    }

    address = parse_dsn("postgres://me@h:5/?service=prod", environ)

    assert (address.host, address.port, address.user, address.database) == ("h", 5, "me", "shop")
    assert address.parameters == {"sslmode": "require", "connect_timeout": "3"}


def test_service_of_all_users_is_found(tmp_path: Path) -> None:
    """In the folder of the system's configuration, where the user's own file does not have it."""
    (tmp_path / "pg_service.conf").write_text("[all]\nhost=shared\n")

    assert parse_dsn("postgres:///?service=all", {"HOME": "/none", "PGSYSCONFDIR": str(tmp_path)}).host == "shared"


@pytest.mark.parametrize("name", ["absent", "othe", "prod]"])
def test_service_that_nobody_knows_is_refused(name: str, home: Path) -> None:
    """One line that names the file."""
    with pytest.raises(PlanError, match=r"pg_service\.conf"):
        parse_dsn("postgres://h/", {"HOME": str(home), "PGSERVICE": name})


@pytest.mark.parametrize("text", ["[s]\nnonsense\n", "[s]\nservice=t\n", "[s]\nldap://x/y\n", "[s]\nfoo=1\n"])
def test_service_file_that_is_wrong_is_told_with_its_line(text: str, tmp_path: Path) -> None:
    """Also where it names what is not understood."""
    path = tmp_path / "services"
    path.write_text(text)
    with pytest.raises(PlanError, match=f"line 2 of .*{path}"):
        parse_dsn("postgres:///?service=s", {"PGSERVICEFILE": str(path)})


def test_environment_completes_a_dsn_as_libpq_does() -> None:
    """Each variable that names a server, or how it is reached."""
    environ = {
        "PGHOSTADDR": "10.1.2.3",
        "PGPORT": "6000",
        "PGSSLMODE": "verify-ca",
        "PGSSLROOTCERT": "/ca.pem",
        "PGOPTIONS": "-c geqo=off",
        "PGTARGETSESSIONATTRS": "primary",
        "PGAPPNAME": "psql",
        "PGSSLMINPROTOCOLVERSION": "TLSv1.3",
    }

    address = parse_dsn("postgres://u@db1/x", environ)

    assert (address.host, address.port) == ("10.1.2.3", 6000)
    assert address.parameters == {
        "sslmode": "verify-ca",
        "sslrootcert": "/ca.pem",
        "options": "-c geqo=off",
        "target_session_attrs": "primary",
        "ssl_min_protocol_version": "tlsv1.3",
    }
    assert parse_dsn("postgres://u@db1/x", {"PGREQUIRESSL": "1"}).parameters["sslmode"] == "require"


@pytest.mark.parametrize(
    "query",
    [
        *("channel_binding=require", "require_auth=scram-sha-256", "sslcertmode=require", "min_protocol_version=3.2"),
        *("target_session_attrs=standby", "target_session_attrs=prefer-standby", "gssencmode=require", "sslsni=0"),
        *("load_balance_hosts=random", "sslcrldir=/x", "sslkeylogfile=/x", "requirepeer=postgres", "replication=true"),
        *("scram_client_key=x", "oauth_client_secret=x", "client_encoding=latin1", "sslmode=on", "nonsense=1"),
        *(
            "prepared_statement_cache_size=0",
            "keepalives_idle=soon",
            "sslnegotiation=direct",
            "sslrootcert=system&sslmode=require",
        ),
        *("ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2", "ssl=maybe", "gssdelegation=1"),
        "hostaddr=10.0.0.1&sslmode=verify-full",
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(query: str) -> None:
    """Never sent to the server as a setting, and never passed over."""
    name = query.partition("=")[0]
    with pytest.raises(PlanError, match=name) as raised:
        parse_dsn(f"postgres://u@h/d?{query}", {})

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("variable", sorted(VARIABLES))
def test_every_variable_of_libpq_is_kept_or_refused_by_its_name(variable: str) -> None:
    """A value that nothing understands is told with the variable; where any value is one, it arrives."""
    name = VARIABLES[variable]
    free = name in WHERE or (name in KEPT and not KEPT[name]) or (name in MET and not MET[name])
    if free or name == "requiressl":
        address = parse_dsn("postgres://", {variable: "7"})
        assert (
            name in MET
            or name in ("passfile", "requiressl")
            or "7" in repr((address, address.password, address.parameters))
        )
    else:
        with pytest.raises(PlanError, match=f"^{variable} "):
            parse_dsn("postgres://", {variable: "nonsense"})


@pytest.mark.parametrize(
    "query",
    [
        *("channel_binding=prefer", "gssencmode=disable", "application_name=x", "load_balance_hosts=disable"),
        *("min_protocol_version=3.0", "max_protocol_version=latest", "client_encoding=UTF8", "sslcompression=0"),
    ],
)
def test_what_holds_anyway_is_no_parameter(query: str) -> None:
    """Such as the default of libpq, written down."""
    assert parse_dsn(f"postgres://u@h/d?{query}", {}).parameters == {"sslmode": "prefer"}


@pytest.mark.parametrize(
    ("dsn", "mode"),
    [
        ("postgres://h/?ssl=true", "require"),
        ("jdbc:postgresql://h/?ssl=true", "verify-full"),
        ("postgresql+asyncpg://h/?ssl=verify-ca", "verify-ca"),
        ("postgres://h/?sslrootcert=system", "verify-full"),
    ],
)
def test_tls_in_other_words(dsn: str, mode: str) -> None:
    """JDBC's, asyncpg's and libpq's own short forms."""
    assert parse_dsn(dsn, {}).parameters["sslmode"] == mode


def test_jdbc_names_are_translated() -> None:
    """Those that mean the same, and those that mean nothing to a load of ours."""
    text = "jdbc:postgresql://h/d?ApplicationName=x&loginTimeout=3&tcpKeepAlive=true&prepareThreshold=5"

    assert parse_dsn(text, {}).parameters == {"sslmode": "prefer", "connect_timeout": "3", "keepalives": "1"}
    text = "jdbc:mysql://h/d?connectTimeout=3000&rewriteBatchedStatements=true&zeroDateTimeBehavior=CONVERT_TO_NULL"
    assert parse_dsn(text, {}).parameters == {"connect-timeout": "3"}


def test_mysql_option_file_and_environment_name_the_server(tmp_path: Path) -> None:
    """The mysql client's own order: what is given, then the last option file, then variables."""
    more = tmp_path / "more.cnf"
    more.write_text("[client]\npassword='se#cret'  \nssl-mode=PREFERRED\nport=4000\n")
    (tmp_path / ".my.cnf").write_text(
        f"[mysql]\nhost=not-this\n[client]\nhost = db7 # comment\nport=4001\nuser=bench\nloose-x\n!include {more}\n"
    )
    environ = {"HOME": str(tmp_path), "MYSQL_HOST": "env", "MYSQL_TCP_PORT": "9", "MYSQL_PWD": "env"}

    assert parse_dsn("mysql://", environ) == Address("db7", 4000, "bench", "se#cret")
    assert parse_dsn("mysql://me:p@h:1/", environ) == Address("h", 1, "me", "p")
    assert parse_dsn("mysql://", environ | {"HOME": "/none"}).host == "env"
    assert parse_dsn("mysql://u@/", {"HOME": "/none", "MYSQL_UNIX_PORT": "/s"}).socket == "/s"
    assert parse_dsn("mysql://u@h/", {"HOME": "/none", "MYSQL_UNIX_PORT": "/s"}).socket == ""


def test_mysql_login_file_that_may_name_a_server_is_refused(tmp_path: Path) -> None:
    """It can't be read; a DSN that names its host does not need it."""
    (tmp_path / ".mylogin.cnf").write_bytes(b"\0\1\2")
    with pytest.raises(PlanError, match=r"mylogin\.cnf"):
        parse_dsn("mysql://u@/", {"HOME": str(tmp_path)})

    assert parse_dsn("mysql://u@h/", {"HOME": str(tmp_path)}).host == "h"


@pytest.mark.parametrize(
    "query", ["login-path=x", "defaults-file=/x", "default_auth=x", "compress=1", "sessionVariables=a"]
)
def test_mysql_parameter_that_is_not_understood_is_refused_by_name(query: str) -> None:
    """Whoever invented it."""
    with pytest.raises(PlanError, match=query.partition("=")[0]):
        parse_dsn(f"mysql://u@h/?{query}", {})
