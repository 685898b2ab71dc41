"""Which consistency models a history of transactions keeps: the judge of isolation.

``judge`` is a pure function from transactions to an answer for each model asked. Soundness comes first: a valid
history is never called invalid, and what cannot be decided, for want of time or of unique writes, is unknown.
"""

import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from loadgen.isolation.anomaly import Anomalies
from loadgen.isolation.cycles import (
    Step,
    cycle_names,
    forbidden_part,
    name_cycles,
    shortest_path,
    smallest_cycle,
)
from loadgen.isolation.dependencies import data_graph, read_graph, realtime_graph, session_graph
from loadgen.isolation.graph import Deadline, Graph, TimeLimitError, cyclic_part
from loadgen.isolation.judgement import Judgement, ModelAnswer
from loadgen.isolation.models import MODELS, Model, Order, Rule, weaker
from loadgen.isolation.observed import UNSEEN, Observed, from_outside, observe, pack, unfit
from loadgen.isolation.orderings import guessed_order, ranks_by
from loadgen.isolation.phenomena import phenomena
from loadgen.isolation.search import OrderSearch
from loadgen.isolation.transactions import WRITE, Edge, HistoryKind, Ints, Transactions
from loadgen.isolation.visibility import Hidden, Sight, forced_graph, hidden_atomic, later_hidden
from loadgen.isolation.words import edge_words, key_name, name, read_value, txn_words, value_name
from loadgen.verdict import Verdict

TIME_LIMIT_S = 60.0
"""How long one history may be judged by default."""

_ROUNDS = 50
"""How often a guessed order of versions is mended before the answer is unknown."""
_NAMING_S = 6.0
"""How long the smallest cycles are looked for once it is known that there are some."""
_SEARCH_SHARE = 0.4
"""How much of the time left one search for an order of versions may take."""


def judge(txns: Transactions, models: Iterable[str] = MODELS, time_limit_s: float = TIME_LIMIT_S) -> Judgement:
    """Judge ``txns`` by each of ``models`` (names of MODELS), within the time given for all of them together."""
    names = sorted(set(models), key=list(MODELS).index, reverse=True)
    problem = unfit(txns)
    if problem:
        return Judgement({model: ModelAnswer(Verdict.UNKNOWN, (), problem) for model in names}, warnings=txns.warnings)
    judgement = _Judge(txns, Deadline.after(time_limit_s)).judge(names)
    judgement.orderless = not txns.timed or bool(txns.unsessioned)
    _unordered(judgement, txns.unsessioned and f"session order was not judged: {txns.unsessioned}", Order.SESSION)
    _unordered(judgement, txns.unclocked and f"real-time order was not judged: {txns.unclocked}", Order.REALTIME)
    return judgement


def _unordered(judgement: Judgement, why: str, order: Order) -> None:
    """Where a part of an order is not known, no model that has it is proved."""
    if not why:
        return
    for model, answer in judgement.answers.items():
        if MODELS[model].order in (order, Order.REALTIME) and answer.verdict == Verdict.VALID:
            judgement.answers[model] = ModelAnswer(Verdict.UNKNOWN, (), why)
    judgement.warnings = [*judgement.warnings, why]


class _Judge:
    """One history on its way through the models: graphs are made once and shared."""

    def __init__(self, txns: Transactions, deadline: Deadline) -> None:
        self.deadline = deadline
        self.seen: Observed = observe(txns)
        self.direct = phenomena(self.seen)
        self.found = Anomalies()
        self.found.merge(self.direct)
        self.answers: dict[str, ModelAnswer] = {}
        self._graphs: dict[Order, Graph] = {}
        self._cycles: dict[tuple[Rule, Order], tuple[Verdict, tuple[str, ...], str]] = {}

    def judge(self, names: Sequence[str]) -> Judgement:
        """Strongest first: a model that follows from a valid one needs no look.

        If a requested model stays unknown, models that imply it, or that it implies, may decide it.
        """
        self._decide(names)
        doubtful = [model for model in names if self.answers[model].verdict == Verdict.UNKNOWN]
        if doubtful:
            near = {other for model in doubtful for other in MODELS if model in weaker(other) or other in weaker(model)}
            self._decide([model for model in reversed(list(MODELS)) if model in near - set(names)])
        for model in MODELS:
            if model in self.answers:
                self.answers[model] = self._by_lattice(MODELS[model])
        return Judgement({model: self.answers[model] for model in names}, self.found, self.seen.txns.warnings)

    def _decide(self, names: Sequence[str]) -> None:
        for model in names:
            implied = any(
                answer.verdict == Verdict.VALID and model in weaker(other) for other, answer in self.answers.items()
            )
            self.answers[model] = ModelAnswer(Verdict.VALID) if implied else self._one(MODELS[model])

    def _by_lattice(self, model: Model) -> ModelAnswer:
        """What rules out a weaker model rules this one out too, and what a stronger one proves holds."""
        answer = self.answers[model.name]
        if answer.verdict == Verdict.UNKNOWN and any(
            other.verdict == Verdict.VALID and model.name in weaker(name) for name, other in self.answers.items()
        ):
            return ModelAnswer(Verdict.VALID)
        broken = [
            other
            for weak in weaker(model.name)
            if (other := self.answers.get(weak)) is not None and other.verdict == Verdict.INVALID
        ]
        if not broken:
            return answer
        names = {each for other in [answer, *broken] for each in other.anomalies}
        return ModelAnswer(Verdict.INVALID, tuple(sorted(names)))

    def _one(self, model: Model) -> ModelAnswer:
        direct = tuple(each for each in self.direct.names() if each in model.forbids)
        rules: dict[Rule, Callable[[], tuple[Verdict, tuple[str, ...], str]]] = {
            Rule.READ_ATOMIC: self._read_atomic,
            Rule.CAUSAL: self._causal,
        }
        try:
            decide = rules.get(model.rule, lambda: self._by_cycles(model, bool(direct)))
            verdict, names, why = decide()
        except TimeLimitError:
            verdict, names, why = Verdict.UNKNOWN, (), "the time limit was reached"
        if direct or verdict == Verdict.INVALID:
            return ModelAnswer(Verdict.INVALID, tuple(sorted({*direct, *names})))
        return ModelAnswer(verdict, names, why)

    # Cycles.

    def _graph(self, order: Order) -> Graph:
        if order not in self._graphs:
            if order == Order.NONE:
                graph = data_graph(self.seen)
            elif order == Order.SESSION:
                graph = self._graph(Order.NONE).plus(session_graph(self.seen))
            else:
                graph = self._graph(Order.SESSION)
                if self.seen.txns.timed:
                    graph = graph.plus(realtime_graph(self.seen))
            self._graphs[order] = graph
        return self._graphs[order]

    def _flow(self, order: Order) -> Graph:
        """What G0 and G1 are about; for plain registers only reads, without the costly edges from initial states."""
        if self.seen.txns.kind != HistoryKind.REGISTER:
            return self._graph(order)
        return self._reads.plus(self._extra(order, self.seen))

    @functools.cached_property
    def _reads(self) -> Graph:
        return read_graph(self.seen)

    def _by_cycles(self, model: Model, settled: bool) -> tuple[Verdict, tuple[str, ...], str]:
        """``settled`` says that the model is broken already: then no order of versions is searched for."""
        if model.order == Order.REALTIME and not self.seen.txns.timed:
            model = next(each for each in MODELS.values() if (each.rule, each.order) == (model.rule, Order.SESSION))
        key = (model.rule, model.order)
        if key not in self._cycles:
            graph = self._flow(model.order) if model.rule in (Rule.G0, Rule.G1) else self._graph(model.order)
            part = forbidden_part(graph, model.rule)
            if len(part.src):
                self._cycles[key] = (Verdict.INVALID, self._name(part, model), "")
            elif settled:
                return Verdict.INVALID, (), ""
            elif self._ambiguous(model.rule):
                self._cycles[key] = self._by_stronger(model) or self._by_orders(model)
            else:
                self._cycles[key] = (Verdict.VALID, (), "")
        return self._cycles[key]

    def _name(self, part: Graph, model: Model) -> tuple[str, ...]:
        found = name_cycles(self.seen, part, model.rule, model.order, self.deadline.share(0.5, _NAMING_S))
        names = tuple(each for each in found.names() if each in cycle_names(model.rule, model.order))
        if not names:
            # The components prove the cycle, though its smallest was not found in the time.
            names = (f"{model.name}-cycle-exists",)
            found.add(names[0], f"{len(np.unique(part.src))} transactions lie on cycles that {model.name} forbids")
        self._keep(found)
        return names

    def _keep(self, found: Anomalies) -> None:
        for each, count in found.count.items():
            if each not in self.found.count:
                self.found.add_all(each, found.witnesses[each], count)

    def _ambiguous(self, rule: Rule) -> bool:
        """Whether the order of some versions is not known, and could make a difference to ``rule``.

        Appends that no list shows have no readers, so any order that fits the graph serves all rules but SI, where
        two transactions that wrote one key must also not have run side by side.
        """
        if rule not in (Rule.SI, Rule.G2):
            return False
        if self.seen.txns.kind == HistoryKind.REGISTER:
            return True
        if self.seen.txns.kind == HistoryKind.VERSIONED or rule == Rule.G2:
            return False
        writes = self.seen.live(WRITE)
        writes = writes[self.seen.rank[writes] == UNSEEN]
        pairs = np.unique(pack(self.seen.txns.key[writes], self.seen.txn[writes]), return_index=True)[1]
        keys = np.sort(self.seen.txns.key[writes[pairs]])
        return bool((keys[1:] == keys[:-1]).any())

    def _by_stronger(self, model: Model) -> tuple[Verdict, tuple[str, ...], str] | None:
        """What a stronger order proves, whose search has less to choose from; None if it proves nothing."""
        for other in reversed(list(MODELS.values())):
            if other.order == Order.REALTIME and not self.seen.txns.timed:
                continue
            if other.rule == model.rule and other.order != model.order and model.name in weaker(other.name):
                answer = self._by_cycles(other, settled=False)
                if answer[0] == Verdict.VALID:
                    return answer
        return None

    def _by_orders(self, model: Model) -> tuple[Verdict, tuple[str, ...], str]:
        """Search for an order of versions without a cycle that the model forbids."""
        # A search may take all the time there is: the other models need some too.
        deadline = self.deadline.share(_SEARCH_SHARE)
        try:
            found = OrderSearch(self.seen, model.rule, self._graph, self._extra, deadline).run(model.order)
        except TimeLimitError:
            return Verdict.UNKNOWN, (), "the time limit was reached"
        if found.possible:
            return Verdict.VALID, (), ""
        if found.possible is None or found.sure is None or found.part is None:
            return Verdict.UNKNOWN, (), found.why
        return Verdict.INVALID, self._name_order(model, found.sure, found.part), ""

    def _extra(self, order: Order, seen: Observed) -> Graph:
        """The order beyond the data that ``order`` asks for, among the transactions that ``seen`` counts."""
        graph = Graph.of(seen.txns.count, [])
        if order != Order.NONE:
            graph = graph.plus(session_graph(seen))
        if order == Order.REALTIME and seen.txns.timed:
            graph = graph.plus(realtime_graph(seen))
        return graph

    def _name_order(self, model: Model, sure: Graph, part: Graph) -> tuple[str, ...]:
        """Name the cycle that is in every order, or if they differ, one of the order that was likeliest."""
        proved = forbidden_part(sure, model.rule)
        if len(proved.src):
            return self._name(proved, model)
        found = name_cycles(self.seen, part, model.rule, model.order, self.deadline.share(0.5))
        label = "G2-item" if model.rule == Rule.G2 else "G-single"
        told = next((told[0] for told in found.witnesses.values() if told), "")
        note = Anomalies()
        note.add(label, f"every order of the versions has a cycle; in the likeliest order: {told}")
        self._keep(note)
        return (label,)

    # Read atomic and causal.

    @functools.cached_property
    def _outside(self) -> Observed:
        """What each read showed of others, which is more than it shows at first sight where it shows its own too."""
        return from_outside(self.seen)

    @functools.cached_property
    def _visible(self) -> Graph:
        return read_graph(self._outside).plus(session_graph(self.seen))

    def _session_part(self) -> tuple[Verdict, tuple[str, ...], str]:
        return self._by_cycles(MODELS["strong-session-read-committed"], settled=False)

    def _read_atomic(self) -> tuple[Verdict, tuple[str, ...], str]:
        verdict, names, _ = self._session_part()
        if verdict == Verdict.INVALID:
            return verdict, names, ""
        return self._atomic[:3]

    @functools.cached_property
    def _hidden(self) -> Hidden:
        return hidden_atomic(self._outside)

    @functools.cached_property
    def _atomic(self) -> tuple[Verdict, tuple[str, ...], str, Graph]:
        return self._by_hidden(self._hidden)

    def _by_hidden(self, hidden: Hidden) -> tuple[Verdict, tuple[str, ...], str, Graph]:
        """Whether the orders that hidden writes force can all be; with them, as a graph."""
        if self.seen.txns.kind != HistoryKind.REGISTER:
            late = later_hidden(self._outside, hidden)
            return *self._told(late), Graph.of(self.seen.txns.count, [])
        forced, stale = forced_graph(self._outside, hidden)
        if len(stale[0]):
            return *self._told(stale), forced
        every = self._visible.plus(forced)
        part, _ = cyclic_part(every)
        if not len(part.src):
            return Verdict.VALID, (), "", forced
        cycle = smallest_cycle(part, self.deadline.share(0.5))
        label = "G-single-process" if any(step[2] == Edge.PROCESS for step in cycle) else "G-single"
        note = Anomalies()
        note.add(label, self._forced_words(cycle, hidden))
        self._keep(note)
        return Verdict.INVALID, (label,), "", forced

    def _told(self, late: Hidden) -> tuple[Verdict, tuple[str, ...], str]:
        """The anomalies of hidden writes that are later than what was read."""
        if not len(late[0]):
            return Verdict.VALID, (), ""
        visible = self._visible
        note = Anomalies()
        for read, write in zip(late[0][:20].tolist(), late[1][:20].tolist(), strict=True):
            path = shortest_path(visible, int(self.seen.txn[write]), int(self.seen.txn[read]))
            label = "G-single-process" if any(step[2] == Edge.PROCESS for step in path) else "G-single"
            note.add(label, self._hidden_words(read, write, path))
        self._keep(note)
        return Verdict.INVALID, tuple(note.names()), ""

    def _hidden_words(self, read: int, write: int, path: list[Step]) -> str:
        seen = self._outside
        reader, writer = int(seen.txn[read]), int(seen.txn[write])
        chain = "; ".join(f"{Edge(kind).name.lower()}: {edge_words(seen, a, b, kind)}" for a, b, kind in path[:8])
        return (
            f"{name(seen, reader)} read {key_name(seen, read)} = {read_value(seen, read)} and not the later "
            f"{value_name(seen, int(seen.txns.value[write]))} of {name(seen, writer)}, which it could see: {chain}. "
            f"{txn_words(seen, writer)}; {txn_words(seen, reader)}"
        )

    def _forced_words(self, cycle: list[Step], hidden: Hidden) -> str:
        """A cycle through orders that hidden writes force, each with its reason."""
        if not cycle:
            return "the orders that reads force have a cycle, of which the smallest was not found in the time"
        seen = self.seen
        source = seen.txn[np.maximum(seen.source[hidden[0]], 0)]
        told = []
        for first, second, kind in cycle[:8]:
            if kind != Edge.WW:
                told.append(f"{Edge(kind).name.lower()}: {edge_words(seen, first, second, kind)}")
                continue
            place = int(np.flatnonzero((seen.txn[hidden[1]] == first) & (source == second))[0])
            read = int(hidden[0][place])
            told.append(
                f"ww: {name(seen, first)} wrote {key_name(seen, read)} before {name(seen, second)} did, for "
                f"{txn_words(seen, int(seen.txn[read]))} could see {name(seen, first)} "
                f"and read it from {name(seen, second)}"
            )
        path = " -> ".join(name(seen, step[0]) for step in [*cycle[:8], cycle[0]])
        return f"{path}. {'; '.join(told)}. {'; '.join(txn_words(seen, step[0]) for step in cycle[:8])}"

    def _causal(self) -> tuple[Verdict, tuple[str, ...], str]:
        verdict, names, _ = self._session_part()
        if verdict == Verdict.INVALID:
            return verdict, names, ""
        hidden = self._hidden
        verdict, names, why, forced = self._atomic
        if verdict != Verdict.VALID:
            return verdict, names, why
        visible = self._visible
        if self.seen.txns.kind != HistoryKind.REGISTER:
            ordered = self._graph(Order.SESSION).without(Edge.RW)
            place = guessed_order(self.seen, ordered)
            shown = Sight(self._outside, visible, place, self.deadline)
            return self._told(shown.hidden(place, ranks_by(self._outside, place)))
        sight: Sight | None = None
        guess: Ints | None = None
        for _ in range(_ROUNDS):
            self.deadline.check()
            guess = guessed_order(self.seen, visible.plus(forced), guess)
            sight = sight or Sight(self.seen, visible, guess, self.deadline)
            more = sight.hidden(guess, ranks_by(self.seen, guess))
            if not len(more[0]):
                return Verdict.VALID, (), ""
            hidden = (np.concatenate((hidden[0], more[0])), np.concatenate((hidden[1], more[1])))
            verdict, names, why, forced = self._by_hidden(hidden)
            if verdict != Verdict.VALID:
                return verdict, names, why
        return Verdict.UNKNOWN, (), "no order of versions that fits was found"
