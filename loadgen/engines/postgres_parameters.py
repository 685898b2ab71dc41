"""PostgreSQL's settings of a connection, from where libpq takes them, in its order: DSN, service file, environment."""

import os
from collections.abc import Mapping
from pathlib import Path

from loadgen.dsn import Dsn
from loadgen.engines.parameters import NUMBER, Given, from_dsn, from_environment, understood
from loadgen.errors import PlanError

VARIABLES = {
    "PGAPPNAME": "application_name",
    "PGCHANNELBINDING": "channel_binding",
    "PGCLIENTENCODING": "client_encoding",
    "PGCONNECT_TIMEOUT": "connect_timeout",
    "PGDATABASE": "dbname",
    "PGGSSDELEGATION": "gssdelegation",
    "PGGSSENCMODE": "gssencmode",
    "PGGSSLIB": "gsslib",
    "PGHOST": "host",
    "PGHOSTADDR": "hostaddr",
    "PGKRBSRVNAME": "krbsrvname",
    "PGLOADBALANCEHOSTS": "load_balance_hosts",
    "PGMAXPROTOCOLVERSION": "max_protocol_version",
    "PGMINPROTOCOLVERSION": "min_protocol_version",
    "PGOPTIONS": "options",
    "PGPASSFILE": "passfile",
    "PGPASSWORD": "password",
    "PGPORT": "port",
    "PGREQUIREAUTH": "require_auth",
    "PGREQUIREPEER": "requirepeer",
    "PGREQUIRESSL": "requiressl",
    "PGSSLCERT": "sslcert",
    "PGSSLCERTMODE": "sslcertmode",
    "PGSSLCOMPRESSION": "sslcompression",
    "PGSSLCRL": "sslcrl",
    "PGSSLCRLDIR": "sslcrldir",
    "PGSSLKEY": "sslkey",
    "PGSSLMAXPROTOCOLVERSION": "ssl_max_protocol_version",
    "PGSSLMINPROTOCOLVERSION": "ssl_min_protocol_version",
    "PGSSLMODE": "sslmode",
    "PGSSLNEGOTIATION": "sslnegotiation",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLSNI": "sslsni",
    "PGTARGETSESSIONATTRS": "target_session_attrs",
    "PGUSER": "user",
}
_TLS_VERSIONS = ("tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")
WHERE = ("dbname", "host", "hostaddr", "passfile", "password", "port", "user")
"""What names the server, the user and the database, and is no parameter of a connection."""
KEPT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gsslib", "krbsrvname", "options", "sslcert", "sslcrl", "sslkey", "sslpassword"), ()),
    **dict.fromkeys(("connect_timeout", "tcp_user_timeout"), NUMBER),
    **dict.fromkeys(("keepalives_count", "keepalives_idle", "keepalives_interval"), NUMBER),
    "keepalives": ("0", "1"),
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "sslcertmode": ("allow", "disable"),
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "sslrootcert": (),
    # The load writes: a connection to a standby is none.
    "target_session_attrs": ("any", "primary", "read-write"),
}
MET: dict[str, tuple[str, ...]] = {
    # The sessions carry names of their own, by which they are counted.
    **dict.fromkeys(("application_name", "fallback_application_name"), ()),
    "channel_binding": ("disable", "prefer"),
    "client_encoding": ("auto", "utf8", "utf-8", "unicode"),
    "gssdelegation": ("0",),
    "gssencmode": ("disable", "prefer"),
    "load_balance_hosts": ("disable",),
    "max_protocol_version": ("3.0", "3.2", "latest"),
    "min_protocol_version": ("3.0",),
    "replication": ("0", "false", "no", "off"),
    "sslcompression": ("0", "1"),
    "sslsni": ("1",),
}
_FROM_JDBC = {
    "ApplicationName": "application_name",
    "connectTimeout": "connect_timeout",
    "loginTimeout": "connect_timeout",
    "sslNegotiation": "sslnegotiation",
    "targetServerType": "target_session_attrs",
}
_JDBC_MET: tuple[str, ...] = (
    "binaryTransfer",
    "defaultRowFetchSize",
    "prepareThreshold",
    "preparedStatementCacheQueries",
)
_JDBC_MET += ("preparedStatementCacheSizeMiB", "reWriteBatchedInserts", "stringtype")
SYSTEM_FOLDER = "/etc/postgresql-common"
"""Where Debian's libpq looks for the service file of all users."""


def postgres_settings(dsn: Dsn, environ: Mapping[str, str]) -> dict[str, str]:
    """All settings of a connection: WHERE, and the parameters of KEPT. Raises PlanError for what is not understood."""
    given = from_dsn(_without_jdbc(dsn.settings) if dsn.jdbc else dsn.settings)
    variables = from_environment(environ, VARIABLES)
    service = given.pop("service", None) or from_environment(environ, {"PGSERVICE": "service"}).get("service")
    file = given.pop("servicefile", None)
    if service:
        given = {**_service(service, file.value if file else "", environ), **given}
    given = {**variables, **given}
    if (forced := given.pop("requiressl", None)) and forced.value == "1":
        given.setdefault("sslmode", Given("require", forced.source))
    if (tls := given.pop("ssl", None)) is not None:
        modes = {"true": "verify-full" if dsn.jdbc else "require", "false": "disable"}
        given["sslmode"] = Given(modes.get(tls.value.lower(), tls.value), tls.source)
    parameters = {name: one for name, one in given.items() if name not in WHERE}
    return {
        **{name: given[name].value for name in WHERE if name in given},
        **_consistent(understood(parameters, KEPT, MET)),
    }


def _consistent(parameters: dict[str, str]) -> dict[str, str]:
    """``parameters``, where they fit each other, by libpq's rules."""
    mode = parameters.setdefault("sslmode", "verify-full" if parameters.get("sslrootcert") == "system" else "prefer")
    if parameters.get("sslrootcert") == "system" and mode != "verify-full":
        raise PlanError(f"sslrootcert=system needs sslmode=verify-full, not {mode}")
    if parameters.get("sslnegotiation") == "direct" and mode in ("disable", "allow", "prefer"):
        raise PlanError(f"sslnegotiation=direct needs sslmode=require or stricter, not {mode}")
    if _TLS_VERSIONS.index(parameters.get("ssl_min_protocol_version", "tlsv1")) > _TLS_VERSIONS.index(
        parameters.get("ssl_max_protocol_version", "tlsv1.3")
    ):
        raise PlanError("ssl_min_protocol_version is above ssl_max_protocol_version")
    return parameters


def _without_jdbc(settings: Mapping[str, str]) -> dict[str, str]:
    found = {_FROM_JDBC.get(name, name): value for name, value in settings.items() if name not in _JDBC_MET}
    if (alive := found.pop("tcpKeepAlive", "")) in ("true", "false"):
        found["keepalives"] = str(int(alive == "true"))
    return found


def _service(service: Given, file: str, environ: Mapping[str, str]) -> dict[str, Given]:
    """What the service file says of a service. Raises PlanError where none knows it."""
    named = file or environ.get("PGSERVICEFILE", "")
    home = environ.get("HOME") or str(Path("~").expanduser())
    files = [Path(named or f"{home}/.pg_service.conf")]
    files.append(Path(environ.get("PGSYSCONFDIR") or SYSTEM_FOLDER) / "pg_service.conf")
    for path in files:
        found = _section(path, service.value)
        if found is not None:
            return found
    looked = " and ".join(map(str, files))
    raise PlanError(f"{service.source} names a service that is not in {looked}")


def _section(path: Path, service: str) -> dict[str, Given] | None:
    try:
        lines = path.read_text(errors="surrogateescape").splitlines() if path.is_file() else []
    except OSError as error:
        raise PlanError(f"the service file {path} can't be read: {os.strerror(error.errno or 0)}") from None
    found: dict[str, Given] | None = None
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            if found is not None:
                return found
            found = {} if line == f"[{service}]" else None
        elif found is not None:
            name, equals, value = line.partition("=")
            if not equals or name in ("service", "servicefile") or line.startswith("ldap"):
                raise PlanError(f"line {number} of the service file {path} is not name=value")
            found[name.strip()] = Given(value.strip(), f"{name.strip()} in line {number} of {path}")
    return found
