"""What the config tree itself refuses, and how its fields enter fingerprints."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.config.schema import Config, FinetuneSection, ModelSection, ScratchSection, SourceSection


@pytest.mark.parametrize(
    ("values", "refusal"),
    [
        ({"target": {"name": "tiny-shakespeare", "path": "x"}}, "give exactly one of name, path or hub"),
        ({"corpus": {"sources": [{"path": "a", "url": "https://b"}]}}, "give exactly one of path, url or hub"),
        ({"corpus": {"sources": [{"path": "a", "weight": 0}]}}, "weight 0.0 is not above 0"),
        ({"pretrained": {"path": "gpt2"}, "corpus": {"fallback": True}}, "not both"),
        ({"report": {"rivals": {"leak": {"scratch.clip": 0}}}}, "the name 'leak' is taken"),
        ({"ablation": {"seeds": [1]}}, "at least 2 items"),
        ({"name": "../x"}, "should match pattern"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ValidationError, match=refusal):
        Config.model_validate({"name": "x", **values})


def test_a_section_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config(name="x").launch.ranks = 3  # type: ignore[misc]


def test_a_source_is_named_after_its_origin() -> None:
    assert SourceSection(hub="a/b").name == "a/b"
    assert SourceSection(name="books", path="x").name == "books"


def test_finetuning_defaults_to_lower_rates_and_fewer_steps_in_a_grid_of_the_same_size() -> None:
    scratch, finetune = ScratchSection(), FinetuneSection()
    assert max(finetune.learning_rates) < max(scratch.learning_rates)
    assert finetune.max_steps < scratch.max_steps
    assert len(finetune.learning_rates) == len(scratch.learning_rates)


def test_the_models_shape_marks_documents_only_under_a_document_mask() -> None:
    assert ModelSection().shape(50, end_of_text=7).document_start is None
    masked = ModelSection(document_mask=True, dropout=0.2).shape(50, dropout=0.0, end_of_text=7)
    assert (masked.document_start, masked.dropout, masked.vocab_size) == (7, 0.0, 50)
