"""A DSN as settings by name, and its masked form, which is made from the settings and never by replacing text.

A DSN carries a password, so no message here holds any of its parts but its scheme. What is not in SHOWN is masked, so
that a secret under an unexpected name is masked too.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from loadgen.databases import DATABASES, SCHEMES, WIRES
from loadgen.databases.database import MYSQL_WIRE, POSTGRES_WIRE, Database
from loadgen.errors import PlanError

MASK = "***"
_LIBPQ = POSTGRES_WIRE.name
SHOWN = frozenset(
    {
        "allowpublickeyretrieval",
        "application_name",
        "channel_binding",
        "charset",
        "connect_timeout",
        "gssencmode",
        "hostaddr",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "krbsrvname",
        "load_balance_hosts",
        "max_protocol_version",
        "min_protocol_version",
        "require_auth",
        "service",
        "socket",
        "ssl",
        "ssl-ca",
        "ssl-capath",
        "ssl-cert",
        "ssl-key",
        "ssl-mode",
        "ssl_ca",
        "ssl_cert",
        "ssl_key",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "ssl_mode",
        "sslcert",
        "sslcertmode",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslnegotiation",
        "sslrootcert",
        "sslsni",
        "target_session_attrs",
        "tcp_user_timeout",
        "tls-version",
        "unix_socket",
        "usessl",
    }
)
"""The parameters whose values are never a secret."""
NAMED = SHOWN | {
    "allowloadlocalinfile",
    "allowmultiqueries",
    "applicationname",
    "autocommit",
    "autoreconnect",
    "cacheprepstmts",
    "characterencoding",
    "client_encoding",
    "command_timeout",
    "compress",
    "connecttimeout",
    "currentschema",
    "dbname",
    "default_auth",
    "defaults-file",
    "fallback_application_name",
    "gssdelegation",
    "gsslib",
    "host",
    "init_command",
    "local_infile",
    "login-path",
    "logintimeout",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "options",
    "passfile",
    "password",
    "port",
    "prepared_statement_cache_size",
    "preparethreshold",
    "read_default_file",
    "replication",
    "requirepeer",
    "requiressl",
    "rewritebatchedinserts",
    "rewritebatchedstatements",
    "scram_client_key",
    "scram_server_key",
    "server_settings",
    "servertimezone",
    "servicefile",
    "sessionvariables",
    "sockettimeout",
    "sql_mode",
    "ssl-cipher",
    "ssl-crl",
    "sslcompression",
    "sslcrldir",
    "ssldisabled",
    "sslfactory",
    "sslkeylogfile",
    "sslpassword",
    "targetservertype",
    "tcpkeepalive",
    "unix_socket",
    "usecursorfetch",
    "user",
    "useserverprepstmts",
    "useunicode",
    "verifyservercertificate",
    "zerodatetimebehavior",
}
"""Names that cannot be a piece of a password. Other names are only counted if a password may have been cut in pieces.
"""
_NAMES = {"database": "dbname", "db": "dbname", "passwd": "password", "username": "user"}
_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%a-z]+)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[^:]*))?")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONNINFO = re.compile(r"\s*\w+\s*=")
_PAIR = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*)?)(?=\s|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Dsn:
    """A DSN's settings: ``host`` and ``port`` (lists by comma), ``user``, ``password``, ``dbname``, and its others.

    ``scheme`` is as it was written. Those of ``jdbc:`` have other names for some things, and other units.
    """

    wire: str
    scheme: str
    settings: Mapping[str, str] = field(repr=False)

    @property
    def jdbc(self) -> bool:
        """Whether it is JDBC's."""
        return self.scheme.startswith("jdbc:")

    @property
    def database(self) -> Database:
        """The one that its scheme means where no engine is named."""
        return SCHEMES[self.scheme.removeprefix("jdbc:").partition("+")[0]]

    def masked(self) -> str:
        """It as a URL for files and messages, without a secret."""
        settings = dict(self.settings)
        user, password, host, port, database = (
            settings.pop(name, "") for name in ("user", "password", "host", "port", "dbname")
        )
        name = quote(user, safe="") + (f":{MASK}" if password else "")
        text = f"{self.scheme}://{name}@" if name else f"{self.scheme}://"
        text += ",".join(_place(*place) for place in places(host, port))
        text += f"/{quote(database)}" if database else ""
        shown = masked_parameters(settings)
        return text + ("?" if shown else "") + "&".join(f"{quote(key)}={quote(shown[key], '/*')}" for key in shown)


def read_dsn(text: str) -> Dsn:
    """The DSN in ``text``: a URL of SCHEMES, one of SQLAlchemy's or JDBC's, or libpq's ``host=... user=...``.

    Raises PlanError, which holds no part of a text that can't be read.
    """
    text = text.strip()
    if _CONNINFO.match(text):
        settings = _checked(_without_pieces(dict(_conninfo(text))), _LIBPQ)
        return Dsn(_LIBPQ, _LIBPQ, settings)
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    base, plus, driver = scheme.removeprefix("jdbc:").partition("+")
    database = SCHEMES.get(base) if separator else None
    if database is None or (plus and driver not in database.wire.dsn_drivers):
        known = " or ".join(f"{one.scheme}://" for one in DATABASES.values() if one.schemes)
        raise PlanError(
            f"--dsn must begin with {known} (SQLAlchemy's scheme+driver://, JDBC's jdbc:scheme:// and libpq's "
            f"'host=... user=...' also work), for example {MYSQL_WIRE.example}"
        )
    wire = database.wire.name
    return Dsn(wire, scheme, _checked(_from_url(rest, wire, jdbc=scheme.startswith("jdbc:")), wire))


def written_dsn(scheme: str, user: str, password: str, hosts: Iterable[tuple[str, int]], database: str) -> str:
    """The DSN that names ``hosts``, each with its port, with its password."""
    listed = ",".join(_place(host, str(port)) for host, port in hosts)
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{listed}/{database}"


def given_dsn(option: str, environ: Mapping[str, str]) -> str:
    """The DSN of a command: its option, else LOADGEN_DSN; empty for none."""
    return option or environ.get("LOADGEN_DSN", "")


def masked_dsn(text: str) -> str:
    """``text`` for a file or a message: without its secrets, and without any of its parts where it can't be read."""
    try:
        return read_dsn(text).masked() if text else ""
    except PlanError:
        return MASK


def masked_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    """``parameters`` with the values of all that are not in SHOWN masked."""
    return {name: value if name.lower() in SHOWN else MASK for name, value in parameters.items()}


def places(host: str, port: str) -> list[tuple[str, str]]:
    """The hosts of a list by comma, each with its port: of a list as long, or the one for all. Empty: none is named."""
    hosts, ports = host.split(","), port.split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    return list(zip(hosts, ports, strict=len(hosts) == len(ports)))


def malformed(wire: str, reason: str) -> PlanError:
    """The error of a DSN that can't be read."""
    return PlanError(f"--dsn is malformed: {reason}; it should look like {WIRES[wire].example}")


def _from_url(rest: str, wire: str, *, jdbc: bool) -> dict[str, str]:
    # A DSN has no fragment, so that a # may stand in a user's name (OceanBase's user@tenant#cluster) or password.
    parts = re.fullmatch(r"([^/?]*)(?:/([^?]*))?(?:\?(.*))?", rest, re.DOTALL)
    assert parts is not None
    authority, path, query = (part or "" for part in parts.groups())
    credentials, at, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    if "@" in path or _BROKEN_ESCAPE.search(rest):
        raise malformed(wire, "a special character in it is not percent-encoded (/ is %2F, ? is %3F, % is %25)")
    settings = {"user": user, "password": password, "dbname": path}
    asked: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        raw, equals, value = pair.partition("=")
        if not equals or not raw:
            raise malformed(wire, "its parameters are not name=value&name=value")
        name = _NAMES.get(unquote(raw), unquote(raw))
        if "@" in name or ("@" in value and not at and not jdbc and name not in ("user", "password")):
            raise malformed(wire, "a ? in its password, or an @ in a parameter, is not percent-encoded")
        asked[name] = value
    # An @ in a value may be the one before the host, where a ? in the user or the password was not encoded.
    cut = "password" in asked or any("@" in value for value in asked.values())
    settings |= _without_pieces(asked) if cut else asked
    try:
        settings = {name: unquote(value, errors="strict") for name, value in settings.items() if value}
    except UnicodeDecodeError:
        raise malformed(wire, "what is percent-encoded in it is not UTF-8") from None
    return settings | dict(_authority(hosts, wire))


def _without_pieces(settings: dict[str, str]) -> dict[str, str]:
    """``settings`` without unknown names, which may be a part of a password that was not encoded or quoted."""
    return {
        name if name.lower() in NAMED else f"parameter {number}": value
        for number, (name, value) in enumerate(settings.items(), 1)
    }


def _authority(text: str, wire: str) -> Iterator[tuple[str, str]]:
    """``host`` and ``port`` of the text between @ and /."""
    matches = [_HOST.fullmatch(part) for part in text.split(",")]
    if not all(matches):
        raise malformed(wire, "a host in it is not name:port or [IPv6]:port")
    hosts = [match["six"] or unquote(match["name"]) for match in matches if match]
    ports = [match["port"] or "" for match in matches if match]
    if any(hosts):
        yield "host", ",".join(hosts)
    if any(ports):
        yield "port", ",".join(ports)


def _conninfo(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while text[position:].strip():
        match = _PAIR.match(text, position)
        if match is None:
            raise malformed(_LIBPQ, "it is not name=value name='value' (in a value, \\ is \\\\ and ' is \\')")
        name, quoted, plain = match.groups()
        value = re.sub(r"(?s)\\(.)", r"\1", quoted or plain or "")
        if value:
            yield _NAMES.get(name, name), value
        position = match.end()


def _checked(settings: dict[str, str], wire: str) -> dict[str, str]:
    for text in (*settings, *settings.values()):
        if "\0" in text:
            raise malformed(wire, "it holds a NUL character")
        if not text.isascii() and text.encode(errors="replace").decode() != text:
            raise malformed(wire, "it is not UTF-8")
    check_ports(wire, settings.get("host", ""), settings.get("port", ""))
    return settings


def check_ports(wire: str, host: str, port: str) -> None:
    """Raises PlanError unless ``port`` is a number, or one for each of ``host``; an empty one is the engine's own."""
    ports = port.split(",")
    for text in ports:
        # isdecimal also holds for digits of other scripts, which int would take.
        if text and not (text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= 65535):
            raise malformed(wire, "its port is not a number from 1 to 65535")
    hosts = host.count(",") + 1
    if len(ports) not in (1, hosts):
        raise malformed(wire, f"it has {len(ports)} ports for {hosts} hosts")


def _place(host: str, port: str) -> str:
    text = f"[{host}]" if ":" in host else quote(host, safe="")
    return f"{text}:{port}" if port else text
