"""TLS on PostgreSQL's wire: what libpq's parameters ask for, with its defaults in ``~/.postgresql``."""

import ssl
from collections.abc import Mapping
from pathlib import Path

from loadgen.engines.network import TlsFile, load_authorities, load_own, load_revoked
from loadgen.errors import ClusterError

ADVISORY = ("allow", "prefer")
"""The modes in which a connection without TLS is as good; asyncpg knows how to fall back."""
SYSTEM = "system"
_VERSIONS = {
    "tlsv1": ssl.TLSVersion.TLSv1,
    "tlsv1.1": ssl.TLSVersion.TLSv1_1,
    "tlsv1.2": ssl.TLSVersion.TLSv1_2,
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
}


def tls_of(parameters: Mapping[str, str]) -> "ssl.SSLContext | str | bool":
    """What asyncpg takes for it: False for none, a mode's name where it may fall back, or the context itself.

    No ``sslmode`` is none: a DSN's is always there. Raises ClusterError for a file that can't be used.
    """
    mode = parameters.get("sslmode", "disable")
    if mode == "disable":
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = _VERSIONS[parameters.get("ssl_min_protocol_version", "tlsv1.2")]
    if latest := parameters.get("ssl_max_protocol_version"):
        context.maximum_version = _VERSIONS[latest]
    if parameters.get("sslcertmode") != "disable":
        _identify(context, parameters)
    if mode in ADVISORY:
        return mode
    _trust(context, parameters, mode)
    if ssl.HAS_ALPN:
        context.set_alpn_protocols(["postgresql"])
    return context


def file_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    """Those of ``parameters`` that asyncpg needs beside the name of a mode, in its spelling."""
    wanted = ("sslcert", "sslkey", "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version")
    return {
        name: _VERSIONS[value].name.replace("_", ".") if name.startswith("ssl_") else value
        for name, value in parameters.items()
        if name in wanted
    }


def _trust(context: ssl.SSLContext, parameters: Mapping[str, str], mode: str) -> None:
    root = parameters.get("sslrootcert") or _default("root.crt")
    if root == SYSTEM:
        context.load_default_certs()
    elif root:
        load_authorities(context, TlsFile("sslrootcert", root))
    elif mode != "require":
        raise ClusterError(
            f"sslmode={mode} needs sslrootcert: the file with the authority's certificate (or sslrootcert=system)"
        )
    if root:
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = mode == "verify-full"
        if revoked := parameters.get("sslcrl") or _default("root.crl"):
            load_revoked(context, TlsFile("sslcrl", revoked))


def _identify(context: ssl.SSLContext, parameters: Mapping[str, str]) -> None:
    certificate = parameters.get("sslcert") or _default("postgresql.crt")
    key = parameters.get("sslkey") or _default("postgresql.key")
    if certificate:
        password = parameters.get("sslpassword", "")
        load_own(context, TlsFile("sslcert", certificate), TlsFile("sslkey", key), password, "sslpassword")


def _default(name: str) -> str:
    try:
        path = Path.home() / ".postgresql" / name
        return str(path) if path.exists() else ""
    except (OSError, RuntimeError, KeyError):
        return ""
