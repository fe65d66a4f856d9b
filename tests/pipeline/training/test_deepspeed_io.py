from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.training.deepspeed_io import RankFiles


@pytest.fixture
def files() -> RankFiles:
    files = RankFiles(rank=0)
    files.begin(4)
    return files


def test_what_is_written_reads_back_and_is_remembered(files: RankFiles, tmp_path: Path) -> None:
    state = {"step": 4, "weights": torch.arange(3.0), "scaler": RankFiles.TRUSTED[0](2.0)}
    files.save(state, str(tmp_path / "model.pt"))
    assert files.written == [tmp_path / "model.pt"]
    loaded = files.load(str(tmp_path / "model.pt"))
    assert loaded["step"] == 4 and torch.equal(loaded["weights"], state["weights"])
    assert type(loaded["scaler"]) is RankFiles.TRUSTED[0]
    files.begin(5)
    assert files.written == []


class Canary:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mknod, (str(self.path),)


def test_code_in_a_file_is_never_run(files: RankFiles, tmp_path: Path) -> None:
    torch.save({"canary": Canary(tmp_path / "canary")}, tmp_path / "model.pt")
    with pytest.raises(pickle.UnpicklingError, match="mknod"):
        files.load(str(tmp_path / "model.pt"))
    assert not (tmp_path / "canary").exists()


def test_failed_write_is_kept_for_later_and_the_next_save_begins_anew(files: RankFiles, tmp_path: Path) -> None:
    files.save({}, str(tmp_path / "missing" / "model.pt"))
    assert files.failure is not None and files.failure.errno == errno.ENOENT
    files.save({}, str(tmp_path / "second.pt"))
    assert not (tmp_path / "second.pt").exists(), "the checkpoint is lost already"
    files.begin(8)
    files.save({}, str(tmp_path / "second.pt"))
    assert files.failure is None and (tmp_path / "second.pt").exists()
