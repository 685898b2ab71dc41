"""Rows that a history should have and lacks: follow-ups that were due, in a load process that reports all its rows as
written."""

import numpy as np

from loadgen.history.history import LoadProcess
from loadgen.op import Outcome
from loadgen.plan import Plan
from loadgen.shop.sale import FOLLOW_UPS, Answer, Kind, first_follow_ups


def untold_follow_ups(process: LoadProcess, plan: Plan) -> int:
    """How many placed orders lack the follow-up that must have come: it was due while the process still had other ops
    due.

    What follows an order, and when, is a function of plan and number. Every due op has a row, served or skipped. A
    missing row was therefore lost.
    """
    ops = process.ops
    placed = (ops["kind"] == Kind.ORDER) & (ops["outcome"] == Outcome.OK) & (ops["answer"] == Answer.PLACED)
    numbers, done = ops["number"][placed], ops["done"][placed]
    follows = np.isin(ops["kind"], FOLLOW_UPS)
    silent = ~np.isin(numbers, ops["number"][follows])
    numbers, done = numbers[silent], done[silent]
    if not len(numbers):
        return 0
    kinds, delays = first_follow_ups(plan, numbers)
    # A kind that nobody ever did is not in the mix of this process's sessions.
    done_here = np.isin(kinds, np.unique(ops["kind"][follows]))
    return int(np.count_nonzero(done_here & (done + delays < ops["due"].max())))


def untold(process: LoadProcess, plan: Plan) -> str:
    """The same in words; empty if nothing is missing."""
    lacking = untold_follow_ups(process, plan)
    return f"how {lacking} payments, cancellations or releases ended" if lacking else ""
