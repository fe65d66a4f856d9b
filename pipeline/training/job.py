"""What every rank of one training stage is told, as a JSON file in the artifact's folder: `job.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.errors import DataError
from pipeline.graph.config import Finetune, Launch, Model, Pretrain, Scratch, Training
from pipeline.graph.manifest import write_atomically
from pipeline.graph.work import Work

JOB = "job.json"
RECIPES: Mapping[str, type[Training]] = {"pretrain": Pretrain, "scratch": Scratch, "finetune": Finetune}


@dataclass(frozen=True)
class Job:
    """One training stage. `slice` is plain JSON, every path is absolute, so the file means the same on every node."""

    stage: str
    slice: dict[str, Any]
    inputs: dict[str, str]  # stage name -> folder
    fingerprints: dict[str, str]  # stage name -> fingerprint of that input
    folder: str
    launch: dict[str, Any]
    state_file: str | None = None  # where rank 0 leaves its progress for `folio status`
    body: str = "pipeline.training.bodies:train_stage"

    @classmethod
    def of(cls, work: Work) -> Job:
        state_file = work.progress.state_file
        return cls(
            stage=work.stage,
            slice={name: _plain(section) for name, section in work.slice.items()},
            inputs={name: str(artifact.folder.resolve()) for name, artifact in work.inputs.items()},
            fingerprints={name: artifact.manifest.fingerprint for name, artifact in work.inputs.items()},
            folder=str(work.folder.resolve()),
            launch=work.launch.model_dump(mode="json"),
            state_file=str(state_file.resolve()) if state_file else None,
        )

    @classmethod
    def read(cls, path: Path) -> Job:
        """Raises DataError if the file is not a job."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path} is not a readable job: {error}.", remedy="Run the stage again.") from error

    def write(self) -> Path:
        """Leave the job in its artifact's folder for the ranks to read."""
        self.logs.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(asdict(self), indent=1) + "\n")
        return self.path

    @property
    def path(self) -> Path:
        return Path(self.folder) / JOB

    @property
    def outcome(self) -> Path:
        """Rank 0's counts: their presence, and no exit code, is what counts as success."""
        return Path(self.folder) / "outcome.json"

    @property
    def stop_file(self) -> Path:
        """Asks the ranks to stop, where no signal reaches them."""
        return Path(self.folder) / "stop"

    @property
    def logs(self) -> Path:
        return Path(self.folder) / "logs"

    @property
    def model(self) -> Model:
        return Model.model_validate(self.slice["model"])

    @property
    def recipe(self) -> Training:
        """The stage's own section: Pretrain, Scratch or Finetune."""
        return RECIPES[self.stage].model_validate(self.slice[self.stage])

    @property
    def settings(self) -> Launch:
        return Launch.model_validate(self.launch)

    def input(self, stage: str) -> Path:
        return Path(self.inputs[stage])

    def with_body(self, body: str) -> Job:
        return replace(self, body=body)


def _plain(section: Any) -> Any:
    return section.model_dump(mode="json") if isinstance(section, BaseModel) else section
