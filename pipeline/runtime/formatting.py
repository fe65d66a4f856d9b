"""Numbers as people read them: 12.3M, 64.0 MB, 1 h 02 min."""

from __future__ import annotations


def readable_count(number: float) -> str:
    """12_345_678 as "12.3M", in powers of 1,000."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def counted(number: int, noun: str) -> str:
    """1 as "1 rank", 2 as "2 ranks"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def readable_bytes(number: float) -> str:
    """64_000_000 as "64.0 MB": decimal units, as disks are sold and configs are written."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f} B"


def readable_seconds(seconds: float) -> str:
    """3_725 as "1 h 02 min"; from two days on in days."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes >= 2880:
        return f"{minutes / 1440:,.0f} days"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
