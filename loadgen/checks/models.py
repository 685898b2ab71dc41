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
    "rr": "repeatable-read",
    "pl-2.99": "repeatable-read",
    "si": "snapshot-isolation",
    "pl-si": "snapshot-isolation",
    "snapshot": "snapshot-isolation",
    "ser": "serializable",
    "serializability": "serializable",
    "pl-3": "serializable",
    "conflict-serializable": "serializable",
    "pl-ss": "strict-serializable",
    "strong-serializable": "strict-serializable",
    "strict-serializability": "strict-serializable",
    "strong-si": "strong-snapshot-isolation",
    "strong-session-si": "strong-session-snapshot-isolation",
}


def find_model(name: str) -> Model:
    """The model of that name or alias, spelling free of case, spaces and underscores. Raises KeyError if unknown."""
    plain = name.strip().lower().replace(" ", "-").replace("_", "-")
    return MODELS[_ALIASES.get(plain, plain)]


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
