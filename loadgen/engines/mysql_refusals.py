"""What the operator is told when a server on the MySQL wire refuses something: one line, with what to do."""

from pymysql.constants import CR, ER

from loadgen.engines.engine import SCHEMA, Address
from loadgen.errors import ClusterError

LOST = {CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, 0}
NOT_THERE = {ER.NO_SUCH_TABLE, ER.BAD_DB_ERROR}
"""There is no such table, or no such database."""
_NO_RIGHT = {
    ER.DBACCESS_DENIED_ERROR,
    ER.TABLEACCESS_DENIED_ERROR,
    ER.COLUMNACCESS_DENIED_ERROR,
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
}
_TLS_DEMANDED = 3159


def refusal(address: Address, where: str, error: BaseException) -> ClusterError:
    """The operator's one line for an error: what is wrong and what to do, and never the password."""
    errno = errno_of(error)
    user = f"the user {address.user!r}" if address.user else "the user"
    text = str(error.args[1] if len(error.args) > 1 else error).splitlines()
    what = text[0] if text else type(error).__name__
    if address.password:
        what = what.replace(address.password, "***")
    if errno == ER.ACCESS_DENIED_ERROR:
        advice = f"refuses {user}: check the name and the password in the DSN"
    elif errno == ER.BAD_DB_ERROR or (errno == ER.DBACCESS_DENIED_ERROR and f"'{address.database}'" in what):
        advice = f"has no database {address.database!r} that {user} may use: name another in the DSN, or none"
    elif errno in _NO_RIGHT:
        grantee = f"'{address.user or 'USER'}'@'%'"
        advice = f"does not let {user} do this ({what}): GRANT ALL PRIVILEGES ON {SCHEMA}.* TO {grantee}"
    elif errno == _TLS_DEMANDED:
        advice = "demands TLS: add ?ssl-mode=REQUIRED to the DSN"
    elif errno in (CR.CR_CONN_HOST_ERROR, CR.CR_CONNECTION_ERROR) or isinstance(error, OSError):
        advice = f"cannot be reached ({what}): check that it runs, and the host and port in the DSN"
    elif errno in LOST:
        advice = f"closed the connection ({what})"
    else:
        advice = f"answered {errno or type(error).__name__}: {what}"
    return ClusterError(f"{where} {advice}")


def errno_of(error: BaseException | None) -> int:
    """The server's, or the driver's, code of ``error``; -1 for none."""
    return error.args[0] if error is not None and error.args and isinstance(error.args[0], int) else -1
