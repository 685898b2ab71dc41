"""The search for an order of versions in a whole history: a guess, and where it fails its components, solved apart."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from loadgen.isolation.cycles import forbidden_part
from loadgen.isolation.dependencies import data_graph, final_writes
from loadgen.isolation.graph import Deadline, Graph, cyclic_part
from loadgen.isolation.models import Order, Rule
from loadgen.isolation.observed import UNJUDGED, Observed
from loadgen.isolation.orderings import guessed_order, hinted_order, ordered_by
from loadgen.isolation.solving import Solver
from loadgen.isolation.transactions import READ, Edge, Flags, HistoryKind, Ints

_WHOLE = 12_000
"""Up to so many transactions it is deduced of all of them together what holds in any order."""
_FEW = 400
"""A component of more transactions is not solved before it is known what holds in it in any order."""
_ROUNDS = 200
"""How often a guessed order of versions is mended before the answer is unknown."""
_ORDERS = tuple(Order)


@dataclass(slots=True)
class Found:
    """The result of a search for an order: whether there is one (None: unknown), and the proof if there is none."""

    possible: bool | None
    why: str = ""
    sure: Graph | None = None
    part: Graph | None = None


@dataclass(slots=True)
class OrderSearch:
    """An order of the versions of ``seen`` that closes no cycle that ``rule`` forbids."""

    seen: Observed
    rule: Rule
    graphs: Callable[[Order], Graph]
    """What the data and an order show."""
    extra: Callable[[Order, Observed], Graph]
    """What an order alone shows, among those that count."""
    deadline: Deadline

    def run(self, order: Order) -> Found:
        """Guess first, then solve what the guess has wrong. Raises TimeLimitError."""
        known, extra = self.graphs(order), self.extra(order, self.seen)
        part = known
        for stronger in reversed(_ORDERS[_ORDERS.index(order) :]):
            # An order that keeps more is likelier that of the store: what it forbids too is no matter here.
            self.deadline.check()
            binding = self._binding(self.graphs(stronger))
            if stronger == order or not len(cyclic_part(binding)[0].src):
                part = self._forbidden(self._guess(binding), extra)
                if not len(part.src):
                    return Found(True)
        return self._by_components(order, extra, part)

    def _by_components(self, order: Order, extra: Graph, part: Graph) -> Found:
        """Each component of the guess's cycles is solved by itself, and the guess is bent to all the answers.

        In a large one it is first deduced what holds in any order, which leaves small ones.
        """
        facts = self.graphs(order)
        deduced: list[tuple[Flags, Solver]] = []
        solved: list[tuple[Flags, Graph]] = []
        todo = list(self._insides(part))
        # Without times a component's own transactions say too little: the others tell more of their order.
        large = not self.seen.txns.timed or max(int(inside.sum()) for inside in todo) > _FEW
        if large and int(self.seen.committed.sum()) <= _WHOLE:
            todo = [self.seen.committed]
        for _ in range(_ROUNDS):
            while todo:
                inside = todo.pop()
                # What an earlier answer had to do with is asked about again, together.
                for other in [each for each in solved if (each[0] & inside).any()]:
                    inside = inside | other[0]
                    solved = [each for each in solved if each is not other]
                about = next((solver for mask, solver in deduced if not (inside & ~mask).any()), None)
                solver = self._solver(order, inside, about)
                if not solver.fits:
                    return Found(None, f"the order of versions of {len(solver)} entangled transactions is not known")
                first = about is None and len(solver) > _FEW
                if not (solver.deduce() if first else solver.solve()):
                    return Found(False, "", solver.sure, solver.part)
                if first:
                    deduced.append((inside, solver))
                    facts = facts.plus(solver.gained())
                else:
                    solved.append((inside, _chains(solver)))
                if not todo:
                    todo, solved = _contradicting(self._binding(facts), solved)
            part = self._forbidden(self._guess(_bent(self._binding(facts), solved)), extra)
            if not len(part.src):
                return Found(True)
            todo = list(self._insides(part))
        return Found(None, "the order of versions is not known and no order that fits was found")

    def _binding(self, graph: Graph) -> Graph:
        """An anti-dependency does not bind the order of commits under SI: only the others bend the guess."""
        return graph if self.rule == Rule.G2 else graph.without(Edge.RW)

    def _guess(self, binding: Graph) -> Ints:
        return (hinted_order if self.seen.txns.kind == HistoryKind.REGISTER else guessed_order)(self.seen, binding)

    def _forbidden(self, place: Ints, extra: Graph) -> Graph:
        return forbidden_part(ordered_by(self.seen, place).plus(extra), self.rule)

    def _insides(self, part: Graph) -> Iterator[Flags]:
        """The transactions of each component of ``part``, with those that they read from."""
        labels = cyclic_part(part)[1][: part.txns]
        ends = np.unique(np.concatenate((part.src, part.dst)))
        ends = ends[ends < part.txns]
        reads = self.seen.live(READ)
        reads = reads[self.seen.source[reads] >= 0]
        reader, writer = self.seen.txn[reads], self.seen.txn[self.seen.source[reads]]
        for label in np.unique(labels[ends]):
            inside = np.zeros(part.txns, np.bool_)
            inside[ends[labels[ends] == label]] = True
            inside[writer[inside[reader]]] = True
            yield inside & self.seen.committed

    def _solver(self, order: Order, inside: Flags, about: Solver | None) -> Solver:
        """A solver for the transactions ``inside``, with what was deduced ``about`` them."""
        few = self.seen
        if not (inside == few.committed).all():
            # What holds among a few transactions follows from what holds among all.
            outside = (few.source >= 0) & ~inside[few.txn[np.maximum(few.source, 0)]]
            few = replace(few, committed=inside, source=np.where(outside, UNJUDGED, few.source))
        extra = self.extra(order, few)
        known = data_graph(few).plus(extra)
        return Solver(few, known.plus(about.among(inside)) if about else known, extra, self.rule, self.deadline)


def _bent(binding: Graph, solved: list[tuple[Flags, Graph]]) -> Graph:
    for _, hints in solved:
        binding = binding.plus(hints)
    return binding


def _contradicting(binding: Graph, solved: list[tuple[Flags, Graph]]) -> tuple[list[Flags], list[tuple[Flags, Graph]]]:
    """Those of the answers that make a cycle together, each such lot as what to ask about together, and the others."""
    if not solved:
        return [], []
    bent = _bent(binding, solved)
    part, labels = cyclic_part(bent)
    if not len(part.src):
        return [], solved
    looped = np.zeros(bent.nodes, np.bool_)
    looped[part.src] = True
    lots: dict[int, Flags] = {}
    fine: list[tuple[Flags, Graph]] = []
    for inside, hints in solved:
        on_cycle = looped[hints.src] & (labels[hints.src] == labels[hints.dst])
        if not on_cycle.any():
            fine.append((inside, hints))
            continue
        # All on the cycles belong to it, for an answer may contradict what nobody asked about.
        touched = set(labels[hints.src[on_cycle]].tolist())
        lot = inside | (looped & np.isin(labels, list(touched)))[: bent.txns]
        for label in touched & set(lots):
            lot |= lots.pop(label)
        lots |= dict.fromkeys(touched, lot)
    return list({id(lot): lot for lot in lots.values()}.values()), fine


def _chains(solver: Solver) -> Graph:
    """The writers of each key in the order that was found."""
    seen = solver.seen
    writes = final_writes(seen)
    key, txn = seen.txns.key, seen.txn
    writes = writes[np.lexsort((solver.place[txn[writes]], key[writes]))]
    pairs = np.flatnonzero(key[writes][1:] == key[writes][:-1])
    return Graph.of(seen.txns.count, [(txn[writes[pairs]], txn[writes[pairs + 1]], Edge.WW)])
