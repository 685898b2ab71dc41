"""Writers of one key whose order is asked for: key by key, and of keys with few writers all pairs at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loadgen.isolation.transactions import Edge, Flags, Ints


@dataclass(slots=True)
class Key:
    """The writers of one key whose order is asked for, and who read from each, by the writer's place among them."""

    writers: Ints
    readers: Ints
    owner: Ints


class Reaches(Protocol):
    """Whether each of the first reaches the one of the second in its place; ``plainly``: not by rw at last;
    ``after_rw``: nor by rw at first, where the rule does not let two of them be neighbours."""

    def __call__(self, first: Ints, second: Ints, *, plainly: bool = False, after_rw: bool = False) -> Flags:
        """The answers."""
        ...


@dataclass(slots=True)
class Pairs:
    """All pairs of writers of keys with few, both ways round, and who read from the first of each."""

    first: Ints
    second: Ints
    turned: Ints
    """The position of the same pair in the opposite order."""
    pair: Ints
    reader: Ints
    """For each entry of ``pair`` one who read from the first of that pair, and is not the second."""

    @classmethod
    def of(cls, keys: Sequence[Key]) -> "Pairs":
        """The pairs of all ``keys``."""
        nothing = np.zeros(0, np.int64)
        columns: list[list[Ints]] = [[nothing] for _ in range(5)]
        base = 0
        for key in keys:
            size = len(key.writers)
            one, two = np.nonzero(~np.eye(size, dtype=np.bool_))
            # The pair (one, two) stands at one * (size - 1) + two, less one where two lies behind one.
            place = one * (size - 1) + two - (two > one)
            turned = two * (size - 1) + one - (one > two)
            others = np.arange(size - 1)
            pair = (key.owner[:, None] * (size - 1) + others[None, :]).ravel()
            reader = np.repeat(key.readers, size - 1)
            keep = key.writers[two[np.argsort(place)][pair]] != reader
            for column, part in zip(
                columns,
                (key.writers[one], key.writers[two], base + turned, base + pair[keep], reader[keep]),
                strict=True,
            ):
                column.append(part)
            base += len(one)
        return cls(*(np.concatenate(column) for column in columns))

    def follows(self, reaches: Reaches) -> tuple[Ints, Ints, NDArray[np.uint8]]:
        """The edges that the known order of each pair asks for and that no path says already."""
        order = reaches(self.first, self.second)
        # Were it the second that came later, its reader's rw would lead to it: none may be next to that.
        seen = reaches(self.second[self.pair], self.reader, plainly=True, after_rw=True)
        order[self.turned[self.pair[seen]]] = True
        ww = np.flatnonzero(order)
        ww = ww[~reaches(self.first[ww], self.second[ww], plainly=True)]
        rw = np.flatnonzero(order[self.pair])
        rw = rw[~reaches(self.reader[rw], self.second[self.pair[rw]])]
        kind = np.concatenate((np.full(len(ww), Edge.WW, np.uint8), np.full(len(rw), Edge.RW, np.uint8)))
        src = np.concatenate((self.first[ww], self.reader[rw]))
        return src, np.concatenate((self.second[ww], self.second[self.pair[rw]])), kind
