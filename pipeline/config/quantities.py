"""Numbers as people write them (`30M`, `1e9`, `64MB`, `2GB`, `5%`), and the kinds of number that a config has.

>>> count("30M"), byte_size("64MB"), share("2%")
(30000000, 64000000, 0.02)

Every number of the config is of one of the kinds at the end, each with its bounds; a test walks the tree and sees to
it. Where nothing natural bounds a number from above, the bound is far beyond any run we know of: it catches a slip of
the keyboard, no ambition.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator

from pipeline.runtime.processes import MOST_PROCESSES

_NUMBER = re.compile(r"\s*([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z%]*)\s*", re.IGNORECASE | re.ASCII)
_COUNTS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_LARGEST_EXPONENT = 300  # what is larger counts as 1e300, which is outside all bounds, and what is smaller as 1e-300
_SHOWN_CHARACTERS = 40  # of a value in a message


def count(value: object) -> int:
    """A whole number from 30_000_000, 3e7 or "30M". Raises ValueError for anything else."""
    return _whole(value, _COUNTS, "a count such as 500, 64k, 30M or 1e9")


def byte_size(value: object) -> int:
    """Bytes from 64_000_000 or "64MB" (decimal) or "64MiB" (binary). Raises ValueError for anything else."""
    return _whole(value, _BYTES, "a size such as 500KB, 64MB, 2GB or 1GiB")


def share(value: object) -> float:
    """A fraction from 0.05 or "5%". Raises ValueError for anything else."""
    number, unit = _split(value, expected := "a share such as 5% or 0.05")
    if unit not in ("", "%"):
        raise ValueError(f"{shown(value)} is not {expected}")
    # Divided as floats, the way that fingerprints of finished artifacts hold it.
    return float(number) / 100 if unit == "%" else float(number)


def real(value: object) -> float:
    """A real number from 0.002 or "2e-3". Raises ValueError for anything else."""
    number, unit = _split(value, expected := "a number such as 0.002 or 2e-3")
    if unit:
        raise ValueError(f"{shown(value)} is not {expected}")
    return float(number)


def shown(value: object) -> str:
    """A value as a message names it: in one short line, whatever it is."""
    # Python refuses to write out integers of more than 4300 digits.
    if isinstance(value, int) and abs(value) >= 10**_SHOWN_CHARACTERS:
        return f"a number of {int(value.bit_length() * math.log10(2)) + 1:,} digits"
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


@dataclass(frozen=True)
class Bounded:
    """Reads a number and compares it with its bounds. Raises ValueError with the value as it was written, and with both
    bounds.
    """

    read: Callable[[object], float]
    low: float
    high: float
    excludes_low: bool = False
    excludes_high: bool = False

    def __call__(self, value: object) -> float:
        number = self.read(value)
        too_low = number <= self.low if self.excludes_low else number < self.low
        too_high = number >= self.high if self.excludes_high else number > self.high
        if too_low or too_high:
            raise ValueError(f"{shown(value)} is not between {self}")
        return number or abs(number)  # without the sign of -0.0, which would make another fingerprint

    def __str__(self) -> str:
        ends = (self.low, self.excludes_low), (self.high, self.excludes_high)
        return " and ".join(f"{end:,}{' (excluded)' if excluded else ''}" for end, excluded in ends)


def _split(value: object, expected: str) -> tuple[Fraction, str]:
    """The number and its unit. Raises ValueError for what is no number and no text that holds one."""
    # The largest seed has more digits than a float can hold, so what is whole stays whole.
    if isinstance(value, int) and not isinstance(value, bool):
        return Fraction(max(-(10**_LARGEST_EXPONENT), min(value, 10**_LARGEST_EXPONENT))), ""
    text = repr(value).replace("inf", "1e999") if isinstance(value, float) else value
    match = _NUMBER.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{shown(value)} is not {expected}")
    number = Decimal(re.sub("[_,]", "", match[1]))
    if number and abs(number.adjusted()) > _LARGEST_EXPONENT:
        number = Decimal(1).scaleb(int(math.copysign(_LARGEST_EXPONENT, number.adjusted()))).copy_sign(number)
    return Fraction(number), match[2]


def _whole(value: object, units: dict[str, int], expected: str) -> int:
    number, unit = _split(value, expected)
    number *= units.get(unit.upper(), 0)
    if unit.upper() not in units or number.denominator != 1:
        raise ValueError(f"{shown(value)} is not {expected}")
    return int(number)


_MOST = 10**15  # thirty times the tokens of the largest pretraining that is public
Count = Annotated[int, BeforeValidator(Bounded(count, 0, _MOST))]
PositiveCount = Annotated[int, BeforeValidator(Bounded(count, 1, _MOST))]
ModelSize = Annotated[int, BeforeValidator(Bounded(count, 1, 10**6))]
NgramWords = Annotated[int, BeforeValidator(Bounded(count, 1, 100))]  # longer ones would find nothing, in silence
Resamples = Annotated[int, BeforeValidator(Bounded(count, 100, 10**6))]  # the ends of a 95 % interval need some each
Seed = Annotated[int, BeforeValidator(Bounded(count, 0, 2**63 - 1))]  # what torch, numpy and our keyed hashes all take
Processes = Annotated[int, BeforeValidator(Bounded(count, 1, MOST_PROCESSES))]  # on one machine
Port = Annotated[int, BeforeValidator(Bounded(count, 1, 2**16 - 1))]
Seconds = Annotated[int, BeforeValidator(Bounded(count, 1, 10**6))]
Bytes = Annotated[int, BeforeValidator(Bounded(byte_size, 1, 10**18))]
Share = Annotated[float, BeforeValidator(Bounded(share, 0, 1))]
ShareBelowOne = Annotated[float, BeforeValidator(Bounded(share, 0, 1, excludes_high=True))]
ProperShare = Annotated[float, BeforeValidator(Bounded(share, 0, 1, excludes_low=True, excludes_high=True))]
LearningRate = Annotated[float, BeforeValidator(Bounded(real, 0, 10, excludes_low=True))]
PositiveReal = Annotated[float, BeforeValidator(Bounded(real, 0, 1000, excludes_low=True))]
NonNegativeReal = Annotated[float, BeforeValidator(Bounded(real, 0, 1000))]
