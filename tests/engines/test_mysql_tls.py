"""TLS on the MySQL wire: what a DSN's parameters ask for."""

import ssl
from pathlib import Path

import pytest

from loadgen.engines.address import parse_dsn
from loadgen.engines.mysql_tls import tls_context
from loadgen.errors import ClusterError, LoadgenError


def tls_asked_for(query: str) -> ssl.SSLContext | None:
    """The TLS of a DSN with these parameters."""
    return tls_context(parse_dsn(f"mysql://u@h/?{query}", {}).parameters)


@pytest.mark.parametrize("query", ["", "ssl-mode=DISABLED", "ssl_mode=disabled", "useSSL=false", "ssl_disabled=1"])
def test_no_tls_unless_asked(query: str) -> None:
    """Without a parameter the connection is plain."""
    assert tls_asked_for(query) is None


@pytest.mark.parametrize(
    ("query", "verify", "hostname"),
    [
        ("ssl-mode=REQUIRED", ssl.CERT_NONE, False),
        ("ssl-mode=verify-identity", ssl.CERT_REQUIRED, True),
        ("useSSL=true", ssl.CERT_NONE, False),
        ("ssl=true", ssl.CERT_NONE, False),
        ("ssl=true&ssl_verify_identity=1", ssl.CERT_REQUIRED, True),
        ("sslMode=VERIFY_IDENTITY&useSSL=false", ssl.CERT_REQUIRED, True),
    ],
)
def test_mode_says_what_is_verified(query: str, verify: ssl.VerifyMode, hostname: bool) -> None:
    """Required encrypts, and verify_identity checks the certificate and the name in it."""
    context = tls_asked_for(query)

    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (verify, hostname)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("ssl-mode=sometimes", "ssl-mode"),
        ("sslmode=require", "sslmode"),
        ("ssl-mode=PREFERRED", "ssl-mode"),
        ("ssl-mode=verify_ca", "ssl-ca"),
        ("useSSL=true&verifyServerCertificate=true", "ssl-ca"),
        ("useSSL=maybe", "useSSL"),
        ("ssl-ca=/no/such/file.pem", "/no/such/file.pem"),
        ("ssl-key=/key.pem&ssl-mode=required", "ssl-cert"),
        ("tls-version=TLSv1", "tls-version"),
        ("autocommit=0", "autocommit"),
        ("ssl-crl=/x", "ssl-crl"),
        ("allowPublicKeyRetrieval=false", "allowPublicKeyRetrieval"),
        ("init_command=SET%20x=1", "init_command"),
        ("charset=latin1", "charset"),
    ],
)
def test_what_cannot_be_kept_is_refused(query: str, expected: str) -> None:
    """A parameter that is not understood is never passed over in silence."""
    query = f"{query}&ssl-mode=required" if query.startswith("tls-version") else query
    with pytest.raises(LoadgenError, match=expected) as refused:
        tls_asked_for(query)

    assert "\n" not in str(refused.value)


def test_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    """The message names the file."""
    path = tmp_path / "ca.pem"
    path.write_text("nothing")

    with pytest.raises(ClusterError, match=r"ca\.pem"):
        tls_context({"ssl-ca": str(path)})
