"""TLS on the MySQL wire: what a DSN's parameters ask for."""

import ssl
from pathlib import Path

import pytest

from loadgen.engines.mysql_tls import tls_context
from loadgen.errors import ClusterError


@pytest.mark.parametrize("parameters", [{}, {"ssl-mode": "DISABLED"}, {"ssl_mode": "disabled"}])
def test_no_tls_unless_asked(parameters: dict[str, str]) -> None:
    """Without a parameter the connection is plain."""
    assert tls_context(parameters) is None


@pytest.mark.parametrize(
    ("parameters", "verify", "hostname"),
    [
        ({"ssl-mode": "REQUIRED"}, ssl.CERT_NONE, False),
        ({"ssl-mode": "verify-identity"}, ssl.CERT_REQUIRED, True),
    ],
)
def test_mode_says_what_is_verified(parameters: dict[str, str], verify: ssl.VerifyMode, hostname: bool) -> None:
    """Required encrypts, and verify_identity checks the certificate and the name in it."""
    context = tls_context(parameters)

    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (verify, hostname)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"ssl-mode": "sometimes"}, "ssl-mode"),
        ({"sslmode": "require"}, "'sslmode'"),
        ({"ssl-mode": "verify_ca"}, "ssl-ca"),
        ({"ssl-ca": "/no/such/file.pem"}, "/no/such/file.pem"),
        ({"autocommit": "0"}, "'autocommit'"),
    ],
)
def test_what_cannot_be_kept_is_refused(parameters: dict[str, str], expected: str) -> None:
    """A parameter that is not understood is never passed over in silence."""
    with pytest.raises(ClusterError, match=expected) as refused:
        tls_context(parameters)

    assert "\n" not in str(refused.value)


def test_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    """The message names the file."""
    path = tmp_path / "ca.pem"
    path.write_text("nothing")

    with pytest.raises(ClusterError, match=r"ca\.pem"):
        tls_context({"ssl-ca": str(path)})
