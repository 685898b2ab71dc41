"""The control connection on the MySQL wire, on a real OceanBase: it refuses early, in one line, and touches nothing."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
import uvloop

from loadgen.clusters.cluster import Cluster
from loadgen.engines.engine import META_TABLE, SCHEMA, Address, Control, level_of
from loadgen.engines.oceanbase import ENGINE
from loadgen.errors import ClusterError, LockLost, SessionRefused
from loadgen.workload import Table

pytestmark = pytest.mark.server("oceanbase")

PASSWORD = "s3cret-Pa'ss"
TABLE = Table(
    "shelf",
    "CREATE TABLE shelf (id INT NOT NULL PRIMARY KEY, name VARCHAR(40) NOT NULL)",
    {"id": "int64", "name": "string"},
    [(1, "plain"), (2, "it's a \\ 100 % 'quoted' \"name\" — ü")],
)


@pytest.fixture
def root(oceanbase_cluster: Cluster) -> Iterator[Control]:
    """The superuser's control connection, before anything of ours exists."""
    with closing(ENGINE.control(oceanbase_cluster.address, "test")) as control:
        control.query(f"DROP DATABASE IF EXISTS {SCHEMA}")
        yield control
        control.query(f"DROP DATABASE IF EXISTS {SCHEMA}")
        control.query("DROP USER IF EXISTS app")


@pytest.fixture
def app(oceanbase_cluster: Cluster, root: Control) -> Address:
    """A user with a password and no rights."""
    quoted = PASSWORD.replace("'", "''")
    root.query(f"CREATE USER app IDENTIFIED BY '{quoted}'")
    return replace(oceanbase_cluster.address, user="app", password=PASSWORD)


def refusal(address: Address) -> str:
    """The message with which a control connection to ``address`` is refused."""
    with pytest.raises(ClusterError) as refused:
        ENGINE.control(address, "test")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_wrong_password_is_refused_and_never_shown(app: Address) -> None:
    """The message names the user and says what to check."""
    message = refusal(replace(app, password="not-the-one"))

    assert "'app'" in message
    assert "password" in message
    assert "not-the-one" not in message


def test_right_password_with_special_characters_is_taken(app: Address) -> None:
    """A password reaches the server as it is."""
    with closing(ENGINE.control(app, "test")) as control:
        assert control.query("SELECT 1") == [(1,)]


def test_database_that_is_not_there_is_named(oceanbase_cluster: Cluster) -> None:
    """The DSN's database is only where it connects, so it must exist."""
    message = refusal(replace(oceanbase_cluster.address, database="nowhere"))

    assert "'nowhere'" in message


@pytest.mark.parametrize("address", [Address(host="127.0.0.1", port=1), Address(socket="/no/such/socket")])
def test_server_that_is_not_there_is_refused_with_its_address(address: Address) -> None:
    """Refused connections say where they went."""
    message = refusal(replace(address, user="root", password=PASSWORD))

    assert (address.socket or "127.0.0.1:1") in message
    assert PASSWORD not in message


def test_user_without_rights_is_told_the_grant(app: Address) -> None:
    """No right to create: the message holds the GRANT that would help."""
    with closing(ENGINE.control(app, "test")) as control, pytest.raises(ClusterError) as refused:
        control.lock()

    assert f"GRANT ALL PRIVILEGES ON {SCHEMA}.* TO 'app'" in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_that_grant_is_enough(root: Control, app: Address) -> None:
    """A user with rights on our database only can do all that a run needs."""
    root.query(f"GRANT ALL PRIVILEGES ON {SCHEMA}.* TO 'app'@'%'")
    with closing(ENGINE.control(app, "test")) as control:
        control.facts()
        control.lock()
        control.prepare([TABLE])
        found = control.final_reads([TABLE])

    assert found["shelf"]["id"].tolist() == [1, 2]


def test_rows_come_back_as_they_were_filled(root: Control) -> None:
    """Strings with quotes, backslashes and percent signs survive the filling INSERT."""
    root.prepare([TABLE])

    found = root.final_reads([TABLE])["shelf"]

    assert list(zip(found["id"].tolist(), found["name"].tolist(), strict=True)) == list(TABLE.rows)


def test_tables_that_no_run_made_refuse_the_run_untouched(root: Control) -> None:
    """Somebody's own tables in a database of our name stay, and nothing is added to them."""
    root.query(f"CREATE DATABASE {SCHEMA}")
    root.query(f"CREATE TABLE {SCHEMA}.theirs (id INT PRIMARY KEY)")

    for attempt in (root.lock, lambda: root.prepare([TABLE])):
        with pytest.raises(ClusterError, match="theirs"):
            attempt()

    assert root.query(f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{SCHEMA}'") == [
        ("theirs",)
    ]


def test_table_beside_marked_ones_refuses_the_run_untouched(root: Control) -> None:
    """Also a table that was put beside ours later, and one that has only the marking table's name."""
    root.prepare([TABLE])
    root.query(f"CREATE TABLE {SCHEMA}.theirs (id INT PRIMARY KEY)")
    with pytest.raises(ClusterError, match="theirs"):
        root.prepare([TABLE])
    assert root.query(f"SELECT COUNT(*) FROM {SCHEMA}.shelf") == [(2,)]

    root.query(f"DROP DATABASE {SCHEMA}")
    root.query(f"CREATE DATABASE {SCHEMA}")
    root.query(f"CREATE TABLE {SCHEMA}.{META_TABLE} (id INT PRIMARY KEY)")
    with pytest.raises(ClusterError, match=META_TABLE):
        root.prepare([TABLE])


def test_marked_tables_are_made_anew(root: Control) -> None:
    """What an earlier run left goes, tables that this run does not have too."""
    other = Table("other", "CREATE TABLE other (id INT PRIMARY KEY)", {"id": "int64"})
    root.prepare([TABLE, other])
    root.query(f"DELETE FROM {SCHEMA}.shelf")

    root.prepare([TABLE])

    assert root.query(f"SELECT COUNT(*) FROM {SCHEMA}.shelf") == [(2,)]
    with pytest.raises(ClusterError, match="other"):
        root.query(f"SELECT * FROM {SCHEMA}.other")


def test_open_transaction_of_an_earlier_run_keeps_the_lock_from_being_taken(
    oceanbase_cluster: Cluster, root: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may still write; an idle session may not, and is none."""
    monkeypatch.setattr("loadgen.engines.mysql_lock.TAKE_LIMIT_S", 1.0)
    root.prepare([TABLE])
    with closing(ENGINE.control(oceanbase_cluster.address, "left")) as leftover:
        leftover.query(f"USE {SCHEMA}")
        assert root.sessions() == 0
        leftover.query("BEGIN")
        leftover.query("INSERT INTO shelf VALUES (3, 'left')")
        assert root.sessions() == 1
        with pytest.raises(ClusterError, match="1 transactions are open"):
            root.lock()
        root.end_sessions()
        root.lock()


@pytest.mark.parametrize("lost", ["DROP TABLE shelf", "DROP TABLE loadgen_lock", "DROP DATABASE loadgen"])
def test_what_somebody_dropped_is_made_again(root: Control, lost: str) -> None:
    """A table of ours, the lock's, or all of it: its mark stays behind, and is no table."""
    root.prepare([TABLE])
    root.query(lost)

    root.lock()
    root.prepare([TABLE])

    assert root.final_reads([TABLE])["shelf"]["id"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "act", ["UPDATE loadgen_lock SET run = 'other'", "DELETE FROM loadgen_lock", "DROP TABLE loadgen_lock"]
)
def test_lock_that_is_gone_is_noticed(root: Control, act: str) -> None:
    """Taken by another, removed, or gone with its table."""
    root.lock()
    root.prepare([TABLE])
    root.beat()
    root.query(act)

    with pytest.raises(LockLost):
        root.beat()


def test_tables_of_another_run_are_no_final_read(oceanbase_cluster: Cluster, root: Control) -> None:
    """Nor are they a load session's."""
    root.prepare([TABLE])
    with closing(ENGINE.control(oceanbase_cluster.address, "other")) as other:
        other.prepare([TABLE])

    with pytest.raises(ClusterError, match="of another run, other"):
        root.final_reads([TABLE])
    with pytest.raises(SessionRefused, match="of the run other"):
        uvloop.run(ENGINE.connect(oceanbase_cluster.address, level_of(ENGINE, ""), "test"))


def test_control_connection_that_was_killed_is_opened_again(oceanbase_cluster: Cluster, root: Control) -> None:
    """While the load ran, hours perhaps, a connection may have been lost; the final reads must still be had."""
    with closing(ENGINE.control(oceanbase_cluster.address, "run")) as control:
        (session,) = control.query("SELECT CONNECTION_ID()")
        root.query(f"KILL {session[0]}")

        assert control.query("SELECT 1") == [(1,)]


def test_facts_name_the_edition_and_no_secret(app: Address) -> None:
    """Edition and version come from the server itself."""
    with closing(ENGINE.control(app, "test")) as control:
        facts = control.facts()

    assert facts["edition"] == "seekdb"
    assert facts["version"].count(".") >= 2
    assert facts["connections_free"] > 0
    assert PASSWORD not in str(facts)
