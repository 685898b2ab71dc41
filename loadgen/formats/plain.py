"""The plain text of PolySI, Plume, IsoVista and AWDIT: one ``r(key,value,session,txn)`` or ``w(…)`` a line.

Transactions of one session are in the order of their first lines. Keys, values, sessions and transactions are names: 1
and 01 are two of them. Transaction -1 holds the writes that were aborted. A read of 0 saw the initial state if no
transaction wrote 0 to that key. There are no times.
"""

import re
from collections.abc import Callable

from loadgen.errors import StoreError
from loadgen.formats.build import Builder, Mop, Names
from loadgen.formats.edn import unwatched
from loadgen.isolation.transactions import ALWAYS, NEVER, READ, WRITE, HistoryKind, Transactions
from loadgen.op import Outcome

_NAME = r"\s*([^,()\s]{1,200})\s*"
_LINE = re.compile(rf"\s*([rwRW])\({_NAME},{_NAME},{_NAME},{_NAME}\)\s*;?\s*")
_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")
_NOTHING = ("nil", "null", "none")
_ABORTED = "-1"
UNTIMED = "the file holds no times"


_STEP = 1 << 14
"""After so many lines the watch is asked."""


def read_plain(text: str, watch: Callable[[int], None] = unwatched) -> Transactions:
    """The history of ``text``; ``watch`` is called with the place in it now and then.

    Raises StoreError, which names the line.
    """
    mops: dict[tuple[str, str], list[Mop]] = {}
    aborted: list[Mop] = []
    written: set[tuple[object, object]] = set()
    at = 0
    for number, line in enumerate(text.splitlines(), 1):
        at += len(line) + 1
        if not number % _STEP:
            watch(at)
        match = _LINE.fullmatch(line)
        if match is None:
            if not line.strip() or line.lstrip().startswith(("#", "//")):
                continue
            raise StoreError(
                f"line {number}: {line.strip()[:60]!r} is not r(key,value,session,txn) or w(key,value,session,txn)"
            )
        verb, key, value, session, txn = match.groups()
        mop = Mop(WRITE if verb in "wW" else READ, _scalar(key), _scalar(value))
        if mop.act == WRITE:
            written.add((mop.key, mop.value))
        if txn == _ABORTED:
            aborted.append(mop)
        else:
            mops.setdefault((session, txn), []).append(mop)
    return _build(mops, aborted, written)


def _build(
    mops: dict[tuple[str, str], list[Mop]], aborted: list[Mop], written: set[tuple[object, object]]
) -> Transactions:
    sessions = Names()
    builder = Builder(HistoryKind.REGISTER, timed=False, unclocked=UNTIMED, session_name=sessions.text)
    labels = [_scalar(txn) for _, txn in mops]
    numbered = len(set(labels)) == len(labels) and all(isinstance(label, int) for label in labels)
    for place, ((session, _), told) in enumerate(mops.items()):
        answers = [
            mop._replace(value=None)
            if mop.act == READ and (mop.key, mop.value) not in written and (mop.value == 0 or mop.value in _NOTHING)
            else mop
            for mop in told
        ]
        label = labels[place]
        number = label if numbered and isinstance(label, int) else place
        builder.add(sessions.number(session), ALWAYS, NEVER, Outcome.OK, number, answers)
    for place, mop in enumerate(aborted):
        if mop.act == WRITE:
            builder.add(-1, ALWAYS, NEVER, Outcome.FAIL, -1 - place, [mop])
    if not numbered:
        builder.warnings.append(
            "transactions are numbered by their place, because their own numbers are missing or not unique"
        )
    return builder.build()


def _scalar(text: str) -> int | str:
    return int(text) if _NUMBER.fullmatch(text) else text
