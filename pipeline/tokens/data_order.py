"""The data order: keyed permutations that are computed, never stored.

Sample i of an epoch is `Permutation(size, key)(i)`, so any step can be found in constant time and memory, on any rank,
after any crash. The permutation is a Feistel network over the smallest rectangle that covers `size` (Black and Rogaway,
"Ciphers with Arbitrary Finite Domains", 2002); an index that lands outside is sent through again ("cycle walking").
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Four updates of either half. Luby and Rackoff (1988) prove four rounds enough for large halves; these are small, so
# there are twice as many. Another number would give every checkpoint another data order.
ROUNDS = 8


def order_key(*values: int | str) -> int:
    """A 64-bit key out of numbers and names, the same on every machine and in every Python."""
    # Not hash(), which is salted per process. repr keeps 1 and "1" apart, and (1, 2) and (12,).
    return int.from_bytes(hashlib.blake2b(repr(values).encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Permutation:
    """A bijection of 0 ... size-1 chosen by `key`. `size` is below 2**63."""

    size: int
    key: int

    def __call__(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Where each index goes: int64 in the shape of `indices`. About 0.1 microseconds each in large arrays."""
        places = np.atleast_1d(np.asarray(indices, dtype=np.uint64))
        assert places.size == 0 or int(places.max()) < self.size, f"an index lies outside 0 ... {self.size - 1}"
        # The rectangle has at most sqrt(size) places too many, so few indices walk twice. Every walk ends inside: the
        # network is a bijection of the rectangle, so the cycle of an index leads back to the index itself.
        places = self._walk(places)
        while (outside := places >= self.size).any():
            places[outside] = self._walk(places[outside])
        return places.astype(np.int64).reshape(np.shape(indices))

    def _walk(self, places: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Once through the network: a bijection of the rows x columns places of the rectangle."""
        # Nearly square: each half is scrambled by the other, and with a single row all that is left is a rotation.
        rows = np.uint64(math.isqrt(self.size - 1) + 1)
        columns = np.uint64(-(-self.size // int(rows)))
        row, column = places // columns, places % columns
        round_keys = _mixed(np.arange(ROUNDS, dtype=np.uint64) + np.uint64(self.key))
        # Addition modulo rows and columns instead of XOR on bits: the rectangle then fits any size, where a power of
        # four could be four times too large. It is as invertible as XOR, whatever `_mixed` gives.
        for first, second in zip(round_keys[::2], round_keys[1::2], strict=True):
            row = (row + _mixed(column ^ first) % rows) % rows
            column = (column + _mixed(row ^ second) % columns) % columns
        return row * columns + column


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64 (Steele, Lea and Flood, 2014), elementwise: every input bit reaches every output bit.

    numbers uint64 of any shape; arithmetic wraps around modulo 2**64, which numpy does without a warning for arrays.
    """
    numbers = (numbers + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
