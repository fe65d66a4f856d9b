"""The configs of the lecture's ladder: how each rung is trained, and the loss that the lecture reached with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from gpt.lecture import RUNGS, Sizes
from pipeline.config.loading import load_section
from pipeline.config.quantities import LearningRate, ModelSize, PositiveCount, PositiveReal, Seed
from pipeline.config.section import Section, not_fingerprinted, refuse_repeated
from pipeline.errors import ConfigError

REQUIRED: Any = ...  # pydantic's mark of a field without a default


class Rung(Section):
    """One model of the ladder, trained once per seed.

    Defaults are those of the lecture's script before it is scaled up.
    """

    name: str  # of `gpt.lecture.RUNGS`
    published_nats_per_char: PositiveReal = not_fingerprinted(REQUIRED)  # by the lecture's script, at its last step
    context: ModelSize = 8
    width: ModelSize = 32
    heads: ModelSize = 4
    layers: ModelSize = 3
    batch_samples: PositiveCount = 32
    learning_rate: LearningRate = 1e-3
    steps: PositiveCount = 5000
    # Not part of the identity: each seed has a file of its own, so another seed leaves the finished ones in place.
    seeds: tuple[Seed, ...] = Field(default=(1, 2, 3), min_length=1, json_schema_extra={"identity": False})

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in RUNGS:
            raise ValueError(f"{name!r} is not a rung; rungs are {', '.join(RUNGS)}")
        return name

    @model_validator(mode="after")
    def _fitting_together(self) -> Rung:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided into {self.heads} heads")
        refuse_repeated("seeds", self.seeds)
        return self

    def sizes(self, vocab_size: int) -> Sizes:
        """The sizes of its model for a text with that many different characters."""
        return Sizes(vocab_size, self.context, self.width, self.heads, self.layers)


def read_rungs(folder: Path, names: Sequence[str] = ()) -> list[Rung]:
    """The configs of these rungs, by default of all, from the lowest up.

    Raises ConfigError if a name or a key is unknown, or if the folder is missing.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"There is no folder {folder} in {Path.cwd()}.", remedy="Go to Folio's checkout and try again."
        )
    unknown = [name for name in names if name not in RUNGS]
    if unknown:
        raise ConfigError(
            f"{unknown[0]!r} is not a rung of the ladder.",
            remedy=f"Rungs are {', '.join(RUNGS)}; --scaled-up adds the last one.",
        )
    return [load_section(folder / f"{name}.yaml", Rung) for name in RUNGS if name in names or not names]
