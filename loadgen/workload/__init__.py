"""What a workload is: statements, tables, transaction bodies, and what the judge may ask of them."""

from typing import TYPE_CHECKING, Any

from loadgen.plan import Option, Plan
from loadgen.verdict import Finding
from loadgen.workload.follow_ups import FollowUp, Phase
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
from loadgen.workload.table import Table, table_names, versioned_row
from loadgen.workload.workload import Check, Invoked, Isolation, Workload

if TYPE_CHECKING:
    from loadgen.workload.evidence import Evidence

__all__ = [
    "Body",
    "Call",
    "Check",
    "Conflict",
    "Evidence",
    "Finding",
    "FollowUp",
    "Invoked",
    "Isolation",
    "Option",
    "Phase",
    "Plan",
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
    "versioned_row",
]


def __getattr__(name: str) -> Any:
    """Evidence, when it is named: it brings numpy and Arrow, which who only runs a body does without."""
    if name == "Evidence":
        from loadgen.workload.evidence import Evidence

        return Evidence
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
