"""The configs of the lecture's ladder: how a rung is trained, and what the lecture reached with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from gpt.lecture import RUNGS, Sizes
from pipeline.config.loading import load_section
from pipeline.config.quantities import Count, Real
from pipeline.config.schema import Section, not_fingerprinted
from pipeline.errors import ConfigError

REQUIRED: Any = ...


class Rung(Section):
    """One rung, trained once per seed; the defaults are those of the lecture's script before it is scaled up."""

    name: str  # of `gpt.lecture.RUNGS`
    published_nats_per_char: Real = not_fingerprinted(REQUIRED)  # the lecture's script, at its last step
    context: Count = 8
    width: Count = 32
    heads: Count = 4
    layers: Count = 3
    batch_samples: Count = 32
    learning_rate: Real = 1e-3
    steps: Count = 5000
    seeds: tuple[Count, ...] = Field(default=(1, 2, 3), min_length=1, json_schema_extra={"identity": False})

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in RUNGS:
            raise ValueError(f"{name!r} is no rung; rungs are {', '.join(RUNGS)}")
        return name

    @model_validator(mode="after")
    def _whole_heads(self) -> Rung:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided into {self.heads} heads")
        return self

    def sizes(self, vocab_size: int) -> Sizes:
        return Sizes(vocab_size, self.context, self.width, self.heads, self.layers)


def read_rungs(folder: Path, names: Sequence[str] = ()) -> list[Rung]:
    """The configs of these rungs, by default of all, from the lowest up. Raises ConfigError if one is unknown."""
    if not folder.is_dir():
        raise ConfigError(
            f"There is no folder {folder} in {Path.cwd()}.", remedy="Go to Folio's checkout and try again."
        )
    unknown = [name for name in names if name not in RUNGS]
    if unknown:
        raise ConfigError(
            f"{unknown[0]!r} is no rung of the ladder.",
            remedy=f"Rungs are {', '.join(RUNGS)}; --scaled-up adds the last one.",
        )
    return [load_section(folder / f"{name}.yaml", Rung) for name in RUNGS if name in names or not names]
