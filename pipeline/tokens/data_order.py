"""The data order: keyed permutations that are computed, never stored.

Sample i of an epoch is `Permutation(size, key)(i)`, so any step can be found in constant time and memory, on any rank,
after any crash. The permutation is a Feistel network over the rectangle that just covers `size` (Black and Rogaway,
"Ciphers with Arbitrary Finite Domains", 2002); an index that lands outside is sent through again ("cycle walking").
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROUNDS = 8  # four updates of either half


def order_key(*parts: int | str) -> int:
    """A 64-bit key out of numbers and names, the same on every machine and in every Python."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Permutation:
    """A bijection of 0 ... size-1 chosen by `key`."""

    size: int
    key: int

    def __call__(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Where each index goes: int64 in the shape of `indices`. About 0.1 microseconds each in large arrays."""
        places = np.atleast_1d(np.asarray(indices, dtype=np.uint64))
        assert places.size == 0 or int(places.max()) < self.size, f"an index lies outside 0 ... {self.size - 1}"
        places = self._walk(places)
        while (outside := places >= self.size).any():
            places[outside] = self._walk(places[outside])
        return places.astype(np.int64).reshape(np.shape(indices))

    def _walk(self, places: NDArray[np.uint64]) -> NDArray[np.uint64]:
        rows = np.uint64(math.isqrt(self.size - 1) + 1)
        columns = np.uint64(-(-self.size // int(rows)))
        row, column = places // columns, places % columns
        round_keys = _mixed(np.arange(ROUNDS, dtype=np.uint64) + np.uint64(self.key))
        for first, second in zip(round_keys[::2], round_keys[1::2], strict=True):
            row = (row + _mixed(column ^ first) % rows) % rows
            column = (column + _mixed(row ^ second) % columns) % columns
        return row * columns + column


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64: every input bit reaches every output bit."""
    numbers = (numbers + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
