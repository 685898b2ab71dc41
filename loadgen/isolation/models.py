"""The lattice of consistency models: what each one forbids, and which follow from which.

Sources: Adya (PL-1, PL-2, PL-2.99, PL-3), Cerone, Bernardi and Gotsman (snapshot isolation by dependency graphs),
Biswas and Enea (read atomic, causal), Daudjee and Salem (strong session models), and Elle's consistency_model.clj.
``read-committed`` has no session order; ``serializable``, ``repeatable-read`` and ``snapshot-isolation`` know neither
sessions nor real time; ``read-atomic`` and ``causal`` have session order, so they do not follow from plain
``serializable``: they follow from the strong session models.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Order(StrEnum):
    """Which order beyond the data a model respects. Each one includes those before it."""

    NONE = ""
    SESSION = "process"
    REALTIME = "realtime"


class Rule(StrEnum):
    """Which cycles a model forbids."""

    G0 = "ww"
    """Cycles of write dependencies."""
    G1 = "ww and wr"
    """Cycles without an anti-dependency."""
    READ_ATOMIC = "read atomic"
    CAUSAL = "causal"
    """The axioms of Biswas and Enea."""
    SI = "no two adjacent rw"
    """Cycles in which no two anti-dependencies are neighbours."""
    G2 = "any"
    """All cycles."""


@dataclass(frozen=True, slots=True)
class Model:
    """One consistency model."""

    name: str
    rule: Rule
    order: Order
    forbids: frozenset[str]
    """The anomalies other than cycles that it forbids."""
    implies: tuple[str, ...]
    """The weaker models that follow directly."""


_PL1 = frozenset({"duplicate-elements", "garbage-read"})
_PL2 = _PL1 | {"G1a", "G1b", "dirty-update", "incompatible-order", "cyclic-versions", "future-read"}
_ATOMIC = _PL2 | {"internal"}
_RR = _PL2 | {"lost-update"}
_FULL = _ATOMIC | _RR

_TABLE = (
    Model("read-uncommitted", Rule.G0, Order.NONE, _PL1, ()),
    Model("read-committed", Rule.G1, Order.NONE, _PL2, ("read-uncommitted",)),
    Model("strong-session-read-committed", Rule.G1, Order.SESSION, _PL2, ("read-committed",)),
    Model("read-atomic", Rule.READ_ATOMIC, Order.SESSION, _ATOMIC, ("strong-session-read-committed",)),
    Model("causal", Rule.CAUSAL, Order.SESSION, _ATOMIC, ("read-atomic",)),
    Model("repeatable-read", Rule.G2, Order.NONE, _RR, ("read-committed",)),
    Model("snapshot-isolation", Rule.SI, Order.NONE, _FULL, ("read-committed",)),
    Model("serializable", Rule.G2, Order.NONE, _FULL, ("repeatable-read", "snapshot-isolation")),
    Model(
        "strong-session-repeatable-read",
        Rule.G2,
        Order.SESSION,
        _RR,
        ("repeatable-read", "strong-session-read-committed"),
    ),
    Model("strong-session-snapshot-isolation", Rule.SI, Order.SESSION, _FULL, ("snapshot-isolation", "causal")),
    Model(
        "strong-session-serializable",
        Rule.G2,
        Order.SESSION,
        _FULL,
        ("serializable", "strong-session-snapshot-isolation", "strong-session-repeatable-read"),
    ),
    Model("strong-snapshot-isolation", Rule.SI, Order.REALTIME, _FULL, ("strong-session-snapshot-isolation",)),
    Model(
        "strict-serializable",
        Rule.G2,
        Order.REALTIME,
        _FULL,
        ("strong-session-serializable", "strong-snapshot-isolation"),
    ),
)

MODELS: Mapping[str, Model] = {model.name: model for model in _TABLE}

_ALIASES: Mapping[str, str] = {
    "ru": "read-uncommitted",
    "pl-1": "read-uncommitted",
    "rc": "read-committed",
    "pl-2": "read-committed",
    "ra": "read-atomic",
    "cc": "causal",
    "causal-consistency": "causal",
    "causal-cerone": "causal",
    "rr": "repeatable-read",
    "pl-2.99": "repeatable-read",
    "si": "snapshot-isolation",
    "pl-si": "snapshot-isolation",
    "snapshot": "snapshot-isolation",
    "ser": "serializable",
    "serializability": "serializable",
    "pl-3": "serializable",
    "conflict-serializable": "serializable",
    "1sr": "serializable",
    "one-copy-serializable": "serializable",
    "pl-ss": "strict-serializable",
    "strict-pl-3": "strict-serializable",
    "strong-pl-3": "strict-serializable",
    "strong-serializable": "strict-serializable",
    "strong-1sr": "strict-serializable",
    "strict-serializability": "strict-serializable",
    "strong-si": "strong-snapshot-isolation",
    "strong-pl-si": "strong-snapshot-isolation",
    "strong-session-si": "strong-session-snapshot-isolation",
    "strong-session-pl-si": "strong-session-snapshot-isolation",
    "strong-session-pl-2": "strong-session-read-committed",
    "strong-session-pl-2.99": "strong-session-repeatable-read",
    "strong-session-pl-3": "strong-session-serializable",
    "strong-session-ser": "strong-session-serializable",
    "session-serializable": "strong-session-serializable",
    "mav": "monotonic-atomic-view",
    "cs": "cursor-stability",
    "pl-cs": "cursor-stability",
    "pl-2l": "monotonic-view",
    "pl-msr": "monotonic-snapshot-read",
    "msr": "monotonic-snapshot-read",
    "pl-2+": "consistent-view",
    "cv": "consistent-view",
    "pl-fcv": "forward-consistent-view",
    "fcv": "forward-consistent-view",
    "pl-3u": "update-serializable",
    "psi": "parallel-snapshot-isolation",
    "pl-psi": "parallel-snapshot-isolation",
    "pc": "prefix",
    "prefix-consistency": "prefix",
    "consistent-prefix": "prefix",
    "ua": "update-atomic",
    "strong-pl-1": "strong-read-uncommitted",
    "strong-pl-2": "strong-read-committed",
    "strong-session-pl-1": "strong-session-read-uncommitted",
    "ryw": "read-your-writes",
    "mr": "monotonic-reads",
    "mw": "monotonic-writes",
    "wfr": "writes-follow-reads",
}


@dataclass(frozen=True, slots=True)
class Between:
    """A model without a rule of its own here: it holds if one of ``above`` does, and is broken if ``below`` is."""

    name: str
    above: tuple[str, ...]
    below: str = ""


_SI, _RC, _SESSION_RC = "snapshot-isolation", "read-committed", "strong-session-read-committed"
_BETWEEN: Mapping[str, Between] = {
    each.name: each
    for each in (
        Between("monotonic-atomic-view", (_SI, "repeatable-read"), _RC),
        Between("cursor-stability", (_SI, "repeatable-read"), _RC),
        Between("monotonic-view", (_SI,), _RC),
        Between("monotonic-snapshot-read", (_SI,), _RC),
        Between("consistent-view", (_SI,), _RC),
        Between("forward-consistent-view", (_SI,), _RC),
        Between("update-serializable", ("serializable",), _RC),
        Between("view-serializable", ("serializable",)),
        Between("parallel-snapshot-isolation", (_SI,), _RC),
        Between("prefix", (_SI,), _RC),
        Between("update-atomic", (_SI,), _RC),
        Between("strong-session-consistent-view", ("strong-session-snapshot-isolation",), _SESSION_RC),
        Between("strong-session-monotonic-view", ("strong-session-snapshot-isolation",), _SESSION_RC),
        Between("strong-session-read-uncommitted", (_SESSION_RC,), "read-uncommitted"),
        Between("strong-read-uncommitted", ("strong-snapshot-isolation",), "read-uncommitted"),
        Between("strong-read-committed", ("strong-snapshot-isolation",), _SESSION_RC),
        Between("strong-repeatable-read", ("strict-serializable",), "strong-session-repeatable-read"),
        Between("linearizable", ("strict-serializable",)),
        Between("sequential", ("strong-session-serializable",)),
        Between("pram", ("causal",)),
        Between("monotonic-reads", ("causal",)),
        Between("monotonic-writes", ("causal",)),
        Between("read-your-writes", ("causal",)),
        Between("writes-follow-reads", ("causal",)),
    )
}
"""Models of Elle that have no rule here. Those above and below are what Elle's lattice says."""


def _plain(name: str) -> str:
    plain = "-".join(name.strip().lower().lstrip(":").replace("_", " ").replace("-", " ").split())
    return _ALIASES.get(plain, plain)


def find_model(name: str) -> Model:
    """The model of that name or alias, spelling free of case, spaces and underscores. Raises KeyError if unknown."""
    return MODELS[_plain(name)]


def find_between(name: str) -> Between | None:
    """The model of that name or alias that has no rule of its own here, or None."""
    return _BETWEEN.get(_plain(name))


def weaker(name: str) -> frozenset[str]:
    """Every model that follows from the one named, itself included."""
    found = {name}
    for follows in MODELS[name].implies:
        found |= weaker(follows)
    return frozenset(found)


def weakest(names: Iterable[str]) -> list[str]:
    """Those of ``names`` from which no other of them follows: what to say was ruled out."""
    chosen = set(names)
    return [name for name in MODELS if name in chosen and not (weaker(name) - {name}) & chosen]


def strongest(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that follow from no other of them: what to say was not ruled out."""
    chosen = set(names)
    covered = {weak for name in chosen for weak in weaker(name) - {name}}
    return [name for name in MODELS if name in chosen - covered]


NEAREST: Mapping[str, str] = {"monotonic-atomic-view": "read-committed", "cursor-stability": "read-committed"}
"""Documented models that the checker does not know, and the strongest known one that they imply."""


def known_model(documented: str) -> str:
    """The model that is judged for the documented one."""
    model = NEAREST.get(documented, documented)
    return model if model in MODELS else "read-committed"
