"""Where a DSN points: ``postgres://user:password@host:5432/database?sslmode=require`` and its like, as an Address.

A DSN carries a password, so no message here holds any of its parts but those that cannot be one.
"""

import getpass
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from loadgen.engines.engine import CONNECT_TIMEOUT_S, Address
from loadgen.errors import PlanError
from loadgen.plan import masked_dsn

DEFAULT_PORTS = {"postgres": 5432, "mysql": 3306}
_SCHEMES = {"postgres": "postgres", "postgresql": "postgres", "mysql": "mysql"}
_EXAMPLES = {
    "postgres": "postgres://user:password@host:5432/database",
    "mysql": "mysql://user:password@host:3306/",
}
_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%a-z]+)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[^:]*))?")
_PLACE = re.compile(r"(.+?):(\d+)(?:,|$)")
"""One of several hosts with its port; the path of a socket may hold a comma."""
SHORTEST_TURN_S = 0.2
"""What the last of several hosts gets where those before it took more than their share."""
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def parse_dsn(dsn: str, environ: Mapping[str, str]) -> Address:
    """The address that ``dsn`` names. Raises PlanError, the DSN's secrets masked, for one that is malformed.

    What the DSN leaves out comes from ``environ`` where the engine's own tools would look: PGHOST, PGPORT, PGUSER,
    PGDATABASE, PGPASSWORD and the password file on PostgreSQL, MYSQL_PWD on the MySQL wire.
    """
    scheme, separator, rest = dsn.strip().partition("://")
    wire = _SCHEMES.get(scheme.lower(), "") if separator else ""
    if not wire:
        raise PlanError(f"--dsn {shown(dsn)!r} must begin with postgres:// or mysql://")
    # A DSN has no fragment, so that a # may stand in a user's name (OceanBase's user@tenant#cluster) or password.
    parts = re.fullmatch(r"([^/?]*)(?:/([^?]*))?(?:\?(.*))?", rest, re.DOTALL)
    assert parts is not None
    authority, path, query = (part or "" for part in parts.groups())
    credentials, _, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    if "@" in path or any(_BROKEN_ESCAPE.search(part) for part in (authority, path)):
        raise _malformed(dsn, wire, "a special character in it is not percent-encoded (/ is %2F, ? is %3F, % is %25)")
    if "\0" in unquote(rest):
        raise _malformed(dsn, wire, "it holds a NUL character")
    try:
        parameters = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise _malformed(dsn, wire, "its parameters are not name=value&name=value") from None
    user = parameters.pop("user", unquote(user))
    password = parameters.pop("password", unquote(password))
    database = parameters.pop("dbname", parameters.pop("database", unquote(path)))
    if wire == "mysql":
        socket = parameters.pop("unix_socket", parameters.pop("socket", ""))
        host, port = _mysql(dsn, hosts, socket)
        password = password or environ.get("MYSQL_PWD", "")
        return Address(host, port, user or _login_name(environ), password, database, socket, parameters)
    named = parameters.pop("host", "")
    places = _hosts(dsn, wire, hosts or named or environ.get("PGHOST", ""), unquoted=not hosts)
    ports = _ports(dsn, parameters.pop("port", "") or ("" if hosts else environ.get("PGPORT", "")))
    if len(ports) not in (0, 1, len(places)):
        raise _malformed(dsn, wire, f"it has {len(ports)} ports for {len(places)} hosts")
    address = _postgres(places, ports, user or environ.get("PGUSER") or _login_name(environ), parameters)
    database = database or environ.get("PGDATABASE") or address.user
    password = password or environ.get("PGPASSWORD", "") or _from_password_file(address, database, environ)
    return Address(
        address.host, address.port, address.user, password, database, address.socket, _without(parameters, "passfile")
    )


def shown(dsn: str) -> str:
    """``dsn`` for a message, also where it is malformed: whatever might be a password is masked."""
    if "://" not in dsn:
        return re.sub(r"(?s):.*", ":***", dsn)
    masked = re.sub(r"(?s)(://[^:@/?]*):.*@", r"\1:***@", masked_dsn(dsn))
    return re.sub(r"(://[^/?]*?):(?!\d*(?:[,/?\]:]|$))[^/?@]*", r"\1:***", masked)


def hosts_of(address: Address) -> list[tuple[str, int]]:
    """The hosts of an address that may name several, each with its port, in order; one with a / is a unix socket's."""
    if "," not in address.host:
        return [(address.host, address.port)]
    return [(host.strip("[]"), int(port)) for host, port in _PLACE.findall(address.host)]


def members_of(address: Address) -> tuple[Address, ...]:
    """The hosts of an address, each as an address of its own, in order."""
    if "," not in address.host:
        return (address,)
    return tuple(
        replace(address, host="", port=port, socket=host)
        if host.startswith("/")
        else replace(address, host=host, port=port)
        for host, port in hosts_of(address)
    )


def joined(members: Sequence[Address]) -> Address:
    """One address that names the hosts of all ``members``, which differ in nothing else."""
    if len(members) == 1:
        return members[0]
    places = [(member.socket or member.host, member.port) for member in members]
    return replace(members[0], host=_text(places), port=0, socket="")


def in_turn(address: Address) -> Iterator[tuple[Address, float]]:
    """The hosts of an address as a connection tries them: each by itself, and how many seconds it may take.

    That is its share of what is left of CONNECT_TIMEOUT_S, so that a frozen host leaves time for those behind it.
    """
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    members = members_of(address)
    for tried, member in enumerate(members):
        yield member, max(deadline - time.monotonic(), SHORTEST_TURN_S) / (len(members) - tried)


def _mysql(dsn: str, text: str, socket: str) -> tuple[str, int]:
    places = [(host, port or DEFAULT_PORTS["mysql"]) for host, port in _hosts(dsn, "mysql", text, unquoted=False)]
    if socket and len(places) > 1:
        raise _malformed(dsn, "mysql", "it names several hosts and a unix socket")
    return places[0] if len(places) == 1 else (_text(places), 0)


def _postgres(hosts: list[tuple[str, int]], ports: list[int], user: str, parameters: Mapping[str, str]) -> Address:
    given = ports if len(ports) == len(hosts) else (ports or [DEFAULT_PORTS["postgres"]]) * len(hosts)
    places = [(host, port or default) for (host, port), default in zip(hosts, given, strict=True)]
    host, port = places[0]
    if len(places) > 1:
        return Address(_text(places), 0, user, parameters=parameters)
    if host.startswith("/"):
        return Address("", port, user, socket=host, parameters=parameters)
    return Address(host, port, user, parameters=parameters)


def _hosts(dsn: str, wire: str, text: str, *, unquoted: bool) -> list[tuple[str, int]]:
    found = []
    for part in text.split(","):
        if unquoted and part.startswith("/"):
            found.append((part, 0))
            continue
        match = _HOST.fullmatch(part)
        if match is None:
            raise _malformed(dsn, wire, "a host in it is not name:port or [IPv6]:port")
        host = match["six"] or (match["name"] if unquoted else unquote(match["name"]))
        found.append((host or "127.0.0.1", _port(dsn, wire, match["port"] or "0")))
    return found


def _text(places: Sequence[tuple[str, int]]) -> str:
    """Several hosts, each with its port, as ``Address.host`` names them."""
    return ",".join(
        f"[{host}]:{port}" if ":" in host and not host.startswith("/") else f"{host}:{port}" for host, port in places
    )


def _ports(dsn: str, text: str) -> list[int]:
    return [_port(dsn, "postgres", part) for part in text.split(",")] if text else []


def _port(dsn: str, wire: str, text: str) -> int:
    # isdecimal also holds for digits of other scripts, which int would take.
    if not (text.isascii() and text.isdecimal() and int(text[:6]) <= 65535):
        raise _malformed(dsn, wire, "its port is not a number from 1 to 65535")
    return int(text)


def _malformed(dsn: str, wire: str, reason: str) -> PlanError:
    return PlanError(f"--dsn {shown(dsn)!r} is malformed: {reason}; it should look like {_EXAMPLES[wire]}")


def _login_name(environ: Mapping[str, str]) -> str:
    named = environ.get("LOGNAME") or environ.get("USER")
    if named:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "root"


def _without(parameters: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in parameters.items() if key != name}


def _from_password_file(address: Address, database: str, environ: Mapping[str, str]) -> str:
    """The password that libpq would take from ``~/.pgpass`` or PGPASSFILE, by its rules; empty if there is none."""
    home = environ.get("HOME", "")
    named = address.parameters.get("passfile") or environ.get("PGPASSFILE") or (f"{home}/.pgpass" if home else "")
    path = Path(named)
    try:
        # libpq ignores a file that others may read, and so do we: it holds passwords.
        if not named or not path.is_file() or path.stat().st_mode & 0o077:
            return ""
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    places = [("localhost", address.port), (address.socket, address.port)] if address.socket else hosts_of(address)
    for host, port in places:
        wanted = (host, str(port), database, address.user)
        for line in lines:
            fields = list(_fields(line))
            if len(fields) >= 5 and all(field in ("*", want) for field, want in zip(fields, wanted, strict=False)):
                return fields[4]
    return ""


def _fields(line: str) -> Iterator[str]:
    r"""The fields of one line of a password file; ``\:`` and ``\\`` stand for a colon and a backslash."""
    if not line.startswith("#"):
        for field in re.findall(r"((?:[^\\:]|\\.)*)(?::|$)", line):
            yield re.sub(r"\\(.)", r"\1", field)
