"""The identity that a server reports: the engine that it claims to be, or a fork or look-alike, by its name.

A wire protocol is not an identity, because many servers speak PostgreSQL's or MySQL's. A server is the engine only if
it reports what that engine's own builds report; otherwise its report gives its name. These functions are pure; the
callers run the statements.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from loadgen.errors import ClusterError

ALLOW = "--allow-unknown-engine"
"""The option that runs a server that was never tried, under the engine's dialect."""


@dataclass(frozen=True, slots=True)
class Identity:
    """``engine`` is the one of ours whose dialect it speaks; ``fork`` its name where it is not that engine itself."""

    engine: str
    version: str
    fork: str = ""


# In this order: what several of these marks fit is the first.
_MYSQL_WIRE_FORKS = (
    ("mariadb", "MariaDB"),
    ("percona xtradb cluster", "Percona XtraDB Cluster"),
    ("percona", "Percona Server"),
    ("aurora", "Amazon Aurora MySQL"),
    ("vitess", "Vitess"),
    ("planetscale", "PlanetScale"),
    ("memsql", "SingleStore"),
    ("singlestore", "SingleStore"),
    ("starrocks", "StarRocks"),
    ("doris", "Apache Doris"),
    ("dolt", "Dolt"),
    ("polardb-x", "PolarDB-X"),
    ("tddl", "PolarDB-X"),
    ("polardb", "PolarDB for MySQL"),
    ("taurus", "TaurusDB"),
    ("tdsql", "TDSQL"),
    ("txsql", "TXSQL"),
    ("greatsql", "GreatSQL"),
    ("matrixone", "MatrixOne"),
    ("stonedb", "StoneDB"),
    ("alisql", "AliSQL"),
    ("goldendb", "GoldenDB"),
    ("clickhouse", "ClickHouse"),
    ("databend", "Databend"),
    ("manticore", "Manticore Search"),
    ("readyset", "Readyset"),
    ("proxysql", "ProxySQL"),
    ("heatwave", "MySQL HeatWave"),
    ("mysql cluster", "MySQL NDB Cluster"),
    ("-cluster", "MySQL NDB Cluster"),
    ("webscalesql", "WebScaleSQL"),
)
_MYSQL_MARKERS = (
    ("aurora_version", "Amazon Aurora MySQL"),
    ("memsql_version", "SingleStore"),
    ("polardb_version", "PolarDB for MySQL"),
    ("dolt_version", "Dolt"),
    ("pxc_strict_mode", "Percona XtraDB Cluster"),
    ("aria_block_size", "MariaDB"),
    ("wsrep_provider", "Galera Cluster for MySQL"),
    ("vitess_version", "Vitess"),
)
ASK_MYSQL_MARKERS = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})".format(
    ", ".join(f"'{name}'" for name, _ in _MYSQL_MARKERS)
)
"""Variables that only forks have, with any version string."""
_MYSQL_OWN_VERSION = re.compile(
    r"\d+\.\d+\.\d+(?:-(?:\d[\w.+~]*|log|debug|commercial|enterprise|labs\w*|rc\d*|dmr|m\d+|google|azure|cloud|er\d*|"
    r"\d*(?:ubuntu|debian|deb|el|fc|suse)[\w.+~]*))*",
    re.IGNORECASE,
)
_MYSQL_OWN_COMMENT = re.compile(
    r"MySQL (?:Community|Enterprise|Advanced|Standard|Classic|Pro|Commercial)\b.*|MySQL Server\b.*|Source distribution|"
    r"\(?(?:Debian|Ubuntu|Raspbian|Homebrew|Gentoo|Arch|Alpine|Fedora|openSUSE|SUSE|Google|Azure|Windows|Remi)\b.*",
    re.IGNORECASE,
)

_POSTGRES_WIRE_FORKS = (
    ("cockroach", "CockroachDB"),
    ("-yb-", "YugabyteDB"),
    ("yugabyte", "YugabyteDB"),
    ("opengauss", "openGauss"),
    ("gaussdb", "GaussDB"),
    ("redshift", "Amazon Redshift"),
    ("greenplum", "Greenplum"),
    ("cloudberry", "Apache Cloudberry"),
    ("enterprisedb", "EDB Postgres Advanced Server"),
    ("edb postgres", "EDB Postgres Extended"),
    ("babelfish", "Babelfish"),
    ("aurora", "Amazon Aurora PostgreSQL"),
    ("alloydb", "AlloyDB"),
    ("neon", "Neon"),
    ("polardb", "PolarDB for PostgreSQL"),
    ("kingbase", "KingbaseES"),
    ("vastbase", "Vastbase"),
    ("materialize", "Materialize"),
    ("risingwave", "RisingWave"),
    ("questdb", "QuestDB"),
    ("cratedb", "CrateDB"),
    ("spanner", "Spanner"),
    ("postgres-xl", "Postgres-XL"),
    ("tbase", "TBase"),
    ("tdsql", "TDSQL"),
    ("antdb", "AntDB"),
    ("orioledb", "OrioleDB"),
    ("ivorysql", "IvorySQL"),
    ("percona", "Percona Distribution for PostgreSQL"),
    ("vertica", "Vertica"),
    ("duckdb", "DuckDB"),
    ("cedardb", "CedarDB"),
)
_POSTGRES_MARKERS = (
    ("aurora_", "Amazon Aurora PostgreSQL"),
    ("apg_", "Amazon Aurora PostgreSQL"),
    ("alloydb.", "AlloyDB"),
    ("neon.", "Neon"),
    ("polar_", "PolarDB for PostgreSQL"),
    ("yb_", "YugabyteDB"),
    ("gp_", "Greenplum"),
    ("babelfishpg_", "Babelfish"),
    ("edb_", "EDB Postgres"),
    ("orioledb.", "OrioleDB"),
    ("spanner.", "Spanner"),
    ("citus.", "PostgreSQL with Citus"),
    ("pgxc_", "Postgres-XL"),
    ("enable_thread_pool", "openGauss"),
)
ASK_POSTGRES_MARKERS = "SELECT name FROM pg_settings WHERE " + " OR ".join(
    f"left(name, {len(beginning)}) = '{beginning}'" for beginning, _ in _POSTGRES_MARKERS
)
"""Settings that only forks have, with any banner."""
_POSTGRES_OWN = re.compile(
    r"PostgreSQL (?P<version>\d+(?:\.\d+)*(?:devel|alpha\d*|beta\d+|rc\d+)?)(?:-\d[\w.+~]*)?"
    r"(?: \((?:Debian|Ubuntu|Raspbian|Devuan|Homebrew|Gentoo|Postgres\.app|Red Hat|Fedora|FreeBSD|OpenBSD|Trisquel|"
    r"Linux Mint|Kali|PGDG)\b[^)]*\))?"
    r"(?: on [\w.\-]+)?(?:, compiled by [^,]+(?:, by [^,]+)*)?(?:, (?:32|64)-bit)?",
)


def on_mysql_wire(version: str, comment: str, markers: Collection[str] = ()) -> Identity:
    """What a server is by VERSION(), @@version_comment and the names that ASK_MYSQL_MARKERS finds."""
    both = f"{version} {comment}".lower()
    if "oceanbase" in both or "seekdb" in both:
        return Identity("oceanbase", version)
    if "tidb" in both:
        return Identity("tidb", version)
    # MariaDB puts 5.5.5- before its own version, for the sake of old replicas.
    number = match[1] if (match := re.match(r"(?:5\.5\.5-)?(\d+(?:\.\d+)*(?:-\d+)?)", version)) else version
    marked = [name for mark, name in _MYSQL_WIRE_FORKS if mark in both]
    marked += [name for mark, name in _MYSQL_MARKERS if mark in markers]
    if marked:
        return Identity("mysql", number, marked[0])
    if not _MYSQL_OWN_VERSION.fullmatch(version):
        return Identity("mysql", number, _plain(version))
    if comment and not _MYSQL_OWN_COMMENT.fullmatch(comment):
        return Identity("mysql", number, _plain(comment))
    return Identity("mysql", version)


def on_postgres_wire(banner: str, markers: Collection[str] = ()) -> Identity:
    """What a server is by ``version()`` and the settings that ASK_POSTGRES_MARKERS finds."""
    number = match[0] if (match := re.search(r"\d+(?:\.\d+)+(?:[-\w.]*)|\d+", banner)) else ""
    lowered = banner.lower()
    for mark, name in _POSTGRES_WIRE_FORKS:
        if re.search(rf"(?<![a-z]){re.escape(mark)}", lowered):
            return Identity("postgres", number, name)
    for beginning, name in _POSTGRES_MARKERS:
        if any(setting.startswith(beginning) for setting in markers):
            return Identity("postgres", number, name)
    match = _POSTGRES_OWN.fullmatch(banner.strip())
    return Identity("postgres", match["version"]) if match else Identity("postgres", number, _plain(banner))


def refuse_unknown(facts: Mapping[str, Any], title: str, *, allowed: bool) -> None:
    """Raise ClusterError for a server that is a fork of the engine called ``title``, unless that is ``allowed``."""
    fork = str(facts.get("fork") or "")
    if fork and not allowed:
        raise ClusterError(
            f"the server says that it is {fork} {facts.get('version', '')}".rstrip()
            + f"; it was never tried and is not {title}: {ALLOW} runs it as if it were {title}, and says so "
            "beside every figure"
        )


def untried(fork: str, title: str) -> str:
    """The warning beside the figures of a run on ``fork``."""
    return f"the server is {fork}, which was never tried here: no figure is one of {title}"


def _plain(text: str) -> str:
    """A server's own words as a name: one short line of printable characters."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())[:60].strip()
