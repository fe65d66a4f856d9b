"""A job says the same to every rank, wherever it reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.schema import LaunchSection
from pipeline.config.training_sections import ModelSection, PretrainSection
from pipeline.distributed.job import Job
from pipeline.errors import DataError
from pipeline.graph.manifest import Manifest
from pipeline.graph.work import Artifact, Work
from pipeline.runtime.progress import Progress


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.chdir(tmp_path)
    folder = Path("store/pretrain-1")  # relative, as an operator gives it
    folder.mkdir(parents=True)
    receipt = Manifest.model_construct(stage="shards", fingerprint="abc")
    return Work(
        stage="pretrain",
        slice={
            "model": ModelSection(layers=2),
            "pretrain": PretrainSection(learning_rate="2e-3"),
            "deepspeed": {"a": 1},
            "weights": {"x": 0.5},
        },
        inputs={"shards": Artifact("shards", Path("store/shards-1"), receipt)},
        folder=folder,
        launch=LaunchSection(port=4000),
        workers=1,
        progress=Progress("pretrain", folder / "progress.json"),
    )


def test_job_survives_its_file(work: Work) -> None:
    job = Job.of(work)
    assert job == Job.read(job.write())


def test_job_gives_the_sections_back(work: Work) -> None:
    job = Job.read(Job.of(work).write())
    assert (work.slice["model"], work.slice["pretrain"], work.launch) == (job.model, job.section, job.launch)
    assert job.config_slice["weights"] == {"x": 0.5}


def test_paths_of_a_job_are_absolute(work: Work, tmp_path: Path) -> None:
    job = Job.of(work)
    assert Path(job.folder) == tmp_path / "store/pretrain-1"
    assert job.input("shards") == tmp_path / "store/shards-1"
    assert job.state_file == str(tmp_path / "store/pretrain-1/progress.json")
    assert job.fingerprints == {"shards": "abc"}


@pytest.mark.parametrize("content", ["", "{}", '{"stage": "pretrain", "surprise": 1}'])
def test_damaged_job_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "job.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"job\.json"):
        Job.read(path)
