"""What a workload is: statements, tables, transaction bodies, and what the judge may ask of them."""

from loadgen.workload.statement import (
    Body,
    Call,
    Conflict,
    Refused,
    Reply,
    Result,
    Statement,
    Value,
    is_single_statement,
    single_statement,
)
from loadgen.workload.table import Table, table_names
from loadgen.workload.workload import Invoked, Workload

__all__ = [
    "Body",
    "Call",
    "Conflict",
    "Invoked",
    "Refused",
    "Reply",
    "Result",
    "Statement",
    "Table",
    "Value",
    "Workload",
    "is_single_statement",
    "single_statement",
    "table_names",
]
