"""What a stage is given: its slice of the config, the finished artifacts it reads, and a folder to write to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.graph.config import Launch
from pipeline.graph.manifest import Manifest, damaged_files
from pipeline.graph.progress import Progress


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its folder and its receipt."""

    stage: str
    folder: Path
    manifest: Manifest

    def checked(self) -> Artifact:
        """This artifact, after every file matched its hash. Raises DataError naming each file that does not."""
        damaged = damaged_files(self.folder, self.manifest.files)
        if damaged:
            raise DataError(
                f"{self.folder}: {'; '.join(damaged)}.",
                remedy=f"Delete that folder and run stage {self.stage} again, or restore the file.",
            )
        return self


@dataclass(frozen=True)
class Work:
    """One stage to do. `slice` maps top-level config keys to their sections; a stage writes below `folder` only."""

    stage: str
    slice: Mapping[str, Any]
    inputs: Mapping[str, Artifact]
    folder: Path
    launch: Launch
    workers: int
    progress: Progress
