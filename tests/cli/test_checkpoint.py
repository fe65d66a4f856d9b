"""`folio checkpoint`, on checkpoints of one small file each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.graph.manifest import FileEntry
from pipeline.training.checkpoints import RECEIPT, CheckpointReceipt, step_name

Invoke = Callable[..., Any]


def checkpoint(folder: Path, step: int, loss: float | None = 4.25) -> Path:
    path = folder / step_name(step)
    path.mkdir(parents=True)
    (path / "rank-0.pt").write_bytes(b"weights")
    entry = FileEntry(path="rank-0.pt", bytes=7, sha256=hashlib.sha256(b"weights").hexdigest())
    receipt = CheckpointReceipt(
        step=step, tokens=step * 1000, nats_per_token=loss, state={}, identity={"world_size": 2}, files=(entry,)
    )
    (path / RECEIPT).write_text(receipt.sealed().model_dump_json())
    return path


def test_list_shows_every_checkpoint_of_a_pretraining_oldest_first(invoke: Invoke, tmp_path: Path) -> None:
    late = checkpoint(tmp_path / "checkpoints", 12)
    early = checkpoint(tmp_path / "checkpoints", 8, loss=None)
    assert invoke("checkpoint", "list", tmp_path).stdout.splitlines() == [
        f"{early}  8k tokens  2 ranks  7 B",
        f"{late}  12k tokens  4.2500 nats/token  2 ranks  7 B",
    ]


def test_list_finds_the_checkpoints_of_each_trial_and_a_single_one(invoke: Invoke, tmp_path: Path) -> None:
    of_trials = [checkpoint(tmp_path / "trials" / name / "checkpoints", 4) for name in ("lr-0.01", "lr-0.1")]
    said = invoke("checkpoint", "list", tmp_path, "--json").stdout
    assert [json.loads(line)["path"] for line in said.splitlines()] == [str(path) for path in of_trials]
    assert invoke("checkpoint", "list", of_trials[1]).stdout.startswith(f"{of_trials[1]}  4k tokens")


def test_verify_names_the_damaged_file_after_every_checkpoint_was_looked_at(invoke: Invoke, tmp_path: Path) -> None:
    damaged, intact = checkpoint(tmp_path, 4), checkpoint(tmp_path, 8)
    (damaged / "rank-0.pt").write_bytes(b"Weights")
    result = invoke("checkpoint", "verify", tmp_path)
    assert result.stdout.splitlines() == [f"{damaged}  DAMAGED", f"{intact}  ok"]
    assert isinstance(result.exception, DataError)
    assert f"{damaged}/rank-0.pt" in str(result.exception)


@pytest.mark.parametrize("command", ["list", "verify"])
def test_folder_without_checkpoints_is_refused(invoke: Invoke, tmp_path: Path, command: str) -> None:
    result = invoke("checkpoint", command, tmp_path)
    assert str(result.exception) == f"{tmp_path} holds no checkpoints. Give the folder of a training stage."
