from __future__ import annotations

from typing import Any

from pipeline.inputs.named_target import SHA256
from pipeline.report.sections.references import references_section


def test_published_losses_are_shown_for_the_whole_of_tiny_shakespeare_alone(written: Any) -> None:
    target = written.report.target.model_copy(update={"sha256": SHA256, "validation_characters": 111_540})
    assert [reference.low for reference in references_section(target)] == [2.13, 2.12, 1.881]
    assert references_section(target.model_copy(update={"sha256": "0" * 64})) == ()
    assert references_section(target.model_copy(update={"validation_characters": 55_770})) == ()
