"""Certificates of every sort, and servers that speak either wire's first words and then TLS."""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
GREETING = (
    b"\x0a8.0.0\0"
    + struct.pack("<I", 1)
    + b"salt1234\0"
    + struct.pack("<HBHHB", 0x8A08 | 0x0200, 45, 2, 0x0008, 21)
    + bytes(10)
    + b"salt12345678\0"
    + b"mysql_native_password\0"
)
"""A MySQL server's first packet: it can do TLS."""


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def write(self, folder: Path, name: str, password: bytes = b"") -> tuple[str, str]:
        """Write both as PEM into ``folder``; their paths."""
        cipher = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pem = serialization.Encoding.PEM
        (folder / f"{name}.crt").write_bytes(self.certificate.public_bytes(pem))
        (folder / f"{name}.key").write_bytes(self.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, cipher))
        return str(folder / f"{name}.crt"), str(folder / f"{name}.key")


def certificate(name: str, authority: Certificate | None = None, *, from_day: int = -1, to_day: int = 9) -> Certificate:
    """A certificate for the host ``name``, valid between two days from now; self-signed without an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    with contextlib.suppress(ValueError):
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))])
    if "alternative" not in locals():
        alternative = x509.SubjectAlternativeName([x509.DNSName(name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + from_day * DAY)
        .not_valid_after(now + to_day * DAY)
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
    )
    return Certificate(builder.sign(authority.key if authority else key, hashes.SHA256()), key)


@contextlib.contextmanager
def tls_server(wire: str, context: ssl.SSLContext | None) -> Iterator[int]:
    """A server on 127.0.0.1 that greets in ``wire`` and then does TLS, or has none; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, wire, context), daemon=True).start()
        yield listener.getsockname()[1]


def _accept(listener: socket.socket, wire: str, context: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError):
        while True:
            opened, _ = listener.accept()
            threading.Thread(target=_greet, args=(opened, wire, context), daemon=True).start()


def _greet(opened: socket.socket, wire: str, context: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError), opened:
        opened.settimeout(5)
        if wire == "mysql":
            opened.sendall(len(GREETING).to_bytes(3, "little") + b"\0" + GREETING)
            opened.recv(36)
        else:
            opened.recv(8)
            opened.sendall(b"S" if context else b"N")
        if context:
            with context.wrap_socket(opened, server_side=True) as inner:
                inner.recv(1)
