"""What a server is: an engine's own builds are that engine, and whatever else speaks its wire has a name of its own."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.engines.identity import on_mysql_wire, on_postgres_wire, refuse_unknown
from loadgen.errors import ClusterError

GCC = "on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0-14) 12.2.0, 64-bit"
POSTGRES = (
    f"PostgreSQL 18.6 {GCC}",
    f"PostgreSQL 15.5 (Debian 15.5-0+deb12u1) {GCC}",
    f"PostgreSQL 16.2 (Ubuntu 16.2-1.pgdg22.04+1) {GCC}",
    "PostgreSQL 16.1 on x86_64-pc-linux-musl, compiled by gcc (Alpine 13.2.1_git20231014) 13.2.1 20231014, 64-bit",
    "PostgreSQL 14.10 (Homebrew) on aarch64-apple-darwin22.6.0, compiled by Apple clang version 15.0.0, 64-bit",
    "PostgreSQL 17beta1 on x86_64-pc-linux-gnu, compiled by gcc (GCC) 14.1.1 20240507 (Red Hat 14.1.1-1), 64-bit",
    "PostgreSQL 19devel on x86_64-linux, compiled by clang-19.1.0, 64-bit",
    "PostgreSQL 13.4, compiled by Visual C++ build 1914, 64-bit",
    "PostgreSQL 17.0 on x86_64-windows, compiled by msvc-19.41.34120, 64-bit",
)
POSTGRES_FORKS = {
    "CockroachDB": "CockroachDB CCL v23.1.11 (x86_64-pc-linux-gnu, built 2023/09/27 01:53:43, go1.19.10)",
    "YugabyteDB": "PostgreSQL 11.2-YB-2.18.0.0-b0 on x86_64-pc-linux-gnu, compiled by clang version 15.0.3, 64-bit",
    "openGauss": "(openGauss 5.0.0 build a07d57c3) compiled at 2023-03-29 03:37:13 commit 0 last mr  on x86_64, 64-bit",
    "GaussDB": "gaussdb (GaussDB Kernel V500R002C10 build 1f3d) compiled at 2023-01-01",
    "Amazon Redshift": "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2, Redshift 1.0.12103",
    "Greenplum": "PostgreSQL 9.4.24 (Greenplum Database 6.8.1 build commit:7118e8a) on x86_64-unknown-linux-gnu",
    "EDB Postgres Advanced Server": f"PostgreSQL 14.4 (EnterpriseDB Advanced Server 14.4.0) {GCC}",
    "PolarDB for PostgreSQL": f"PostgreSQL 11.9 (POLARDB 11.9) {GCC}",
    "KingbaseES": "KingbaseES V008R006C007B0024 on x64, compiled by gcc, 64-bit",
    "Materialize": "PostgreSQL 9.5.0 on x86_64-unknown-linux-gnu (Materialize v0.99.0)",
    "RisingWave": "PostgreSQL 13.14.0-RisingWave-1.9.0 (b1c8e6)",
    "QuestDB": "PostgreSQL 12.3, compiled by Visual C++ build 1914, 64-bit, QuestDB",
    "CrateDB": "CrateDB 5.4.1 (built abc/2023, Linux 5.15 amd64, OpenJDK 21)",
    "IvorySQL": f"PostgreSQL 16.0 (IvorySQL 3.0) {GCC}",
    "OrioleDB": f"PostgreSQL 17.0 OrioleDB public beta 5 {GCC}",
    "Apache Cloudberry": f"PostgreSQL 14.4 (Cloudberry Database 1.5.0+dev) {GCC}",
    "PostgreSQL 15.1 (NobodyKnowsDB 2)": "PostgreSQL 15.1 (NobodyKnowsDB 2)",
}
MYSQL = (
    ("9.7.4-2", "(Debian)"),
    ("8.0.36", "MySQL Community Server - GPL"),
    ("8.4.0", "MySQL Enterprise Server - Commercial"),
    ("8.0.36-0ubuntu0.22.04.1", "(Ubuntu)"),
    ("8.0.35", "Source distribution"),
    ("5.7.44-log", "MySQL Community Server (GPL)"),
    ("8.3.0", "Homebrew"),
    ("8.0.31-google", "(Google)"),
)
MYSQL_FORKS = {
    "MariaDB": ("10.11.19-MariaDB-0+deb12u1", "Debian 12"),
    "Percona Server": ("8.0.36-28", "Percona Server (GPL), Release 28, Revision 47601f19"),
    "Percona XtraDB Cluster": ("8.0.36-28.1", "Percona XtraDB Cluster (GPL), Release rel28"),
    "Amazon Aurora MySQL": ("8.0.mysql_aurora.3.04.0", "Source distribution"),
    "PlanetScale": ("8.0.30-PlanetScale", ""),
    "Vitess": ("8.0.30-Vitess", "Version: 19.0.0"),
    "SingleStore": ("5.7.32", "SingleStoreDB source distribution (compatible; MySQL Enterprise & MySQL Commercial)"),
    "StarRocks": ("8.0.33", "StarRocks version 3.3.0"),
    "Dolt": ("8.0.33", "Dolt"),
    "GreatSQL": ("8.0.32-25", "GreatSQL, Release 25, Revision 79f57097e3f"),
    "MatrixOne": ("8.0.30-MatrixOne-v1.2.0", "MatrixOne"),
    "MySQL NDB Cluster": ("8.0.36-cluster", "MySQL Cluster Community Server - GPL"),
    "8.0.30-cynosdb": ("8.0.30-cynosdb", ""),
    "NobodyKnowsDB": ("8.0.30", "NobodyKnowsDB"),
}


@pytest.mark.parametrize("banner", POSTGRES)
def test_postgresql_is_postgresql_from_whatever_distribution(banner: str) -> None:
    """No build of its own is taken for a fork."""
    identity = on_postgres_wire(banner)
    assert (identity.engine, identity.fork) == ("postgres", "")
    assert identity.version and identity.version in banner


@pytest.mark.parametrize("name", POSTGRES_FORKS)
def test_fork_of_postgresql_has_its_name(name: str) -> None:
    """One that nobody has heard of too: its own words."""
    assert on_postgres_wire(POSTGRES_FORKS[name]).fork == name


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("aurora_stat_plans_control", "Amazon Aurora PostgreSQL"),
        ("alloydb.enable_auto_explain", "AlloyDB"),
        ("neon.timeline_id", "Neon"),
        ("yb_enable_read_committed", "YugabyteDB"),
        ("polar_enable_shared_storage", "PolarDB for PostgreSQL"),
    ],
)
def test_fork_that_shows_postgresqls_banner_is_told_by_its_settings(setting: str, name: str) -> None:
    """What a server has that PostgreSQL has not."""
    assert on_postgres_wire(POSTGRES[0], [setting]).fork == name


@pytest.mark.parametrize(("version", "comment"), MYSQL)
def test_mysql_is_mysql_from_whatever_distribution(version: str, comment: str) -> None:
    """No build of its own is taken for a fork."""
    identity = on_mysql_wire(version, comment)
    assert (identity.engine, identity.version, identity.fork) == ("mysql", version, "")


@pytest.mark.parametrize("name", MYSQL_FORKS)
def test_fork_of_mysql_has_its_name(name: str) -> None:
    """One that nobody has heard of too: its own words."""
    identity = on_mysql_wire(*MYSQL_FORKS[name])
    assert (identity.engine, identity.fork) == ("mysql", name)


def test_fork_that_shows_mysqls_version_is_told_by_its_variables() -> None:
    """As Aurora does, and MariaDB where somebody set its version; MariaDB's own is read behind its disguise."""
    assert on_mysql_wire("8.0.35", "Source distribution", {"aurora_version"}).fork == "Amazon Aurora MySQL"
    assert on_mysql_wire("8.0.35", "Source distribution", {"aria_block_size"}).fork == "MariaDB"
    assert on_mysql_wire("5.5.5-10.11.6-MariaDB", "").version == "10.11.6"


@pytest.mark.parametrize(
    ("version", "comment", "engine"),
    [
        ("8.0.11-TiDB-v8.5.0", "TiDB Server (Apache License 2.0) Community Edition, MySQL 8.0 compatible", "tidb"),
        ("5.7.25", "TiDB Server (Apache License 2.0) Community Edition, MySQL 5.7 compatible", "tidb"),
        ("5.7.25-OceanBase_CE-v4.2.5.3", "OceanBase_CE 4.2.5.3", "oceanbase"),
        ("5.7.25-OceanBase seekdb-v1.4.0.0", "OceanBase 4.3.5.3 seekdb", "oceanbase"),
    ],
)
def test_engines_of_ours_on_mysqls_wire(version: str, comment: str, engine: str) -> None:
    """They say so in one of the two, whatever the other one says."""
    identity = on_mysql_wire(version, comment)
    assert (identity.engine, identity.fork) == (engine, "")


@given(st.text(), st.text())
def test_name_is_one_short_line_whatever_a_server_says(version: str, comment: str) -> None:
    """A server's words reach a terminal: nothing in them moves its cursor."""
    for identity in (on_mysql_wire(version, comment), on_postgres_wire(version)):
        assert len(identity.fork) <= 60
        assert identity.fork.isprintable() and "\n" not in identity.fork


@given(st.text(string.ascii_letters, min_size=3, max_size=20))
def test_unknown_word_in_a_banner_is_never_the_engine_itself(word: str) -> None:
    """However a fork calls itself."""
    assert on_postgres_wire(f"PostgreSQL 16.1 ({word}DB 1.0) {GCC}").fork
    assert on_mysql_wire("8.0.36", f"{word}DB 1.0").fork or "tidb" in f"{word}db".lower()


def test_fork_is_refused_with_the_way_on() -> None:
    """By its name and version, unless it is allowed."""
    facts = {"fork": "MariaDB", "version": "10.11.19"}
    with pytest.raises(ClusterError, match=r"MariaDB 10\.11\.19.*not MySQL.*--allow-unknown-engine"):
        refuse_unknown(facts, "MySQL", allowed=False)
    refuse_unknown(facts, "MySQL", allowed=True)
    refuse_unknown({"fork": ""}, "MySQL", allowed=False)
