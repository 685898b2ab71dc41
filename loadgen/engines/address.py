"""Where a DSN points: ``postgres://user:password@host:5432/database?sslmode=require`` and its like, as an Address.

What the DSN leaves out comes from where the engine's own tools would look (see postgres_parameters, mysql_parameters).
"""

import getpass
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from loadgen.dsn import Dsn, check_ports, malformed, places, read_dsn
from loadgen.engines.engine import CONNECT_TIMEOUT_S, Address
from loadgen.engines.mysql_parameters import mysql_settings
from loadgen.engines.postgres_parameters import postgres_settings
from loadgen.errors import PlanError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORTS = {"postgres": 5432, "mysql": 3306}
_PLACE = re.compile(r"(.+?):(\d+)(?:,|$)")
"""One of several hosts with its port; the path of a socket may hold a comma."""
SHORTEST_TURN_S = 0.2
"""What the last of several hosts gets where those before it took more than their share."""


def parse_dsn(text: str, environ: Mapping[str, str]) -> Address:
    """The address that a DSN names. Raises PlanError for one that is malformed, or that can't be kept.

    What the DSN leaves out comes from ``environ`` and the files of the engine's own tools: a service, PGHOST and its
    like and the password file on PostgreSQL, ~/.my.cnf, MYSQL_HOST and MYSQL_PWD on the MySQL wire.
    """
    dsn = read_dsn(text)
    return _mysql(dsn, environ) if dsn.wire == "mysql" else _postgres(dsn, environ)


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

    That is its share of what is left of CONNECT_TIMEOUT_S, or of a shorter time that the address asks for: a frozen
    host leaves time for those behind it.
    """
    asked_s = float(address.parameters.get("connect_timeout") or address.parameters.get("connect-timeout") or 0)
    deadline = time.monotonic() + min(asked_s or CONNECT_TIMEOUT_S, CONNECT_TIMEOUT_S)
    members = members_of(address)
    for tried, member in enumerate(members):
        yield member, max(deadline - time.monotonic(), SHORTEST_TURN_S) / (len(members) - tried)


def _mysql(dsn: Dsn, environ: Mapping[str, str]) -> Address:
    settings = mysql_settings(dsn, environ)
    host, port, user, password, database, socket = (
        settings.pop(name, "") for name in ("host", "port", "user", "password", "dbname", "socket")
    )
    found = _places("mysql", host, port)
    if socket and len(found) > 1:
        raise malformed("mysql", "it names several hosts and a unix socket")
    host, number = found[0] if len(found) == 1 else (_text(found), 0)
    return Address(host, number, user or _login_name(environ), password, database, socket, settings)


def _postgres(dsn: Dsn, environ: Mapping[str, str]) -> Address:
    settings = postgres_settings(dsn, environ)
    host, hostaddr, port, user, password, database, password_file = (
        settings.pop(name, "") for name in ("host", "hostaddr", "port", "user", "password", "dbname", "passfile")
    )
    if hostaddr:
        if host and settings["sslmode"] == "verify-full" and host != hostaddr:
            raise PlanError(
                "hostaddr and host: sslmode=verify-full can't verify a name that loadgen does not connect to"
            )
        if host and host.count(",") != hostaddr.count(","):
            raise malformed("postgres", "it does not have as many hostaddr values as hosts")
    found = _places("postgres", hostaddr or host, port)
    user = user or _login_name(environ)
    first, number = found[0]
    address = Address(_text(found), 0, user, parameters=settings)
    if len(found) == 1:
        address = Address(first, number, user, parameters=settings)
        if first.startswith("/"):
            address = Address("", number, user, socket=first, parameters=settings)
    database = database or user
    password = password or _from_password_file(address, database, password_file, environ)
    return replace(address, database=database, password=password)


def _places(wire: str, host: str, port: str) -> list[tuple[str, int]]:
    """The hosts that are named, each with its port."""
    check_ports(wire, host, port)
    return [(one or DEFAULT_HOST, int(number or DEFAULT_PORTS[wire])) for one, number in places(host, port)]


def _text(found: Sequence[tuple[str, int]]) -> str:
    """Several hosts, each with its port, as ``Address.host`` names them."""
    return ",".join(
        f"[{host}]:{port}" if ":" in host and not host.startswith("/") else f"{host}:{port}" for host, port in found
    )


def _login_name(environ: Mapping[str, str]) -> str:
    named = environ.get("LOGNAME") or environ.get("USER")
    if named:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "root"


def _from_password_file(address: Address, database: str, file: str, environ: Mapping[str, str]) -> str:
    """The password that libpq would take from ``file`` or ``~/.pgpass``, by its rules; empty if there is none."""
    home = environ.get("HOME", "")
    named = file or (f"{home}/.pgpass" if home else "")
    path = Path(named)
    try:
        # libpq ignores a file that others may read, and so do we: it holds passwords.
        if not named or not path.is_file() or path.stat().st_mode & 0o077:
            return ""
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    on_socket = [("localhost", address.port), (address.socket, address.port)]
    for host, port in on_socket if address.socket else hosts_of(address):
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
