"""Numbers as people write them: `30M`, `1e9`, `64MB`, `2GB`, `5%`.

>>> count("30M"), byte_size("64MB"), share("2%")
(30000000, 64000000, 0.02)
"""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BeforeValidator

_NUMBER = re.compile(r"\s*([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z%]*)\s*", re.IGNORECASE)
_COUNTS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def count(value: object) -> int:
    """A whole number from 30_000_000, 3e7 or "30M". Raises ValueError for anything else."""
    return _whole(value, _COUNTS, "a count such as 500, 64k, 30M or 1e9")


def byte_size(value: object) -> int:
    """Bytes from 64_000_000 or "64MB" (decimal) or "64MiB" (binary). Raises ValueError for anything else."""
    return _whole(value, _BYTES, "a size such as 500KB, 64MB, 2GB or 1GiB")


def share(value: object) -> float:
    """A fraction from 0.05 or "5%". Raises ValueError outside 0 to 1."""
    number, unit = _split(value, "a share such as 5% or 0.05")
    result = number / 100 if unit == "%" else number
    if unit not in ("", "%") or not 0 <= result <= 1:
        raise ValueError(f"{value!r} is not a share between 0 and 1, such as 5% or 0.05")
    return result


def real(value: object) -> float:
    """A finite real number from 0.002 or "2e-3". Raises ValueError for anything else."""
    number, unit = _split(value, "a number such as 0.002 or 2e-3")
    if unit:
        raise ValueError(f"{value!r} is not a number such as 0.002 or 2e-3")
    return number


def _split(value: object, expected: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(str(value)) if not isinstance(value, bool) else None
    number = float(re.sub("[_,]", "", match[1])) if match else math.nan
    if match is None or not math.isfinite(number):
        raise ValueError(f"{value!r} is not {expected}")
    return number, match[2]


def _whole(value: object, units: dict[str, int], expected: str) -> int:
    number, unit = _split(value, expected)
    size = units.get(unit.upper())
    if size is None or number < 0 or not (number * size).is_integer():
        raise ValueError(f"{value!r} is not {expected}")
    return int(number * size)


Count = Annotated[int, BeforeValidator(count)]
Bytes = Annotated[int, BeforeValidator(byte_size)]
Share = Annotated[float, BeforeValidator(share)]
Real = Annotated[float, BeforeValidator(real)]
