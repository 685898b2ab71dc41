"""What a name look-up or a TLS handshake ran into is told as what it is, with the file or the name, on every driver."""

import asyncio
import os
import re
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from loadgen.engines import engine_of
from loadgen.engines.address import parse_dsn
from loadgen.engines.engine import Address, level_of
from loadgen.errors import ClusterError
from loadgen.op import Stage
from tests.engines.tls_server import Certificate, certificate, tls_server

WRONG_TEXTS = ("Operation not permitted", "Stale file", "Unknown error", "_ssl.c", "check that it runs", "Errno")


def as_parameters(wire: str, mode: str, ca: str = "", own: tuple[str, str] = ("", "")) -> str:
    """The parameters of a DSN that ask for TLS."""
    modes = {"require": "required", "verify-ca": "verify_ca", "verify-full": "verify_identity"}
    names = (
        ("sslmode", "sslrootcert", "sslcert", "sslkey")
        if wire == "postgres"
        else ("ssl-mode", "ssl-ca", "ssl-cert", "ssl-key")
    )
    values = (mode if wire == "postgres" else modes[mode], ca, *own)
    return "&".join(f"{name}={quote(value)}" for name, value in zip(names, values, strict=True) if value)


def told(wire: str, host: str, port: int, parameters: str) -> str:
    """What the control connection says, after the load's connection was seen to say the same."""
    address = parse_dsn(f"{wire}://u:SECRET@{host}:{port}/db?{parameters}", {})
    engine = engine_of(wire)
    with pytest.raises(ClusterError) as refused, closing(engine.control(address, "test")):
        pass
    message = str(refused.value)
    assert not any(text in message for text in WRONG_TEXTS), message
    assert "SECRET" not in message
    assert "\n" not in message
    with pytest.raises(Exception) as raised:
        asyncio.run(_connect(wire, address))
    if not isinstance(raised.value, ClusterError):
        failure = engine.classify(raised.value, Stage.CONNECT)
        assert failure.code in ("TlsError", "NameLookupError"), failure
        assert not any(text in failure.sample for text in WRONG_TEXTS), failure
    return message


async def _connect(wire: str, address: Address) -> None:
    engine = engine_of(wire)
    await engine.connect(address, level_of(engine, ""), "run")


@pytest.fixture
def authority() -> Certificate:
    """Who signs the servers' certificates."""
    return certificate("authority")


def context_of(own: Certificate, folder: Path, name: str = "server") -> ssl.SSLContext:
    """A server's TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*own.write(folder, name))
    return context


Maker = Callable[[Certificate], Certificate]
CERTIFICATES: list[tuple[str, Maker, str, str]] = [
    ("unknown authority", lambda _: certificate("127.0.0.1", certificate("another")), "verify-ca", "not in .*ca.crt"),
    ("self-signed", lambda _: certificate("127.0.0.1"), "verify-ca", "self-signed, and .*ca.crt"),
    ("expired", lambda ca: certificate("127.0.0.1", ca, from_day=-9, to_day=-1), "verify-ca", "expired"),
    ("not yet valid", lambda ca: certificate("127.0.0.1", ca, from_day=2), "verify-ca", "not valid yet"),
    ("another address", lambda ca: certificate("10.0.0.1", ca), "verify-full", "not for the address 127.0.0.1"),
    ("another name", lambda ca: certificate("db.example", ca), "verify-full", "not for the address 127.0.0.1"),
]


@pytest.mark.parametrize("wire", ["postgres", "mysql"])
@pytest.mark.parametrize(
    ("made", "mode", "expected"), [row[1:] for row in CERTIFICATES], ids=[row[0] for row in CERTIFICATES]
)
def test_certificate_of_a_server_that_is_not_right(
    wire: str,
    made: Callable[[Certificate], Certificate],
    mode: str,
    expected: str,
    authority: Certificate,
    tmp_path: Path,
) -> None:
    """Each way in which it can be wrong has its own words."""
    ca, _ = authority.write(tmp_path, "ca")
    with tls_server(wire, context_of(made(authority), tmp_path)) as port:
        message = told(wire, "127.0.0.1", port, as_parameters(wire, mode, ca))

    assert re.search(expected, message), message


@pytest.mark.parametrize("wire", ["postgres", "mysql"])
def test_name_of_a_host_that_is_not_the_certificates(wire: str, authority: Certificate, tmp_path: Path) -> None:
    """The message has the name that was asked for."""
    ca, _ = authority.write(tmp_path, "ca")
    with tls_server(wire, context_of(certificate("db.example", authority), tmp_path)) as port:
        assert "not for the name localhost" in told(wire, "localhost", port, as_parameters(wire, "verify-full", ca))


@pytest.mark.parametrize("wire", ["postgres", "mysql"])
@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70 + ".example"])
def test_host_that_is_not_there_is_named(wire: str, host: str) -> None:
    """By the look-up, or before it, where no host can have that name."""
    message = told(wire, host, 1, "")

    assert f"{host}" in message
    assert "host" in message.replace(host, "")


@pytest.mark.parametrize("wire", ["postgres", "mysql"])
def test_one_of_several_hosts_is_named_by_its_error(wire: str) -> None:
    """The last that was tried."""
    assert "no host of the name no-such-host.invalid" in told(wire, "127.0.0.1:1,no-such-host.invalid", 2, "")


@pytest.mark.parametrize("wire", ["postgres", "mysql"])
@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("missing", "does not exist"),
        ("folder", "is no plain file"),
        ("fifo", "is no plain file"),
        ("der", "DER"),
        ("text", "holds no certificate"),
        ("key", "holds no certificate"),
        ("damaged", "damaged"),
        ("long", "can't be read|does not exist"),
    ],
)
def test_file_of_an_authority_that_is_no_use(
    wire: str, which: str, expected: str, authority: Certificate, tmp_path: Path
) -> None:
    """The message has the parameter, the file, and what is wrong with it; no connection is tried."""
    path = tmp_path / which
    _, key = authority.write(tmp_path, "ca")
    if which == "folder":
        path.mkdir()
    elif which == "fifo":
        os.mkfifo(path)
    elif which == "der":
        path.write_bytes(ssl.PEM_cert_to_DER_cert((tmp_path / "ca.crt").read_text()))
    elif which == "text":
        path.write_text("nothing")
    elif which == "key":
        path = Path(key)
    elif which == "damaged":
        path.write_text((tmp_path / "ca.crt").read_text().replace("M", "A"))
    message = told(
        wire, "127.0.0.1", 1, as_parameters(wire, "verify-ca", str(path) + ("x" * 300 if which == "long" else ""))
    )

    assert re.search(expected, message), message
    assert ("sslrootcert: " if wire == "postgres" else "ssl-ca: ") + str(path) in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("wire", ["postgres", "mysql"])
def test_file_that_may_not_be_read(wire: str, authority: Certificate, tmp_path: Path) -> None:
    """Its rights are what is wrong."""
    ca, _ = authority.write(tmp_path, "ca")
    Path(ca).chmod(0)
    assert "may not be read" in told(wire, "127.0.0.1", 1, as_parameters(wire, "verify-ca", ca))


@pytest.mark.parametrize("wire", ["postgres", "mysql"])
@pytest.mark.parametrize("which", ["another", "encrypted", "missing", "swapped"])
def test_own_key_that_is_no_use(wire: str, which: str, authority: Certificate, tmp_path: Path) -> None:
    """A key of another certificate, one without its password, none, and the files the wrong way round."""
    own, key = certificate("me", authority).write(tmp_path, "own", b"secret" if which == "encrypted" else b"")
    _, another = certificate("other", authority).write(tmp_path, "another")
    key = {"another": another, "missing": "/none.key", "encrypted": key, "swapped": own}[which]
    own = another if which == "swapped" else own
    expected = {
        "another": "does not belong to the certificate in",
        "encrypted": "is encrypted",
        "missing": "/none.key does not exist",
        "swapped": "holds no certificate",
    }
    message = told(wire, "127.0.0.1", 1, as_parameters(wire, "require", own=(own, key)))

    assert expected[which] in message
    if which == "another":
        assert another in message


def test_password_of_a_key_that_is_wrong_or_right(authority: Certificate, tmp_path: Path) -> None:
    """``sslpassword`` opens the key, or the message says that it does not."""
    own = certificate("me", authority).write(tmp_path, "own", b"right&")
    asked = as_parameters("postgres", "require", own=own)

    assert "sslpassword does not open it" in told("postgres", "127.0.0.1", 1, f"{asked}&sslpassword=wrong")
    assert "cannot reach" in refused_without_tls(f"{asked}&sslpassword=right%26")


def refused_without_tls(parameters: str) -> str:
    """The message of a port where nobody listens."""
    with pytest.raises(ClusterError) as refused:
        engine_of("postgres").control(parse_dsn(f"postgres://u@127.0.0.1:1/d?{parameters}", {}), "test")
    return str(refused.value)


@pytest.mark.parametrize("wire", ["postgres", "mysql"])
def test_server_that_wants_a_certificate_or_knows_not_ours(wire: str, authority: Certificate, tmp_path: Path) -> None:
    """The server's alert is told in words."""
    server = context_of(certificate("127.0.0.1", authority), tmp_path)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(authority.write(tmp_path, "ca")[0])
    own = certificate("me", certificate("another")).write(tmp_path, "own")
    with tls_server(wire, server) as port:
        assert "certificate of ours" in told(wire, "127.0.0.1", port, as_parameters(wire, "require"))
        message = told(wire, "127.0.0.1", port, as_parameters(wire, "require", own=own))
    assert own[0] in message


@pytest.mark.parametrize("wire", ["postgres", "mysql"])
def test_server_without_a_common_version(wire: str, authority: Certificate, tmp_path: Path) -> None:
    """An old server, and a DSN that wants a new one."""
    server = context_of(certificate("127.0.0.1", authority), tmp_path)
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    versions = "ssl_min_protocol_version=TLSv1.3" if wire == "postgres" else "tls-version=TLSv1.3"
    with tls_server(wire, server) as port:
        message = told(wire, "127.0.0.1", port, f"{as_parameters(wire, 'require')}&{versions}")
    assert "no TLS version" in message


def test_server_without_tls_is_told(tmp_path: Path) -> None:
    """It answers the request with no."""
    with tls_server("postgres", None) as port:
        assert "does not offer it" in told("postgres", "127.0.0.1", port, "sslmode=require")
