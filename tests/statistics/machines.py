"""A machine whose speed drifts, as the server of a simulated comparison."""

import math

import numpy as np


def drifting_machine(
    random: np.random.Generator, runs: int, *, drift: float = 0.05, correlation: float = 0.9, noise: float = 0.02
) -> list[float]:
    """A figure of identical runs, one after the other: slow drift from run to run, and noise of each run's own."""
    mood = random.normal(0, drift)
    figures = []
    for _ in range(runs):
        figures.append(100 * math.exp(mood + random.normal(0, noise)))
        mood = correlation * mood + math.sqrt(1 - correlation**2) * random.normal(0, drift)
    return figures
