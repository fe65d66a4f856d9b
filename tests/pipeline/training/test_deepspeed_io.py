from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pipeline.errors import DataError
from pipeline.training.deepspeed_io import TRUSTED, RankFiles, contents_in
from tests.pipeline.training.conftest import Canary

CONTENTS: Any = [{"fragments": [("weight", 0, 3, 0)], "states": {"master": torch.arange(3.0)}, "scalars": {}}]


def written(folder: Path, *states: dict[str, Any], contents: Any = CONTENTS) -> list[Path]:
    files = RankFiles(rank=0, ranks_here=1)
    writing = files.begin(4, contents)
    paths = [folder / f"file-{number}.pt" for number in range(len(states))]
    for state, path in zip(states, paths, strict=True):
        files.save(state, str(path))
    writing.start()
    assert [entry.path for entry in writing.entries()] == [path.name for path in paths]
    return paths


def test_the_file_with_the_optimizers_state_says_what_the_rank_holds(tmp_path: Path) -> None:
    model = {"module": torch.ones(2), "optimizer": None, "scaler": TRUSTED[0](2.0)}
    paths = written(tmp_path, model, {"optimizer_state_dict": {"step": 4}})
    assert contents_in(paths[0]) == []
    [part] = contents_in(paths[1])
    assert part["fragments"] == [("weight", 0, 3, 0)]
    assert torch.equal(part["states"]["master"], torch.arange(3.0))


def test_without_zero_the_model_file_says_it_and_no_other_does(tmp_path: Path) -> None:
    paths = written(tmp_path, {"optimizer": {"state": {}}}, {"optimizer_state_dict": {}})
    assert [len(contents_in(path)) for path in paths] == [1, 0]


def test_the_list_takes_no_room_for_what_the_file_holds_anyway(tmp_path: Path) -> None:
    master = torch.arange(10_000.0)
    contents = [{"fragments": [], "states": {"master": master}, "scalars": {}}]
    [path] = written(tmp_path, {"optimizer_state_dict": {"fp32": master}}, contents=contents)
    assert path.stat().st_size < 1.1 * 40_000


def test_without_memory_for_a_copy_the_file_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        available = 0

    monkeypatch.setattr(psutil, "virtual_memory", Full)
    files = RankFiles(rank=0, ranks_here=1)
    files.begin(4, CONTENTS)
    files.save({"optimizer_state_dict": {"fp32": torch.ones(5)}}, str(tmp_path / "now.pt"))
    assert len(contents_in(tmp_path / "now.pt")) == 1


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    torch.save({"canary": Canary(tmp_path / "canary")}, tmp_path / "model.pt")
    with pytest.raises(DataError, match=r"model\.pt is not what a rank wrote .* Use another checkpoint"):
        contents_in(tmp_path / "model.pt")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("content", [b"", b"weights", pickle.dumps([1, 2])])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"model\.pt is not what a rank wrote"):
        contents_in(tmp_path / "model.pt")


def test_failed_write_is_raised_when_the_checkpoint_is_to_be_committed(tmp_path: Path) -> None:
    files = RankFiles(rank=0, ranks_here=1)
    writing = files.begin(4, [])
    files.save({}, str(tmp_path / "missing" / "model.pt"))
    writing.start()
    with pytest.raises(OSError, match="model") as caught:
        writing.entries()
    assert caught.value.errno in (errno.ENOENT, errno.EIO)
