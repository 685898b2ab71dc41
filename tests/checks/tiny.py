"""Tiny random histories: some of a correct store, some with a wrong answer, some of nothing at all."""

import random
from typing import Any

from loadgen.op import Outcome
from tests.checks.oracle import Txn


def tiny_history(rng: random.Random, *, lists: bool) -> list[Txn]:
    """Two to five transactions of one to three micro-operations on two or three keys."""
    count = rng.randint(2, 5)
    keys = "xyz"[: rng.randint(1, 3)]
    made = _plausible if rng.random() < 0.75 else _arbitrary
    mops = made(rng, count, keys, lists)
    history = []
    ends: dict[int, int] = {}
    for place in range(count):
        session = rng.randint(0, 2)
        start = max(ends.get(session, -1) + 1, place * 10 - rng.randint(0, 25))
        done = max(start + 1, place * 10 + rng.randint(0, 25))
        ends[session] = done
        outcome = rng.choices((Outcome.OK, Outcome.INFO, Outcome.FAIL), (10, 2, 1))[0]
        told = tuple(
            (verb, key, None if verb == "r" and outcome != Outcome.OK else value) for verb, key, value in mops[place]
        )
        completed = (1 << 63) - 1 if outcome == Outcome.INFO else done
        history.append(Txn(session, start, completed, outcome, told))
    return history


def _plausible(rng: random.Random, count: int, keys: str, lists: bool) -> list[tuple[tuple[str, Any, Any], ...]]:
    """Transactions on snapshots of various age: now and then a lost update, a skew or a stale read."""
    versions: list[dict[str, Any]] = [{}]
    number = 0
    made = []
    age = rng.choice((0, 0, 1, 3))
    for _ in range(count):
        view = dict(versions[max(0, len(versions) - 1 - rng.randint(0, age))])
        changed, mops = {}, []
        for _ in range(rng.randint(1, 3)):
            key = rng.choice(keys)
            if rng.random() < 0.5:
                mops.append(("r", key, view.get(key, () if lists else None)))
                continue
            number += 1
            view[key] = changed[key] = (*view.get(key, ()), number) if lists else number
            mops.append(("append" if lists else "w", key, number))
        newest = dict(versions[-1])
        for key, value in changed.items():
            own = {each for verb, on, each in mops if verb == "append" and on == key}
            newest[key] = (*newest.get(key, ()), *(each for each in value if each in own)) if lists else value
        versions.append(newest)
        made.append(tuple(mops))
    if rng.random() < 0.3:
        rng.shuffle(made)
    return made


def _arbitrary(rng: random.Random, count: int, keys: str, lists: bool) -> list[tuple[tuple[str, Any, Any], ...]]:
    """Writes anywhere, and reads that answer anything that was written."""
    number = 0
    written: dict[str, list[int]] = {key: [] for key in keys}
    shapes = []
    for _ in range(count):
        shape = []
        for _ in range(rng.randint(1, 3)):
            key = rng.choice(keys)
            if rng.random() < 0.5:
                shape.append(("r", key, None))
            else:
                number += 1
                written[key].append(number)
                shape.append(("append" if lists else "w", key, number))
        shapes.append(shape)
    orders = {key: rng.sample(values, len(values)) for key, values in written.items()}

    def answer(key: str) -> Any:
        if lists:
            order = orders[key] if rng.random() < 0.95 else rng.sample(orders[key], len(orders[key]))
            return tuple(order[: rng.randint(0, len(order))])
        return rng.choice([None, *written[key]]) if rng.random() < 0.98 else 99

    return [tuple((verb, key, answer(key) if verb == "r" else value) for verb, key, value in shape) for shape in shapes]
