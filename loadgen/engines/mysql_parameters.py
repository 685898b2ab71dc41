"""The MySQL wire's settings of a connection: the DSN, then the user's option files, then the environment.

Names are those of the mysql client; those of PyMySQL, SQLAlchemy and JDBC that mean the same are taken too.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from loadgen.dsn import Dsn
from loadgen.engines.parameters import NUMBER, Given, from_dsn, from_environment, understood
from loadgen.errors import PlanError

VARIABLES = {"MYSQL_HOST": "host", "MYSQL_PWD": "password", "MYSQL_TCP_PORT": "port", "MYSQL_UNIX_PORT": "socket"}
WHERE = ("dbname", "host", "password", "port", "socket", "user")
"""What names the server, the user and the database, and is no parameter of a connection."""
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
KEPT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ssl-ca", "ssl-capath", "ssl-cert", "ssl-key", "tls-version"), ()),
    "connect-timeout": NUMBER,
    "ssl-mode": ("disabled", "required", "verify_ca", "verify_identity"),
}
_UTF8 = ("utf8", "utf-8", "utf8mb3", "utf8mb4")
MET: dict[str, tuple[str, ...]] = {
    # Settings of other clients' own machinery, which has no part in a load of ours.
    **dict.fromkeys(("cacheprepstmts", "prepstmtcachesize", "prepstmtcachesqllimit", "useserverprepstmts"), ()),
    **dict.fromkeys(("rewritebatchedstatements", "useunicode", "uselocalsessionstate", "useconfigs"), ()),
    **dict.fromkeys(("cacheresultsetmetadata", "cacheserverconfiguration", "maintaintimestats"), ()),
    # No time is read or written but as a number.
    **dict.fromkeys(("servertimezone", "connectiontimezone", "uselegacydatetimecode", "zerodatetimebehavior"), ()),
    **dict.fromkeys(("programname", "nullcatalogmeanscurrent", "tcpkeepalive"), ()),
    # The drivers ask a server for its public key where it wants a password without TLS.
    **dict.fromkeys(("allowpublickeyretrieval", "getserverpublickey"), _TRUE),
    **dict.fromkeys(("autoreconnect", "compress", "localinfile", "allowloadlocalinfile"), _FALSE),
    **dict.fromkeys(("charset", "characterencoding", "defaultcharacterset"), _UTF8),
}
_SPELLED = {
    "connecttimeout": "connect-timeout",
    "database": "dbname",
    "db": "dbname",
    "enabledtlsprotocols": "tls-version",
    "passwd": "password",
    "sslca": "ssl-ca",
    "sslcapath": "ssl-capath",
    "sslcert": "ssl-cert",
    "sslkey": "ssl-key",
    "sslmode": "ssl-mode",
    "tlsversion": "tls-version",
    "tlsversions": "tls-version",
    "unixsocket": "socket",
    "username": "user",
}
"""Names by their spelling without case, hyphens and underscores."""
_SWITCHES = (
    # The strictest that is on decides: a name in a DSN, and what it says of the mode where it is on and off.
    ("sslverifyidentity", "verify_identity", ""),
    ("sslverifycert", "verify_ca", ""),
    ("verifyservercertificate", "verify_ca", ""),
    ("requiressl", "required", ""),
    ("usessl", "required", "disabled"),
    ("ssl", "required", "disabled"),
    ("ssldisabled", "disabled", ""),
)
_OF_FILES = {*WHERE, *KEPT}
"""What is taken from an option file: it holds options of many programs."""
SYSTEM_FILES = ("/etc/my.cnf", "/etc/mysql/my.cnf")
MOST_INCLUDED = 100


def mysql_settings(dsn: Dsn, environ: Mapping[str, str]) -> dict[str, str]:
    """All settings of a connection: WHERE, and the parameters of KEPT. Raises PlanError for what is not understood."""
    given = {_name(name): one for name, one in from_dsn(dsn.settings).items()}
    if dsn.jdbc and "connect-timeout" in given and given["connect-timeout"].value.isdecimal():
        value, source = given["connect-timeout"]
        given["connect-timeout"] = Given(str(int(value[:9]) // 1000), source)
    _choose_mode(given)
    elsewhere = {**from_environment(environ, VARIABLES), **_option_files(environ)}
    if "host" in given or "socket" in given:
        # A socket is another server than the one that is named.
        elsewhere.pop("socket", None)
        elsewhere.pop("host", None)
    elif "host" not in elsewhere and "socket" not in elsewhere:
        _refuse_login_file(environ)
    given = {**elsewhere, **given}
    parameters = {name: one for name, one in given.items() if name not in WHERE}
    if (mode := parameters.get("ssl-mode")) is not None:
        parameters["ssl-mode"] = Given(mode.value.lower().replace("-", "_"), mode.source)
    return {**{name: given[name].value for name in WHERE if name in given}, **understood(parameters, KEPT, MET)}


def _name(name: str) -> str:
    plain = re.sub(r"[-_ ]", "", name).lower()
    return _SPELLED.get(plain, plain)


def _choose_mode(given: dict[str, Given]) -> None:
    """Replace the switches of other clients by the ``ssl-mode`` that they mean; an ``ssl-mode`` that is given has
    priority."""
    mode = ""
    for name, where_on, where_off in _SWITCHES:
        one = given.pop(name, None)
        if one is None:
            continue
        if one.value.lower() not in (*_TRUE, *_FALSE):
            raise PlanError(f"{one.source} is neither true nor false: use ssl-mode ({', '.join(KEPT['ssl-mode'])})")
        mode = mode or (where_on if one.value.lower() in _TRUE else where_off)
        if mode:
            given.setdefault("ssl-mode", Given(mode, one.source))


def _option_files(environ: Mapping[str, str]) -> dict[str, Given]:
    """What the group ``client`` of the option files says, of which the last one wins, as for the mysql client."""
    home = environ.get("HOME") or str(Path("~").expanduser())
    groups = {"client", f"client{environ.get('MYSQL_GROUP_SUFFIX', '')}"}
    found: dict[str, Given] = {}
    for name in (*SYSTEM_FILES, f"{home}/.my.cnf"):
        group = ""
        for where, line in _lines(Path(name), [MOST_INCLUDED]):
            if line.startswith("["):
                group = line[1:].partition("]")[0].strip()
            elif group in groups:
                option, _, value = line.partition("=")
                option = _name(option.strip())
                value = _unquoted(value.strip())
                if option in _OF_FILES and not (option == "ssl-mode" and value.lower() == "preferred"):
                    found[option] = Given(value, f"{option} in {where}")
    return {name: one for name, one in found.items() if one.value}


def _lines(path: Path, left: list[int]) -> Iterator[tuple[str, str]]:
    """The lines of an option file and of those that it includes, each with where it stands; none that can't be read."""
    left[0] -= 1
    if left[0] < 0 or not os.access(path, os.R_OK) or not path.is_file():
        return
    for number, raw in enumerate(path.read_text(errors="surrogateescape").splitlines(), 1):
        line = raw.strip()
        word, _, rest = line.partition(" ")
        if word == "!include":
            yield from _lines(Path(rest.strip()), left)
        elif word == "!includedir":
            for one in sorted(Path(rest.strip()).glob("*.cnf")):
                yield from _lines(one, left)
        elif line and line[0] not in "#;":
            yield f"line {number} of {path}", line


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return re.split(r"\s#", value)[0].rstrip()


def _refuse_login_file(environ: Mapping[str, str]) -> None:
    home = environ.get("HOME") or str(Path("~").expanduser())
    path = Path(environ.get("MYSQL_TEST_LOGIN_FILE") or f"{home}/.mylogin.cnf")
    if path.exists():
        raise PlanError(f"the DSN names no host, and {path}, which may name one, can't be read: name it in the DSN")
