"""The messages for refusals of a server on the MySQL wire: one line that says what to do."""

from loadgen.engines.engine import SCHEMA, Address
from loadgen.engines.network import NameLookupError, TlsError
from loadgen.errors import ClusterError

_TLS_DEMANDED = 3159
LOST = {2006, 2013, 0}
"""The client's own codes for a connection that is gone."""
NOT_THERE = {1146, 1049}
"""There is no such table, or no such database."""
_UNREACHABLE = {2002, 2003}
_WRONG_PASSWORD, _NO_DATABASE, _DATABASE_DENIED = 1045, 1049, 1044
NO_LOGIN = {*_UNREACHABLE, _WRONG_PASSWORD, _NO_DATABASE, _DATABASE_DENIED, _TLS_DEMANDED}
"""Why a server accepts no connection: reasons that do not show its identity."""
_NO_RIGHT = {_DATABASE_DENIED, 1142, 1143, 1227}


def refusal(address: Address, where: str, error: BaseException) -> ClusterError:
    """The operator's one line for an error: what is wrong and what to do, and never the password."""
    errno = errno_of(error)
    user = f"the user {address.user!r}" if address.user else "the user"
    text = str(error.args[1] if len(error.args) > 1 else error).splitlines()
    what = text[0] if text else type(error).__name__
    if errno == _WRONG_PASSWORD:
        advice = f"refuses {user}: check the name and the password in the DSN"
    elif errno == _NO_DATABASE or (errno == _DATABASE_DENIED and f"'{address.database}'" in what):
        advice = f"has no database {address.database!r} that {user} may use: name another in the DSN, or none"
    elif errno in _NO_RIGHT:
        grantee = f"'{address.user or 'USER'}'@'%'"
        advice = f"does not let {user} do this ({what}): GRANT ALL PRIVILEGES ON {SCHEMA}.* TO {grantee}"
    elif errno == _TLS_DEMANDED:
        advice = "demands TLS: add ?ssl-mode=REQUIRED to the DSN"
    elif isinstance(error, NameLookupError | TlsError):
        advice = f"cannot be reached: {error}"
    elif errno in _UNREACHABLE or isinstance(error, OSError):
        advice = f"cannot be reached ({what}): check that it runs, and the host and port in the DSN"
    elif errno in LOST:
        advice = f"closed the connection ({what})"
    else:
        advice = f"answered {errno or type(error).__name__}: {what}"
    return ClusterError(f"{where} {advice}")


def errno_of(error: BaseException | None) -> int:
    """The server's, or the driver's, code of ``error``; -1 for none."""
    return error.args[0] if error is not None and error.args and isinstance(error.args[0], int) else -1
