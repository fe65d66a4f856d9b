"""Stage `target`: the text whose validation loss is reported, and which of its characters train, choose and are scored.

    refit.txt        what may be trained on
    validation.txt   is scored once, by the report
    splits.json      the parts of both, and which of refit.txt choose: `target_splits`

The text is cut after it was normalised as the corpus is (`text_encoding`): without a byte-order mark, newlines as \\n,
no control characters. That changes nothing of Tiny Shakespeare, whose validation split begins at character 1,003,854,
where the lecture and nanoGPT cut it.
"""

from __future__ import annotations

import math
from typing import Any

from pipeline.config.text_sections import TargetSection
from pipeline.corpus.target_documents import TargetText, read_target
from pipeline.corpus.target_splits import (
    LEAST_SELECTION,
    TARGET_SPLITS,
    TargetSplits,
    TooShort,
    split_target,
    target_text,
)
from pipeline.errors import DataError
from pipeline.graph.stage_counts import TargetCounts
from pipeline.graph.work import Work
from pipeline.inputs.outside import find_target
from pipeline.runtime.formatting import counted


def make_target(work: Work) -> TargetCounts:
    """Get the target and split it.

    Raises DataError if the text is damaged or too short, ConfigError if a path or dataset is wrong, EnvironmentFault if
    no server answers.
    """
    section: TargetSection = work.slice["target"]
    target = read_target(section, work.outside.get("target") or find_target(section), work.progress)
    splits = _split(target, section)
    text = "".join(target.documents)
    splits.write(work.folder, text)
    documents = f" in {counted(len(target.documents), 'document')}" if len(target.documents) > 1 else ""
    work.progress.say(f"{target.name} ({target.origin}), {len(text):,} characters{documents}")
    sizes: dict[str, Any] = {}
    for split in TARGET_SPLITS:
        part = target_text(work.folder, split)
        sizes |= {f"{split}_characters": len(part), f"{split}_bytes": len(part.encode())}
    return TargetCounts(
        name=target.name,
        origin=target.origin,
        sha256=target.sha256,
        characters=len(text),
        bytes=len(text.encode()),
        documents=len(target.documents),
        selection_stretches=splits.selection,
        **sizes,
    )


def _split(target: TargetText, section: TargetSection) -> TargetSplits:
    """Raises DataError, with the sizes that would do, if the text is too short."""
    characters = sum(map(len, target.documents))
    try:
        return split_target(target.documents, selection=section.selection, validation=section.validation)
    except TooShort as short:
        raise DataError(
            f"The target {target.name} has {characters:,} characters: too few to choose learning rates on "
            f"{section.selection:.0%} of them.",
            remedy=f"Give at least {short.needed:,} characters{_or_larger_share(characters, section)}.",
        ) from None


def _or_larger_share(characters: int, section: TargetSection) -> str:
    """The share with which this text would do, if it leaves most of it to train on."""
    percent = math.ceil(100 * LEAST_SELECTION / max(characters, 1))
    return f", or set target.selection: {percent}%" if percent / 100 + section.validation <= 0.5 else ""
