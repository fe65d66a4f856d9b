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
from pipeline.training.checkpoint_files import RECEIPT, CheckpointReceipt, step_name

Invoke = Callable[..., Any]


def checkpoint(folder: Path, step: int, loss: float | None = 4.25) -> Path:
    path = folder / step_name(step)
    path.mkdir(parents=True)
    (path / "rank-0.pt").write_bytes(b"weights")
    entry = FileEntry(path="rank-0.pt", bytes=7, sha256=hashlib.sha256(b"weights").hexdigest())
    receipt = CheckpointReceipt(
        step=step,
        tokens=step * 1000,
        nats_per_token=loss,
        state={"best_step": 8},
        identity={},
        ranks=2,
        zero=1,
        files=(entry,),
    )
    (path / RECEIPT).write_text(receipt.sealed().model_dump_json())
    return path


def test_list_shows_every_checkpoint_of_a_pretraining_oldest_first(invoke: Invoke, tmp_path: Path) -> None:
    late = checkpoint(tmp_path / "checkpoints", 12)
    early = checkpoint(tmp_path / "checkpoints", 8, loss=None)
    sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in (early, late)]
    assert invoke("checkpoint", "list", tmp_path).stdout.splitlines() == [
        f"{early}  8k tokens  2 ranks  {sizes[0]} B  best on held-out text",
        f"{late}  12k tokens  4.2500 nats/token  2 ranks  {sizes[1]} B",
    ]


def test_list_goes_on_after_a_damaged_checkpoint_and_says_what_is_wrong(invoke: Invoke, tmp_path: Path) -> None:
    lost, renamed, intact = (checkpoint(tmp_path, step) for step in (4, 8, 12))
    (lost / RECEIPT).unlink()
    renamed = renamed.rename(tmp_path / step_name(99))
    result = invoke("checkpoint", "list", tmp_path)
    assert result.exit_code == 0
    first, second, third = result.stdout.splitlines()
    assert first == f"{lost}  7 B  DAMAGED: checkpoint.json is missing"
    assert second.startswith(f"{intact}  12k tokens")
    assert third.startswith(str(renamed)) and third.endswith("DAMAGED: checkpoint.json is that of step 8")
    lines = invoke("checkpoint", "list", tmp_path, "--json").stdout.splitlines()
    reasons = [json.loads(line).get("damage") for line in lines]
    assert reasons == ["checkpoint.json is missing", None, "checkpoint.json is that of step 8"]


def test_list_finds_the_checkpoints_of_each_trial_and_a_single_one(invoke: Invoke, tmp_path: Path) -> None:
    of_trials = [checkpoint(tmp_path / "trials" / name / "checkpoints", 4) for name in ("lr-0.01", "lr-0.1")]
    said = invoke("checkpoint", "list", tmp_path, "--json").stdout
    assert [json.loads(line)["path"] for line in said.splitlines()] == [str(path) for path in of_trials]
    assert invoke("checkpoint", "list", of_trials[1]).stdout.startswith(f"{of_trials[1]}  4k tokens")


def test_verify_names_the_damaged_file_after_every_checkpoint_was_looked_at(invoke: Invoke, tmp_path: Path) -> None:
    damaged, intact = checkpoint(tmp_path, 4), checkpoint(tmp_path, 8)
    (damaged / "rank-0.pt").write_bytes(b"Weights")
    result = invoke("checkpoint", "verify", tmp_path)
    assert result.stdout.splitlines() == [
        f"{damaged}  DAMAGED: rank-0.pt has another sha256",
        f"{intact}  ok  1 file  7 B",
    ]
    assert isinstance(result.exception, DataError)
    assert f"{damaged}: rank-0.pt has another sha256" in str(result.exception)


def test_a_checkpoint_that_is_for_so_many_ranks_already_is_left_alone(invoke: Invoke, tmp_path: Path) -> None:
    newest = checkpoint(tmp_path, 8)
    assert invoke("checkpoint", "convert", tmp_path, "--ranks", 2).stdout == f"{newest}  is for 2 ranks already\n"


@pytest.mark.parametrize("command", ["list", "verify"])
def test_folder_without_checkpoints_is_refused(invoke: Invoke, tmp_path: Path, command: str) -> None:
    result = invoke("checkpoint", command, tmp_path)
    assert str(result.exception) == f"{tmp_path} holds no checkpoints. Give the folder of a training stage."


def test_prune_shows_first_and_removes_when_told(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{}")
    kept = checkpoint(tmp_path / "checkpoints", 8)
    half = tmp_path / "checkpoints" / "step-00000012.tmp"
    half.mkdir()
    (half / "rank-0.pt").write_bytes(b"weights")
    shown = f"{half}  7 B  left by a save that was killed\n"
    assert invoke("checkpoint", "prune", tmp_path).stdout == shown + "7 B can go: --yes removes it.\n"
    assert half.exists()
    assert invoke("checkpoint", "prune", tmp_path, "--yes").stdout == shown + "7 B removed.\n"
    assert not half.exists() and kept.exists()
    assert invoke("checkpoint", "prune", tmp_path).stdout == "Nothing can go.\n"
