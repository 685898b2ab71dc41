"""Randomness that depends on a seed and a number alone, so that every process draws the same for the same number."""

import numpy as np
from numpy.typing import NDArray

_BITS = 2**64 - 1


class Draws:
    """Independent uniform draws for numbers: draw ``i`` of a number depends on the seed, the number and ``i`` alone.

    SplitMix64's finaliser (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014) as a hash.
    """

    def __init__(self, seed: int, numbers: NDArray[np.int64]) -> None:
        self._base = mix(numbers.astype(np.uint64) + mix(np.array([seed], dtype=np.uint64)))

    def bits(self, index: int) -> NDArray[np.uint64]:
        """64 random bits for each number."""
        return mix(self._base + np.uint64(((index + 1) * 0x9E3779B97F4A7C15) % 2**64))

    def uniform(self, index: int) -> NDArray[np.float64]:
        """A uniform draw from [0, 1) for each number."""
        return np.asarray((self.bits(index) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A permutation of the 64-bit numbers that leaves no pattern."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(value ^ (value >> np.uint64(31)))


def uniform(seed: int, number: int, index: int) -> float:
    """``Draws.uniform`` of one number, without arrays: it costs a tenth of that."""
    base = _mix(number + _mix(seed))
    return (_mix(base + (index + 1) * 0x9E3779B97F4A7C15) >> 11) * 2.0**-53


def _mix(value: int) -> int:
    value &= _BITS
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _BITS
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _BITS
    return value ^ (value >> 31)
