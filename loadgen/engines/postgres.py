"""PostgreSQL, and what speaks like it: what its errors mean, by stage and SQLSTATE."""

import re
from collections.abc import Mapping

from loadgen.databases.database import Database
from loadgen.databases.postgres import DATABASE
from loadgen.engines.engine import Address, Connection, Control, Described, Engine, ErrorRule, Failure, Level
from loadgen.engines.postgres_control import PostgresControl
from loadgen.engines.postgres_driver import ErrorFacts, error_facts, open_load
from loadgen.op import Outcome, Stage

OTHER = ErrorRule("other")
LOST = ErrorRule("connection", retry=True, drop=True)
UNAVAILABLE = ErrorRule("unavailable", retry=True, drop=True)

# Longest prefix first: a SQLSTATE, then its class (the first two characters). Source: PostgreSQL's appendix A, and
# "Serialization Failure Handling" for what is worth a retry.
RULES: Mapping[str, ErrorRule] = {
    "40001": ErrorRule("conflict", retry=True, refusal=True),
    "40P01": ErrorRule("deadlock", retry=True, refusal=True),
    "40002": ErrorRule("constraint", refusal=True),  # a deferred constraint, found at COMMIT
    "40003": ErrorRule("connection", drop=True),  # the statement's completion is unknown
    "23": ErrorRule("constraint", refusal=True),
    "44": ErrorRule("constraint", refusal=True),
    "55P03": ErrorRule("timeout", retry=True, refusal=True),  # lock_timeout
    "57014": ErrorRule("timeout", retry=True),  # statement_timeout; at COMMIT it may have come too late to stop it
    "25P02": ErrorRule("other", refusal=True),  # COMMIT of a transaction that had failed
    "25P03": ErrorRule("timeout", retry=True, refusal=True, drop=True),  # idle in transaction: COMMIT was never read
    "25P04": ErrorRule("timeout", retry=True, drop=True),  # transaction_timeout
    "25006": ErrorRule("unavailable", retry=True, drop=True),  # read-only: this node is not, or no longer, the primary
    "01": ErrorRule("unavailable"),  # COMMIT with a warning
    "08": LOST,
    "28": ErrorRule("connection", drop=True),  # the login was refused
    "3D": ErrorRule("connection", drop=True),  # no such database
    "53": ErrorRule("resource", drop=False),
    "53300": ErrorRule("resource", retry=True, drop=True),  # too many connections
    "53400": ErrorRule("resource", drop=True),
    "57P01": UNAVAILABLE,
    "57P02": UNAVAILABLE,
    "57P03": UNAVAILABLE,
    "57P04": UNAVAILABLE,
    "57P05": UNAVAILABLE,
    "58": ErrorRule("unavailable"),
}


class Postgres(Described):
    """An engine with PostgreSQL's dialect.

    ``merge_round_trips``: its sessions need fewer of them (see postgres_wire).
    """

    def __init__(self, database: Database = DATABASE, *, merge_round_trips: bool = False) -> None:
        super().__init__(database)
        self._merge = merge_round_trips

    def classify(self, error: BaseException, stage: Stage) -> Failure:
        """The outcome of ``error``: before COMMIT was sent it is ``fail``; from then on only a refusal is."""
        facts = error_facts(error)
        rule = rule_of(facts)
        unknown = stage is Stage.COMMIT and not rule.refusal and not facts.before_commit
        outcome = Outcome.INFO if unknown else Outcome.FAIL
        return Failure(
            outcome,
            facts.code,
            rule.error_class,
            retry=rule.retry and outcome is Outcome.FAIL,
            drop=rule.drop or facts.lost or stage is Stage.CONNECT,
            sample=sanitised(facts.message, facts.identifiers),
        )

    async def connect(self, address: Address, level: Level, run_id: str, *, reader: bool = False) -> Connection:
        """Open one load connection."""
        return await open_load(address, level, run_id, reader=reader, merge=self._merge)

    def control(self, address: Address, run_id: str) -> Control:
        """Open the control connection. Raises ClusterError."""
        return PostgresControl(address, run_id)


ENGINE: Engine = Postgres()
"""The engine, without a connection to anywhere."""


def rule_of(facts: ErrorFacts) -> ErrorRule:
    """The rule for an error: by its SQLSTATE, by its class, or, where no server spoke, by the connection's state."""
    if not facts.sqlstate:
        return LOST if facts.lost else OTHER
    return RULES.get(facts.sqlstate) or RULES.get(facts.sqlstate[:2], OTHER)


def sanitised(message: str, identifiers: frozenset[str] = frozenset()) -> str:
    """A server's message without its values: what is quoted, unless the server says that it is a name, and numbers."""
    names = {f'"{name}"': f"\0{index}\0" for index, name in enumerate(sorted(identifiers))}
    for name, mark in names.items():
        message = message.replace(name, mark)
    # A value may hold quotes itself, and the server does not escape them: so from the first to the last.
    message = re.sub(r'(?s)".*"|".*', '"?"', message)
    message = re.sub(r"(?s)'.*'|\B'.*", "'?'", message)
    message = re.sub(r"(?<![\0\w])\d+(\.\d+)?\b", "?", message)
    for name, mark in names.items():
        message = message.replace(mark, name)
    return " ".join(message.split())[:200]
