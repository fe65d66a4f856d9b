"""Numbers as people read them."""

from __future__ import annotations

import pytest

from pipeline.runtime.formatting import counted, readable_bytes, readable_count, readable_seconds


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1_000, "1k"), (12_345_678, "12.3M"), (1.5e9, "1.5B"), (2e12, "2T"), (-45_000, "-45k")],
)
def test_counts_keep_three_digits(number: float, text: str) -> None:
    assert readable_count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (64_000_000, "64.0 MB"), (1.26e9, "1.3 GB"), (3e12, "3.0 TB")],
)
def test_sizes_are_decimal_with_one_digit(number: float, text: str) -> None:
    assert readable_bytes(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.34, "2.3 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_569, "59 min"),
        (3_725, "1 h 02 min"),
        (47.9 * 3600, "47 h 54 min"),
        (48 * 3600, "2 days"),
        (3e5, "3 days"),
    ],
)
def test_durations_grow_coarser_from_seconds_to_days(seconds: float, text: str) -> None:
    assert readable_seconds(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 ranks"), (1, "1 rank"), (2, "2 ranks"), (1_200, "1,200 ranks")])
def test_counted_nouns_agree_with_their_number(number: int, text: str) -> None:
    assert counted(number, "rank") == text
