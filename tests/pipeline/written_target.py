"""A target artifact of given texts, for tests of the stages that read one."""

from __future__ import annotations

from pathlib import Path

from pipeline.corpus.target_splits import TargetSplits


def write_target(folder: Path, *, train: str, selection: str, validation: str) -> None:
    """The three texts one after the other, each one part; refits are trained on the first two."""
    cut = len(train + selection)
    TargetSplits(
        train=((0, len(train)),),
        selection=((len(train), cut),),
        refit=((0, cut),),
        validation=((cut, cut + len(validation)),),
    ).write(folder, train + selection + validation)
