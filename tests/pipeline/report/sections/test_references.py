from __future__ import annotations

from typing import Any

from pipeline.inputs.named_target import SHA256
from pipeline.report.sections.references import references_section


def test_published_losses_are_shown_for_the_whole_of_tiny_shakespeare_alone(written: Any) -> None:
    arms = written.report.arms
    target = written.report.target.model_copy(update={"sha256": SHA256, "validation_characters": 111_540})
    shown = references_section(target, arms)
    assert [(reference.low, reference.differs) for reference in shown] == [(2.13, None), (2.12, None), (1.881, None)]
    assert references_section(target.model_copy(update={"sha256": "0" * 64}), arms) == ()


def test_another_split_makes_them_incomparable_and_says_why(written: Any) -> None:
    arms = written.report.arms
    target = written.report.target.model_copy(
        update={
            "sha256": SHA256,
            "validation_characters": 111_540,
            "characters": 1_115_394,
            "train_characters": 946_682,
        }
    )
    other = references_section(target.model_copy(update={"validation_characters": 55_770}), arms)
    assert {reference.differs for reference in other} == {"scored on the last 111,540 characters, not 55,770"}
    trials = arms.model_copy(update={"finetune": arms.finetune.model_copy(update={"refit": None})})
    smaller = references_section(target, trials)
    assert {reference.differs for reference in smaller} == {"trained on 1,003,854 characters, not 946,682"}
