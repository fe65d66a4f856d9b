"""What a stage counted comes back as its typed record, and a damaged count is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.graph.manifest import Manifest
from pipeline.graph.stage_counts import ArmCounts, TextTotals, TokenizerCounts
from pipeline.graph.work import Artifact

TRIAL = {"learning_rate": 1e-3, "seed": 1, "best_selection_nats_per_token": 2.5, "best_step": 4, "steps": 8}


def artifact(counts: dict[str, Any]) -> Artifact:
    return Artifact("tokenizer", Path("store/tokenizer-1"), Manifest.model_construct(counts=counts))


def test_counts_of_an_older_manifest_read_with_defaults() -> None:
    counts = artifact({"kind": "bpe", "vocab_size": 300, "sha256": "ab"}).counts_as(TokenizerCounts)
    assert (counts.vocab_size, counts.world_size, counts.imported_files) == (300, 1, None)


def test_fields_that_a_newer_version_wrote_are_passed_over() -> None:
    assert TextTotals(documents=1, tokens=2, bytes=3, lines=4) == TextTotals(documents=1, tokens=2, bytes=3)  # type: ignore[call-arg]


def test_a_missing_count_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"store/tokenizer-1 is damaged \(counts\.sha256: Field required\)\. Delete"):
        artifact({"kind": "bpe", "vocab_size": 300}).counts_as(TokenizerCounts)


def test_a_negative_count_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"counts\.vocab_size: Input should be greater than or equal to 0\)\. Delete"):
        artifact({"kind": "bpe", "vocab_size": -300, "sha256": "ab"}).counts_as(TokenizerCounts)


def test_counts_survive_the_manifest() -> None:
    counts = ArmCounts.model_validate(
        {
            "learning_rate": 1e-3,
            "grid": [{**TRIAL, "diverged": False}],
            "seeds": [1],
            "trials": [{**TRIAL, "diverged": False}],
            "tokens": 100,
            "parameters": 7,
        }
    )
    assert artifact(counts.model_dump(mode="json")).counts_as(ArmCounts) == counts
