"""A job: what every rank of one training stage is told, as a JSON file in the artifact's folder, `job.json`.

A file, because ranks are other processes, often on other hosts: all they share is the artifact's folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.config.schema import LaunchSection
from pipeline.config.training_sections import (
    FinetuneSection,
    ModelSection,
    PretrainSection,
    ScratchSection,
    TrainingSection,
)
from pipeline.distributed.rank_log import LOGS
from pipeline.errors import DataError
from pipeline.graph.work import Work
from pipeline.runtime.files import write_text

JOB = "job.json"
SECTIONS: Mapping[str, type[TrainingSection]] = {
    "pretrain": PretrainSection,
    "scratch": ScratchSection,
    "finetune": FinetuneSection,
}


@dataclass(frozen=True)
class Job:
    """One training stage to do. Paths are absolute and the slice is plain JSON, so it means the same on every host."""

    stage: str
    config_slice: dict[str, Any]  # top-level config key -> section, as JSON
    inputs: dict[str, str]  # stage name -> folder
    fingerprints: dict[str, str]  # stage name -> fingerprint of that input
    folder: str
    launch: LaunchSection
    state_file: str | None = None  # where rank 0 leaves its progress for `folio status`
    # function(job, world, progress) that each rank calls. By name: this room must not import `training`.
    entry_point: str = "pipeline.training.stage:train_on_rank"

    @classmethod
    def of(cls, work: Work) -> Job:
        """The job that has the ranks do a stage's work."""
        # Relative paths are resolved here: a rank on another host may start in its user's home folder.
        state_file = work.progress.state_file
        return cls(
            stage=work.stage,
            config_slice={name: _plain(section) for name, section in work.slice.items()},
            inputs={name: str(artifact.folder.resolve()) for name, artifact in work.inputs.items()},
            fingerprints={name: artifact.manifest.fingerprint for name, artifact in work.inputs.items()},
            folder=str(work.folder.resolve()),
            launch=work.launch,
            state_file=str(state_file.resolve()) if state_file else None,
        )

    @classmethod
    def read(cls, path: Path) -> Job:
        """The job in a file. Raises DataError if the file is not a job."""
        try:
            fields = json.loads(path.read_bytes())
            config_slice, launch = fields.pop("slice"), LaunchSection(**fields.pop("launch"))
            return cls(config_slice=config_slice, launch=launch, entry_point=fields.pop("body"), **fields)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, ValidationError) as error:
            raise DataError(f"{path} is not a readable job: {error}.", remedy="Run the stage again.") from error

    def write(self) -> Path:
        """Leave the job in its artifact's folder for the ranks to read; the path of the file."""
        self.logs.mkdir(parents=True, exist_ok=True)
        # "slice" and "body" are what finished artifacts call these fields, and `folio data show` reads them.
        fields = {**vars(self), "slice": self.config_slice, "launch": _plain(self.launch), "body": self.entry_point}
        del fields["config_slice"], fields["entry_point"]
        write_text(self.path, json.dumps(fields, indent=1) + "\n")
        return self.path

    @property
    def path(self) -> Path:
        """Where `write` puts the job."""
        return Path(self.folder) / JOB

    @property
    def outcome_file(self) -> Path:
        """Rank 0's counts: their presence, and no exit code, is what counts as success."""
        return Path(self.folder) / "outcome.json"

    @property
    def stop_file(self) -> Path:
        """Asks the ranks to stop by being there, where no signal reaches them."""
        return Path(self.folder) / "stop"

    @property
    def logs(self) -> Path:
        """Folder of each rank's output, heartbeat and note about its failure."""
        return Path(self.folder) / LOGS

    @property
    def model(self) -> ModelSection:
        """The config's section about the model."""
        return ModelSection.model_validate(self.config_slice["model"])

    @property
    def section(self) -> TrainingSection:
        """The stage's own section of the config: a PretrainSection, ScratchSection or FinetuneSection."""
        return SECTIONS[self.stage].model_validate(self.config_slice[self.stage])

    def input(self, stage: str) -> Path:
        """The folder of the artifact that this job reads from a stage."""
        return Path(self.inputs[stage])

    def with_entry_point(self, entry_point: str) -> Job:
        """The same job, done by another function on each rank."""
        return replace(self, entry_point=entry_point)


def _plain(section: Any) -> Any:
    return section.model_dump(mode="json") if isinstance(section, BaseModel) else section
