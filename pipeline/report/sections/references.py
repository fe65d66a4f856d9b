"""What others have published for the last tenth of Tiny Shakespeare, in bits per byte, and when it may be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.corpus.target_stage import SHA256

VALIDATION_CHARACTERS = 111_540


@dataclass(frozen=True)
class Reference:
    """A published loss; `low` and `high` are equal where one value was given."""

    name: str
    low: float
    high: float
    note: str


PUBLISHED = (
    Reference("Lecture's final model", 2.13, 2.15, "“Let's build GPT”, 10.8M parameters, 1.478 to 1.488 nats/char"),
    Reference("nanoGPT, characters", 2.120, 2.120, "its README's best, 10.7M parameters, 1.4697 nats/char"),
    Reference(
        "GPT-2 124M, not finetuned", 1.881, 1.881, "4.033 nats/token; its closed training set surely holds Shakespeare"
    ),
)


def references(target: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The published losses if the target is the whole of Tiny Shakespeare, split as everybody splits it; else none."""
    same_text = target["sha256"] == SHA256
    if not same_text or target["validation_characters"] != VALIDATION_CHARACTERS:
        return []
    return [asdict(reference) for reference in PUBLISHED]
