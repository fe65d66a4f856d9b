"""Section `references`: what others have published for the last tenth of Tiny Shakespeare, in bits per byte."""

from __future__ import annotations

from pipeline.inputs.named_target import SHA256
from pipeline.report.section_records import ReportedArms, ReportedReference, ReportedTarget

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


def references_section(target: ReportedTarget, arms: ReportedArms) -> tuple[ReportedReference, ...]:
    """The published losses if the target is the whole of Tiny Shakespeare, with the reason if they do not compare.

    They are of models that were trained on the first nine tenths of its characters and scored on the last.
    """
    if target.sha256 != SHA256:
        return ()
    differs = None
    if target.validation_characters != VALIDATION_CHARACTERS:
        differs = f"scored on the last {VALIDATION_CHARACTERS:,} characters, not {target.validation_characters:,}"
    elif any(arm.seeds and arm.refit is None for arm in arms.by_name().values()):
        differs = (
            f"trained on {target.characters - VALIDATION_CHARACTERS:,} characters, not {target.train_characters:,}"
        )
    return tuple(reference.model_copy(update={"differs": differs}) for reference in PUBLISHED)
