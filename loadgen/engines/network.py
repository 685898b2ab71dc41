"""What the name look-up and the TLS handshake of a connection ran into, and the files that TLS needs, in plain words.

The errors of ``ssl`` carry numbers of OpenSSL, which the system's table of errors turns into texts about something
else ("Operation not permitted" for an authority that is not known), and those of the look-up name no host.
"""

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from loadgen.engines.engine import Address
from loadgen.errors import ClusterError, LoadgenError

MOST_BYTES = 4 << 20
"""The largest file of certificates that is read: those of all authorities are a quarter of a megabyte."""
_VERIFY = {
    9: "the certificate of {host}, or of its authority, is not valid yet: check this machine's clock",
    10: "the certificate of {host}, or of its authority in {ca}, has expired",
    12: "the revocation list in {crl} has expired",
    18: "the certificate of {host} is self-signed, and {ca} does not hold it",
    19: "the certificate of {host} comes from an authority that is self-signed, and {ca} does not hold it",
    20: "the certificate of {host} comes from an authority that is not in {ca}",
    21: "the certificate of {host} comes from an authority that is not in {ca}",
    23: "the certificate of {host} was revoked",
    3: "there is no revocation list of the authority of {host} in {crl}",
    62: "the certificate is not for the name {host}: connect by a name that is in it",
    64: "the certificate is not for the address {host}: connect by a name that is in it",
}
"""By OpenSSL's number of what it did not find right about a certificate."""
_REASONS = {
    "WRONG_VERSION_NUMBER": "{host} does not speak TLS on this port",
    "UNEXPECTED_EOF_WHILE_READING": "{host} closed the connection in the midst of the TLS handshake",
    "UNSUPPORTED_PROTOCOL": "{host} has no TLS version that is allowed here",
    "NO_PROTOCOLS_AVAILABLE": "no TLS version is left to offer to {host}",
    "TLSV1_ALERT_PROTOCOL_VERSION": "{host} has no TLS version that is allowed here",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "{host} refused the TLS handshake: no common cipher, or no certificate of ours",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "{host} wants a certificate of ours: name it by {own}",
    "TLSV1_ALERT_UNKNOWN_CA": "{host} does not know the authority of the client certificate ({own})",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "{host} reports that the client certificate ({own}) has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "{host} reports that the client certificate ({own}) was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "{host} does not take our certificate ({own})",
    "SSLV3_ALERT_BAD_CERTIFICATE": "{host} does not take our certificate ({own})",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "{host} does not take our certificate ({own})",
    "TLSV1_ALERT_DECRYPT_ERROR": "{host} does not take our certificate ({own})",
}
_LOOKUP = {
    socket.EAI_AGAIN: "the look-up of the name {host} got no answer from the name server (DNS): try again",
    socket.EAI_FAIL: "the look-up of the name {host} failed at the name server (DNS)",
}


_ENDED = "{host} closed the connection: it may want another certificate of ours ({own})"
_DEMANDED = ("require", "verify-ca", "verify-full", "required", "verify_ca", "verify_identity")


class TlsError(OSError):
    """A TLS handshake that failed."""


class NameLookupError(OSError):
    """A host name that leads nowhere."""


class TlsFile(NamedTuple):
    """A file that a parameter names; ``path`` is empty where it names none."""

    parameter: str
    path: str


def explained(error: BaseException, member: Address) -> BaseException:
    """``error``, or a TlsError or NameLookupError that says why the connection to ``member`` failed."""
    if isinstance(error, LoadgenError):
        return error
    parameters = member.parameters
    named = {
        "host": member.host,
        "ca": parameters.get("sslrootcert") or parameters.get("ssl-ca") or "this system's list of authorities",
        "crl": parameters.get("sslcrl", "the revocation list"),
        "own": parameters.get("sslcert") or parameters.get("ssl-cert") or "sslcert, sslkey; ssl-cert, ssl-key",
    }
    for one in _chain(error):
        if isinstance(one, socket.gaierror):
            text = _LOOKUP.get(one.args[0], "there is no host of the name {host}: check the DSN's host, and DNS")
            return NameLookupError(text.format(**named))
        if isinstance(one, UnicodeError):
            return NameLookupError(f"{member.host} can't be the name of a host")
        if isinstance(one, ssl.SSLCertVerificationError):
            text = _VERIFY.get(one.verify_code, "the certificate of {host} was not verified: " + one.verify_message)
            return TlsError("TLS: " + text.format(**named))
        if isinstance(one, ssl.SSLError):
            reason = str(one.reason or "").upper()
            unknown = "the TLS handshake with {host} failed: " + reason.replace("_", " ").lower()
            unknown = unknown if reason else _ENDED
            return TlsError("TLS: " + _REASONS.get(reason, unknown).format(**named))
        if type(one) is ConnectionError and "SSL" in str(one):
            # asyncpg's, for a server that answers the request for TLS with no.
            return TlsError(f"TLS: {member.host} does not offer it, and the DSN's sslmode demands it")
    if error.args[:1] == (2026,):
        return TlsError(f"TLS: {member.host} does not offer it, and the DSN's ssl-mode demands it")
    if _is_lost(error) and parameters.get("sslmode", parameters.get("ssl-mode")) in _DEMANDED and not member.socket:
        # The alert that says why is lost where the server closes too soon behind it.
        return TlsError(
            "TLS: {host} closed the connection: it may want another certificate of ours ({own})".format(**named)
        )
    return error


def load_authorities(context: ssl.SSLContext, file: TlsFile) -> None:
    """Trust the certificates in ``file``. Raises ClusterError."""
    _contents(file, b"CERTIFICATE-----", "certificate")
    try:
        context.load_verify_locations(cafile=file.path)
    except (ssl.SSLError, ValueError):
        raise _unusable(file, "holds a certificate that is damaged") from None


def load_revoked(context: ssl.SSLContext, file: TlsFile) -> None:
    """Refuse the certificates that the revocation list in ``file`` names. Raises ClusterError."""
    _contents(file, b"X509 CRL-----", "certificate revocation list")
    try:
        context.load_verify_locations(cafile=file.path)
    except (ssl.SSLError, ValueError):
        raise _unusable(file, "holds a revocation list that is damaged") from None
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def load_own(context: ssl.SSLContext, certificate: TlsFile, key: TlsFile, password: str, name_password: str) -> None:
    """Identify ourselves by a certificate and its private key. Raises ClusterError with which file is wrong, and why.

    ``name_password`` is the parameter that ``password`` came by, empty where there is none for it.
    """
    _contents(certificate, b"CERTIFICATE-----", "certificate")
    key = key if key.path else TlsFile(certificate.parameter, certificate.path)
    held = _contents(key, b"PRIVATE KEY-----", "private key")
    encrypted = b"ENCRYPTED" in held
    if encrypted and not password:
        remedy = f"name its password by {name_password}" if name_password else "decrypt it: openssl pkey -in FILE"
        raise _unusable(key, f"is encrypted: {remedy}")
    try:
        context.load_cert_chain(certificate.path, keyfile=key.path, password=password)
    except (ssl.SSLError, ValueError) as error:
        reason = str(getattr(error, "reason", "") or "")
        if "MISMATCH" in reason:
            problem = f"holds a private key that does not belong to the certificate in {certificate.path}"
            raise _unusable(key, problem) from None
        if encrypted:
            raise _unusable(key, f"is encrypted, and {name_password} does not open it") from None
        raise _unusable(certificate, f"or {key.path} is damaged") from None


def _contents(file: TlsFile, marker: bytes, what: str) -> bytes:
    """What ``file`` holds, which is ``what`` in PEM. Raises ClusterError."""
    path = Path(file.path)
    try:
        if path.exists() and not path.is_file():
            raise _unusable(file, "is no plain file")
        with path.open("rb") as opened:
            held = opened.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise _unusable(file, "does not exist") from None
    except PermissionError:
        raise _unusable(file, "may not be read by this user") from None
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        raise _unusable(file, f"can't be read ({os.strerror(number) if number else 'no path'})") from None
    if len(held) > MOST_BYTES:
        raise _unusable(file, f"is larger than any file of {what}s")
    if marker not in held:
        der = "; it looks like DER: openssl can convert it" if held[:1] == b"\x30" else ""
        raise _unusable(file, f"holds no {what} in PEM format{der}")
    return held


def _unusable(file: TlsFile, problem: str) -> ClusterError:
    return ClusterError(f"{file.parameter}: {file.path} {problem}")


def _is_lost(error: BaseException) -> bool:
    """Whether the server ended the connection while it was made, without a word: asyncpg's error, or error 2013."""
    return type(error).__name__ == "ConnectionDoesNotExistError" or error.args[:1] == (2013,)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what it came from, also where the driver keeps that in an attribute of its own."""
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        seen.append(one)
        yield one
        one = getattr(one, "original_exception", None) or one.__cause__ or one.__context__
