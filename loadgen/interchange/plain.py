"""The plain text of PolySI, Plume, IsoVista and AWDIT: one ``r(key,value,session,txn)`` or ``w(…)`` a line.

Transactions of one session stand in the order of their first lines. Transaction -1 holds the writes that were
aborted. A read of 0 where nobody wrote 0 to that key saw the initial state. There are no times.
"""

import re

from loadgen.checks.transactions import ALWAYS, NEVER, READ, WRITE, Kind, Transactions
from loadgen.errors import StoreError
from loadgen.interchange.build import Builder, Mop
from loadgen.op import Outcome

_LINE = re.compile(
    r"\s*([rwRW])\(\s*([^,()\s]{1,200})\s*,\s*([^,()\s]{1,200})\s*,\s*(-?\d{1,18})\s*,\s*(-?\d{1,18})\s*\)\s*;?\s*"
)
_NOTHING = ("nil", "null", "none")


def read_plain(text: str) -> Transactions:
    """The history of ``text``. Raises StoreError, which names the line."""
    mops: dict[tuple[int, int], list[Mop]] = {}
    aborted: list[tuple[int, Mop]] = []
    written: set[tuple[object, object]] = set()
    sessions: dict[int, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(("#", "//")):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise StoreError(
                f"line {number}: {line.strip()[:60]!r} is not r(key,value,session,txn) or w(key,value,session,txn)"
            )
        verb, key, value, session, txn = match.groups()
        mop = Mop(WRITE if verb in "wW" else READ, _scalar(key), _scalar(value))
        if mop.act == WRITE:
            written.add((mop.key, mop.value))
        sessions.setdefault(int(session), len(sessions))
        if int(txn) == -1:
            aborted.append((int(session), mop))
        else:
            mops.setdefault((int(session), int(txn)), []).append(mop)
    return _build(mops, aborted, written)


def _build(
    mops: dict[tuple[int, int], list[Mop]], aborted: list[tuple[int, Mop]], written: set[tuple[object, object]]
) -> Transactions:
    builder = Builder(Kind.REGISTER, timed=False)
    labels = [txn for _, txn in mops]
    unique = len(set(labels)) == len(labels)
    for place, ((session, txn), told) in enumerate(mops.items()):
        answers = [
            mop._replace(value=None)
            if mop.act == READ and (mop.key, mop.value) not in written and (mop.value == 0 or mop.value in _NOTHING)
            else mop
            for mop in told
        ]
        builder.add(
            session if session >= 0 else -1 - session, ALWAYS, NEVER, Outcome.OK, txn if unique else place, answers
        )
    for place, (_, mop) in enumerate(aborted):
        if mop.act == WRITE:
            builder.add(-1, ALWAYS, NEVER, Outcome.FAIL, -1 - place, [mop])
    if not unique:
        builder.warnings.append(
            "transaction numbers occur in several sessions: transactions are numbered by their place"
        )
    return builder.build()


def _scalar(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else text
