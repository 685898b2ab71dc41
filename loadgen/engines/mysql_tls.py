"""TLS on the MySQL wire: what a DSN's parameters say about it, spelled as the mysql client spells its options."""

import ssl
from collections.abc import Mapping

from loadgen.errors import ClusterError

MODES = ("disabled", "required", "verify_ca", "verify_identity")
FILES = ("ssl-ca", "ssl-cert", "ssl-key")


def tls_context(parameters: Mapping[str, str]) -> ssl.SSLContext | None:
    """The TLS that ``parameters`` ask for: ``ssl-mode`` (default: disabled, or verify_ca beside an ``ssl-ca``),
    ``ssl-ca``, ``ssl-cert``, ``ssl-key``. None for none.

    Raises ClusterError on any other parameter, a mode that is not one of MODES, or a file that can't be used.
    """
    given = {name.lower().replace("_", "-"): value for name, value in parameters.items()}
    unknown = sorted(set(given) - {"ssl-mode", *FILES})
    if unknown:
        raise ClusterError(
            f"the DSN's parameter {unknown[0]!r} is not known on the MySQL wire: there are ssl-mode, {', '.join(FILES)}"
        )
    files = [given.get(name) or None for name in FILES]
    ca, certificate, key = files
    mode = given.get("ssl-mode", "verify_ca" if ca else "required" if any(files) else "disabled")
    mode = mode.lower().replace("-", "_")
    if mode not in MODES:
        raise ClusterError(f"the DSN's ssl-mode {mode!r} is not one of {', '.join(MODES)}")
    if mode == "disabled":
        return None
    if mode == "verify_ca" and not ca:
        raise ClusterError("the DSN's ssl-mode=verify_ca needs an ssl-ca: the file with the authority's certificate")
    try:
        context = ssl.create_default_context(cafile=ca)
        # The certificates that a MySQL server makes for itself don't keep the strict rules.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.check_hostname = mode == "verify_identity"
        context.verify_mode = ssl.CERT_NONE if mode == "required" else ssl.CERT_REQUIRED
        if certificate:
            context.load_cert_chain(certificate, keyfile=key)
    except (OSError, ssl.SSLError) as error:
        raise ClusterError(f"the DSN's TLS files can't be used ({', '.join(filter(None, files))}): {error}") from error
    return context
