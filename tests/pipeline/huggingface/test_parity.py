"""What counts as equal; `test_export.py` and `test_import_gpt2.py` compare real models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import FolioError
from pipeline.huggingface.parity import Parity

EQUAL = Parity("a text", 1234, True, 2.5e-6, 16, True, (2.50001, 2.50004))


def test_four_checks_hold_together() -> None:
    assert EQUAL.holds
    assert EQUAL.checked("The export") is EQUAL
    assert EQUAL.table().splitlines() == [
        "ok  token ids      1,234 of a text",
        "ok  logits         differ by 2.5e-06 at most (allowed: below 0.0001)",
        "ok  greedy text    16 tokens",
        "ok  bits per byte  2.5000 here, 2.5000 there",
    ]


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"same_tokens": False}, "token ids"),
        ({"largest_difference": 1e-4}, "logits"),
        ({"largest_difference": float("nan")}, "logits"),
        ({"same_greedy_text": False}, "greedy text"),
        ({"bits_per_byte": (2.5, 2.50006)}, "bits per byte"),
    ],
)
def test_one_that_does_not_hold_is_named_and_refused(change: dict[str, object], failed: str) -> None:
    parity = replace(EQUAL, **change)  # type: ignore[arg-type]
    assert not parity.holds
    refusal = rf"The export does not compute what it should: {failed} differ \(.*NO {failed}"
    with pytest.raises(FolioError, match=refusal):
        parity.checked("The export")
