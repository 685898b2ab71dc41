"""The judge of isolation against oracles that try every order, on many tiny histories of every sort.

``python -m tests.trials.oracles [--count N] [--seed S]`` compares every model's answer, with times and without, with
sessions and without, on lists and on registers, and looks whether the answers keep to the lattice.
"""

import argparse
import itertools
import random
import sys
import time
from collections import Counter
from dataclasses import replace

from loadgen.isolation.check import judge
from loadgen.isolation.models import MODELS, weaker
from loadgen.isolation.transactions import ALWAYS, NEVER
from loadgen.verdict import Verdict
from tests.checks.oracle import ORACLES, Txn, to_transactions
from tests.checks.tiny import tiny_history

MOST_VERSIONS = 7
SHAPES = ("as it is", "untimed", "no sessions")


def shaped(history: list[Txn], shape: str) -> list[Txn]:
    """The same history with less said about its order."""
    if shape == "untimed":
        return [txn._replace(invoked=ALWAYS, completed=NEVER) for txn in history]
    if shape == "no sessions":
        return [txn._replace(session=-1) for txn in history]
    return history


def too_many(history: list[Txn]) -> bool:
    """Whether one key has so many versions that trying all their orders takes minutes."""
    keys = Counter(key for txn in history for verb, key, _ in txn.mops if verb != "r")
    return max(keys.values(), default=0) > MOST_VERSIONS


def compare(seed: int) -> tuple[int, list[str]]:
    """How many answers were compared for one seed, and those that differ, in words."""
    rng = random.Random(seed)
    lists, shape = rng.random() < 0.5, rng.choice(SHAPES)
    history = shaped(tiny_history(rng, lists=lists), shape)
    if too_many(history):
        return 0, []
    txns = to_transactions(history, lists=lists)
    txns = replace(txns, timed=shape != "untimed")
    answers = judge(txns).answers
    wrong = []
    for model, oracle in ORACLES.items():
        expected = Verdict.VALID if oracle(history) else Verdict.INVALID
        if answers[model].verdict != expected:
            wrong.append(f"seed {seed}, {shape}: {model} is {answers[model].verdict}, not {expected}: {history}")
    for strong, weak in itertools.product(MODELS, MODELS):
        if weak in weaker(strong) and (answers[weak].verdict, answers[strong].verdict) in LATTICE_BREAKS:
            wrong.append(f"seed {seed}, {shape}: {strong} {answers[strong]}, but {weak} {answers[weak]}: {history}")
    one = rng.choice(list(MODELS))
    alone = judge(txns, [one]).answers[one].verdict
    if alone != answers[one].verdict:
        wrong.append(f"seed {seed}, {shape}: {one} alone is {alone}, among all {answers[one].verdict}: {history}")
    return len(ORACLES) + 1, wrong


LATTICE_BREAKS = {
    (Verdict.INVALID, Verdict.VALID),
    (Verdict.INVALID, Verdict.UNKNOWN),
    (Verdict.UNKNOWN, Verdict.VALID),
}
"""What a weaker and a stronger model never say together."""


def main() -> int:
    """Compare, print the counts, and exit 1 if any answer differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    begin, counts = time.monotonic(), Counter[str]()
    for seed in range(given.seed, given.seed + given.count):
        compared, wrong = compare(seed)
        counts["compared"] += compared
        counts["wrong"] += len(wrong)
        for line in wrong[:3]:
            sys.stdout.write(line + "\n")
    seconds = time.monotonic() - begin
    sys.stdout.write(
        f"{given.count} histories, {counts['compared']} answers, {counts['wrong']} wrong, {seconds:.0f} s\n"
    )
    return int(counts["wrong"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
