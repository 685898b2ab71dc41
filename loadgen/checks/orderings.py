"""Plain registers do not show the order of versions: is there one without the cycles that a model forbids?

A guess is tried first (the order in which transactions ended, bent to what is known): if it has no such cycle, the
history is valid, and proved so. Otherwise every pair of writes of one key is a question with two answers; an answer
that closes a cycle is wrong, so the other is right, and where both are wrong the history is invalid. What is left is
searched, within the time given.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from loadgen.checks.dependencies import data_graph, final_writes
from loadgen.checks.graph import Deadline, Graph, cyclic
from loadgen.checks.models import Rule
from loadgen.checks.observed import UNSEEN, Observed, pack, sorting
from loadgen.checks.transactions import NEVER, READ, WRITE, Edge, Flags, Ints, Kind

_GAP = 1 << 20
"""Room between two guessed places, into which others can be pushed."""
_ROUNDS = 20_000
"""How often places may be pushed before the guess falls back on any order that fits."""
_SCANS = 20
"""For so many rounds all edges are scanned, which is sooner done than sorting them; few histories need more."""


def guessed_order(seen: Observed, known: Graph, start: Ints | None = None) -> Ints:
    """A place for each transaction, such that ``known``, which has no cycle, goes from lower to higher places.

    As near as may be to the order in which transactions ended, or without times to that of their turn in a session.
    ``start``, the answer for a part of ``known``, saves the way up to there.
    """
    place = _natural_order(seen) * _GAP if start is None else start
    place = np.concatenate((place, np.full(known.nodes - known.txns, place.min(initial=0), np.int64)))
    src, dst = known.src, known.dst
    late = np.flatnonzero(place[src] >= place[dst])
    for number in range(_ROUNDS):
        if not len(late):
            return place[: known.txns]
        if number == _SCANS:
            order = sorting(src.astype(np.int64))
            src, dst, late = src[order], dst[order], np.flatnonzero(place[src[order]] >= place[dst[order]])
            first = np.concatenate(([0], np.cumsum(np.bincount(src, minlength=known.nodes))))
        np.maximum.at(place, dst[late], place[src[late]] + 1)
        # Only what was pushed can push on.
        if number < _SCANS:
            is_pushed = np.zeros(known.nodes, np.bool_)
            is_pushed[dst[late]] = True
            edges = np.flatnonzero(is_pushed[src])
        else:
            pushed = np.unique(dst[late])
            many = first[pushed + 1] - first[pushed]
            edges = np.repeat(first[pushed] - (np.cumsum(many) - many), many) + np.arange(int(many.sum()))
        late = edges[place[src[edges]] >= place[dst[edges]]]
    labels, _ = cyclic(known.nodes, known.src, known.dst)
    return np.asarray(-labels[: known.txns], np.int64)


def hinted_order(seen: Observed, known: Graph) -> Ints:
    """A place for each transaction as ``guessed_order`` gives it, bent to what reads hint at besides.

    In a correct store the last read of a version comes before the next version, so versions of one key are put in the
    order of their last reads, not of the ends of their writers, wherever that closes no cycle with what is known.
    """
    place = guessed_order(seen, known)
    key, txn = seen.txns.key, seen.txn
    writes = final_writes(seen)
    last = np.full(len(txn), np.iinfo(np.int64).min, np.int64)
    last[writes] = place[txn[writes]]
    reads = seen.live(READ)
    reads = reads[seen.source[reads] >= 0]
    np.maximum.at(last, seen.source[reads], place[txn[reads]])
    writes = writes[sorting(pack(key[writes], last[writes], place[txn[writes]]))]
    pairs = np.flatnonzero(key[writes][1:] == key[writes][:-1])
    first, second = txn[writes[pairs]], txn[writes[pairs + 1]]
    hints = Graph.of(known.txns, [(first, second, Edge.WW)])
    both = known.plus(hints)
    labels, _ = cyclic(both.nodes, both.src, both.dst)
    keep = np.ones(len(both.src), np.bool_)
    keep[len(known.src) :] = labels[both.src[len(known.src) :]] != labels[both.dst[len(known.src) :]]
    return guessed_order(seen, both.only(keep))


def _natural_order(seen: Observed) -> Ints:
    txns = seen.txns
    count = txns.count
    rank = np.empty(count, np.int64)
    if txns.timed:
        moment = np.where(txns.completed == NEVER, txns.invoked, txns.completed)
        rank[np.lexsort((np.arange(count), moment))] = np.arange(count)
        return rank
    order = np.argsort(txns.session, kind="stable")
    session = txns.session[order]
    first = np.searchsorted(session, session)
    size = np.searchsorted(session, session, side="right") - first
    turn = np.empty(count, np.float64)
    turn[order] = (np.arange(count) - first) / size
    rank[np.argsort(turn, kind="stable")] = np.arange(count)
    return rank


def ranks_by(seen: Observed, place: Ints) -> Ints:
    """Ranks of all versions, those of each key in the order of their writers' places.

    For lists only the appends that no list shows are so ordered, behind all others.
    """
    if seen.txns.kind == Kind.LIST_APPEND:
        return np.where(seen.rank == UNSEEN, (UNSEEN >> 1) + place[seen.txn], seen.rank)
    rank = np.zeros(len(seen.txn), np.int64)
    writes = seen.txns.act == WRITE
    rank[writes] = place[seen.txn[writes]]
    reads = np.flatnonzero(seen.txns.act == READ)
    source = seen.source[reads]
    lowest = int(place.min()) - 1 if len(place) else 0
    rank[reads] = np.where(source >= 0, place[seen.txn[np.maximum(source, 0)]], lowest)
    return rank


def ordered_by(seen: Observed, place: Ints) -> Graph:
    """The data's graph with the versions of each key ranked by their writers' places."""
    return data_graph(seen, ranks_by(seen, place))


@dataclass(slots=True)
class Question:
    """Which of two writers of one key came first, and who read what each of them wrote."""

    one: int
    two: int
    readers_of_one: list[int]
    readers_of_two: list[int]


@dataclass(slots=True)
class Answer:
    """What the search found: whether an order exists (None: not known), and what had to be so in any order."""

    possible: bool | None
    forced: list[tuple[int, int, int]] = field(default_factory=list)
    """Edges that every order without a forbidden cycle has; where none exists, one of them closes a cycle."""
    chosen: list[tuple[int, int, int]] = field(default_factory=list)
    """Edges of one order that has none, where one exists."""


def questions(seen: Observed, inside: Flags) -> Iterator[Question]:
    """A question for every two writers ``inside`` of one key whose order the data do not show."""
    key, txn = seen.txns.key, seen.txn
    writes = final_writes(seen)
    writes = writes[inside[txn[writes]]]
    if seen.txns.kind == Kind.LIST_APPEND:
        writes = writes[seen.rank[writes] == UNSEEN]
    by_key: dict[int, list[int]] = {}
    for mop in writes.tolist():
        by_key.setdefault(int(key[mop]), []).append(int(txn[mop]))
    readers: dict[tuple[int, int], list[int]] = {}
    if seen.txns.kind == Kind.REGISTER:
        reads = seen.live(READ)
        for mop in reads[(seen.source[reads] >= 0) & inside[txn[reads]]].tolist():
            readers.setdefault((int(key[mop]), int(txn[seen.source[mop]])), []).append(int(txn[mop]))
    for one_key, writers in by_key.items():
        for place, one in enumerate(writers):
            for two in writers[place + 1 :]:
                yield Question(one, two, readers.get((one_key, one), []), readers.get((one_key, two), []))


class _Reach:
    """Who reaches whom, as one bit set a node, kept up edge by edge. For SI each node has a second, after-rw, half."""

    def __init__(self, nodes: int, rule: Rule) -> None:
        self.half = nodes if rule == Rule.SI else 0
        self.after = [0] * (nodes + self.half)

    def copy(self) -> "_Reach":
        other = object.__new__(_Reach)
        other.half = self.half
        other.after = list(self.after)
        return other

    def load(self, known: list[tuple[int, int, int]]) -> bool:
        """Take all sure edges at once, last nodes first; false if they have a cycle."""
        size = len(self.after)
        before: list[list[int]] = [[] for _ in range(size)]
        waiting = [0] * size
        for edge in known:
            for start, end in self._ends(*edge):
                before[end].append(start)
                waiting[start] += 1
        ready = [node for node in range(size) if not waiting[node]]
        settled = 0
        while ready:
            node = ready.pop()
            settled += 1
            gained = self.after[node] | 1 << node
            for other in before[node]:
                self.after[other] |= gained
                waiting[other] -= 1
                if not waiting[other]:
                    ready.append(other)
        return settled == size

    def _ends(self, a: int, b: int, kind: int) -> tuple[tuple[int, int], ...]:
        if not self.half:
            return ((a, b),)
        if kind == Edge.CARRY:
            return ((a, b), (a + self.half, b + self.half))
        if kind == Edge.RW:
            return ((a, b + self.half),)
        return ((a, b), (a + self.half, b))

    def closes(self, a: int, b: int, kind: int) -> bool:
        """Whether the edge would close a cycle."""
        return any(end == start or self.after[end] >> start & 1 for start, end in self._ends(a, b, kind))

    def add(self, a: int, b: int, kind: int) -> bool:
        """Add an edge; false if it closes a cycle."""
        for start, end in self._ends(a, b, kind):
            if end == start or self.after[end] >> start & 1:
                return False
            if self.after[start] >> end & 1:
                continue
            gained = self.after[end] | 1 << end
            bit = 1 << start
            self.after[start] |= gained
            for node, reached in enumerate(self.after):
                if reached & bit:
                    self.after[node] = reached | gained
        return True


def _edges(question: Question, one_first: bool) -> list[tuple[int, int, int]]:
    first, second = (question.one, question.two) if one_first else (question.two, question.one)
    readers = question.readers_of_one if one_first else question.readers_of_two
    return [
        (first, second, int(Edge.WW)),
        *((reader, second, int(Edge.RW)) for reader in readers if reader != second),
    ]


def search(
    known: list[tuple[int, int, int]], nodes: int, asked: list[Question], rule: Rule, deadline: Deadline, place: Ints
) -> Answer:
    """Whether the questions can be answered without a cycle that ``rule`` forbids. Raises TimeLimitError.

    ``known`` are the edges that are sure, on nodes below ``nodes``; ``place`` is the guess that is tried first.
    """
    reach = _Reach(nodes, rule)
    forced: list[tuple[int, int, int]] = []
    if not reach.load(known):
        return Answer(False)
    left = _propagate(reach, asked, forced, deadline)
    if left is None:
        return Answer(False, forced)
    stack: list[tuple[_Reach, list[Question], list[bool], list[tuple[int, int, int]]]] = [(reach, left, [], [])]
    while stack:
        deadline.check()
        reach, left, tried, _ = stack[-1]
        if not left:
            return Answer(True, forced, [*forced, *(edge for level in stack for edge in level[3])])
        if len(tried) == 2:
            stack.pop()
            continue
        question = left[0]
        natural = bool(place[question.one] <= place[question.two])
        choice = not natural if tried else natural
        tried.append(choice)
        trial = reach.copy()
        chosen = _edges(question, choice)
        if all(trial.add(*edge) for edge in chosen):
            rest = _propagate(trial, left[1:], chosen, deadline)
            if rest is not None:
                stack.append((trial, rest, [], chosen))
    return Answer(False, forced)


def _propagate(
    reach: _Reach, asked: list[Question], forced: list[tuple[int, int, int]], deadline: Deadline
) -> list[Question] | None:
    """Answer every question that has but one answer; the questions that are left, or None if one has none.

    ``forced`` gains the edges so found; if a question has no answer, those of one of its wrong answers come last.
    """
    while True:
        left: list[Question] = []
        for question in asked:
            deadline.check()
            answers = [
                first for first in (True, False) if not any(reach.closes(*edge) for edge in _edges(question, first))
            ]
            if len(answers) == 2:
                left.append(question)
                continue
            edges = _edges(question, answers[0] if answers else True)
            forced += edges
            if not answers or not all(reach.add(*edge) for edge in edges):
                return None
        if len(left) == len(asked):
            return left
        asked = left
