"""Section `references`: what others have published for the last tenth of Tiny Shakespeare, in bits per byte."""

from __future__ import annotations

from pipeline.inputs.named_target import SHA256
from pipeline.report.section_records import ReportedReference, ReportedTarget

VALIDATION_CHARACTERS = 111_540


PUBLISHED = (
    ReportedReference(
        name="Lecture's final model",
        low=2.13,
        high=2.15,
        note="“Let's build GPT”, 10.8M parameters, 1.478 to 1.488 nats/char",
    ),
    ReportedReference(
        name="nanoGPT, characters",
        low=2.120,
        high=2.120,
        note="its README's best, 10.7M parameters, 1.4697 nats/char",
    ),
    ReportedReference(
        name="GPT-2 124M, not finetuned",
        low=1.881,
        high=1.881,
        note="4.033 nats/token; its closed training set surely holds Shakespeare",
    ),
)


def references_section(target: ReportedTarget) -> tuple[ReportedReference, ...]:
    """The published losses if the target is the whole of Tiny Shakespeare, split as everybody splits it; else none."""
    # Another split is another text: a loss on it would stand beside numbers that it does not compare with.
    same_text = target.sha256 == SHA256 and target.validation_characters == VALIDATION_CHARACTERS
    return PUBLISHED if same_text else ()
