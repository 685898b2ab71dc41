"""TLS on the MySQL wire: what a DSN's parameters say about it, in the words of the mysql client."""

import ssl
from collections.abc import Mapping

from loadgen.engines.network import TlsFile, load_authorities, load_own
from loadgen.errors import ClusterError

_VERSIONS = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}


def tls_context(parameters: Mapping[str, str]) -> ssl.SSLContext | None:
    """The TLS that ``parameters`` (those of mysql_parameters) ask for: None for none.

    ``ssl-mode`` is disabled if it is not given, or verify_ca beside an ``ssl-ca``. Raises ClusterError for a file that
    can't be used.
    """
    files = {name: TlsFile(name, parameters.get(name, "")) for name in ("ssl-ca", "ssl-cert", "ssl-key")}
    folder = parameters.get("ssl-capath", "")
    named = [file for file in files.values() if file.path]
    mode = "verify_ca" if files["ssl-ca"].path or folder else "required" if named else "disabled"
    mode = parameters.get("ssl-mode", mode)
    if mode == "disabled":
        return None
    if mode == "verify_ca" and not files["ssl-ca"].path and not folder:
        raise ClusterError("ssl-mode=verify_ca needs an ssl-ca: the file with the authority's certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify_identity"
    context.verify_mode = ssl.CERT_NONE if mode == "required" else ssl.CERT_REQUIRED
    if files["ssl-ca"].path:
        load_authorities(context, files["ssl-ca"])
    elif folder:
        context.load_verify_locations(capath=folder)
    else:
        context.load_default_certs()
    if files["ssl-cert"].path:
        load_own(context, files["ssl-cert"], files["ssl-key"], "", "")
    elif files["ssl-key"].path:
        raise ClusterError("ssl-key needs an ssl-cert: the certificate that belongs to it")
    _limit_versions(context, parameters.get("tls-version", ""))
    return context


def _limit_versions(context: ssl.SSLContext, text: str) -> None:
    """Allow the versions of a list by comma."""
    if not text:
        return
    chosen = sorted(_VERSIONS[name] for name in map(str.strip, text.lower().split(",")) if name in _VERSIONS)
    if not chosen:
        raise ClusterError("tls-version names none of TLSv1.2 and TLSv1.3")
    context.minimum_version, context.maximum_version = chosen[0], chosen[-1]
