"""What a stage is given: its slice of the config, the finished artifacts it reads, and a folder to write to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from pipeline.config.schema import LaunchSection
from pipeline.errors import DataError
from pipeline.graph.manifest import Manifest, damaged_files
from pipeline.graph.stage_counts import StageCounts
from pipeline.graph.variants import Variant
from pipeline.inputs.outside import Texts
from pipeline.runtime.progress import Progress

Counts = TypeVar("Counts", bound=StageCounts)


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its folder and its manifest."""

    stage: str
    folder: Path
    manifest: Manifest

    def counts_as(self, kind: type[Counts]) -> Counts:
        """What its stage counted, as that stage's record. Raises DataError if the manifest holds something else."""
        try:
            return kind.model_validate(self.manifest.counts)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, ("counts", *first["loc"])))
            raise DataError(
                f"The manifest in {self.folder} is damaged ({field}: {first['msg']}).",
                remedy=f"Delete that folder and run stage {self.stage} again.",
            ) from None

    def checked(self, *, unread: str = "") -> Artifact:
        """This artifact, after every file matched its hash, but for one that the stage must not open.

        Raises DataError naming each file that does not.
        """
        damaged = damaged_files(self.folder, [entry for entry in self.manifest.files if entry.path != unread])
        if damaged:
            raise DataError(
                f"{self.folder}: {'; '.join(damaged)}.",
                remedy=f"Delete that folder and run stage {self.stage} again, or restore the file.",
            )
        return self


class RankPool(Protocol):
    """Ranks that torchrun, deepspeed or srun started, waiting for jobs."""

    def run_job(self, job_file: Path) -> dict[str, Any]:
        """Have every rank do the job in a file; rank 0's counts."""
        ...


@dataclass(frozen=True)
class Work:
    """One stage to do. `slice` maps top-level config keys to their sections; a stage writes below `folder` only."""

    stage: str
    slice: Mapping[str, Any]
    inputs: Mapping[str, Artifact]  # stage -> its artifact in this variant of the run
    folder: Path
    launch: LaunchSection
    workers: int
    progress: Progress
    variants: Mapping[Variant, Mapping[str, Artifact]] = field(
        default_factory=dict
    )  # what only the report compares with
    ranks: RankPool | None = None  # None: a training stage starts its own
    outside: Texts = field(default_factory=dict)  # what it reads from outside the store, as it was fingerprinted

    @property
    def reads(self) -> dict[str, Artifact]:
        """Everything that the stage reads, by printed name: its inputs, then those of the variants."""
        compared = {
            variant.stage_name(stage): artifact
            for variant, artifacts in self.variants.items()
            for stage, artifact in artifacts.items()
        }
        return {**self.inputs, **compared}
