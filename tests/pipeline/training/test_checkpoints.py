"""The commit protocol and the choice of a checkpoint, with an engine that only writes and reads two small files."""

from __future__ import annotations

import errno
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.distributed.world import World
from pipeline.errors import DataError, Diverged, EnvironmentFault, ResumeError
from pipeline.training.checkpoints import RECEIPT, Checkpoints, checkpoints_in, read_receipt
from pipeline.training.state import State

pytestmark = pytest.mark.usefixtures("one_rank")


class FakeEngine:
    world = World()
    num_parameters = 100

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.finite = True

    def is_finite(self) -> bool:
        return self.finite

    def save(self, folder: Path, step: int) -> list[Path]:
        paths = [folder / "model_states.pt", folder / "optim_states.pt"]
        for path in paths:
            torch.save({"step": torch.full((50,), step)}, path)
        return paths

    def load(self, folder: Path, *, universal: bool) -> None:
        self.loaded.append(folder.name)


def checkpoints_of(folder: Path, *, keep: int = 2, engine: Any = None, **identity: Any) -> Checkpoints:
    given: Any = engine or FakeEngine()
    return Checkpoints(folder, given, keep=keep, identity={"world_size": 1} | identity)


def save(folder: Path, *steps: int, **options: Any) -> Checkpoints:
    checkpoints = checkpoints_of(folder, **options)
    for step in steps:
        checkpoints.save(State(step=step, tokens=8 * step, nats_per_token=1 / 3))
    return checkpoints


def names(folder: Path) -> list[str]:
    return [path.name for path in checkpoints_in(folder)]


def test_checkpoint_holds_its_state_and_a_hash_of_every_file(tmp_path: Path) -> None:
    save(tmp_path, 5)
    folder = tmp_path / "step-00000005"
    receipt = read_receipt(folder)
    assert State.from_json(receipt.state) == State(step=5, tokens=40, nats_per_token=1 / 3)
    assert {entry.path for entry in receipt.files} == {path.name for path in folder.iterdir()} - {RECEIPT}
    assert receipt.identity == {"world_size": 1}


def test_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 4, 8, 12, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000008", "step-00000012"]


def test_resume_takes_the_newest(tmp_path: Path) -> None:
    save(tmp_path, 4, 8)
    said: list[str] = []
    checkpoints = checkpoints_of(tmp_path)
    assert checkpoints.resume(said.append) == State(step=8, tokens=64, nats_per_token=1 / 3)
    assert checkpoints.newest == 8
    assert said == ["resuming at step 8"]


def test_without_checkpoints_training_begins(tmp_path: Path) -> None:
    assert checkpoints_of(tmp_path / "none").resume(print) == State()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("optim_states.pt", cut, r"optim_states.pt has [\d,]+ bytes instead of [\d,]+"),
        ("optim_states.pt", flip, "optim_states.pt has another sha256"),
        ("model_states.pt", Path.unlink, "model_states.pt is missing"),
        (RECEIPT, Path.unlink, "checkpoint.json is missing"),
        (RECEIPT, lambda path: path.write_bytes(path.read_bytes()[:-9]), "checkpoint.json is damaged"),
        (RECEIPT, lambda path: path.write_text("{}"), "checkpoint.json is damaged"),
        (
            RECEIPT,
            lambda path: path.write_text(path.read_text().replace("64", "65")),
            "checkpoint.json has another sha256",
        ),
        ("extra_states.pt", Path.touch, "extra_states.pt is not part of it"),
    ],
)
def test_damaged_checkpoint_is_passed_over_and_the_reason_said(
    tmp_path: Path, name: str, damage: Callable[[Path], None], reason: str
) -> None:
    save(tmp_path, 4, 8)
    damage(tmp_path / "step-00000008" / name)
    said: list[str] = []
    engine = FakeEngine()
    assert checkpoints_of(tmp_path, engine=engine).resume(said.append).step == 4
    assert engine.loaded == ["step-00000004"]
    assert re.search(f"checkpoint step-00000008 is not used: {reason}", said[0])
    assert said[1] == "resuming at step 4"


def test_every_single_bit_flip_is_noticed(tmp_path: Path) -> None:
    save(tmp_path, 4)
    path = tmp_path / "step-00000004" / "optim_states.pt"
    intact = path.read_bytes()
    for position in range(0, len(intact), max(len(intact) // 100, 1)):
        damaged = bytearray(intact)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="None of the 1 checkpoints"):
            checkpoints_of(tmp_path).resume(lambda text: None)


def test_training_never_begins_again_while_damaged_checkpoints_exist(tmp_path: Path) -> None:
    save(tmp_path, 4, 8)
    for folder in checkpoints_in(tmp_path):
        (folder / "model_states.pt").unlink()
    with pytest.raises(DataError, match=r"None of the 2 checkpoints in .* is valid.*model_states.pt is missing"):
        checkpoints_of(tmp_path).resume(lambda text: None)


def test_damaged_files_are_never_unpickled(tmp_path: Path) -> None:
    save(tmp_path, 4, 8)
    canary = tmp_path / "canary"
    with (tmp_path / "step-00000008" / "optim_states.pt").open("wb") as file:
        pickle.dump(Canary(canary), file)

    class ReadingEngine(FakeEngine):
        def load(self, folder: Path, *, universal: bool) -> None:
            for path in folder.glob("*.pt"):
                torch.load(path, weights_only=False)

    assert checkpoints_of(tmp_path, engine=ReadingEngine()).resume(lambda text: None).step == 4
    assert not canary.exists()


class Canary:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mknod, (str(self.path),)


def test_another_training_is_refused_naming_old_and_new(tmp_path: Path) -> None:
    save(tmp_path, 4, dtype="fp32", zero=1)
    with pytest.raises(ResumeError, match=r"different training: dtype fp32 -> bf16, zero 1 -> 3\."):
        checkpoints_of(tmp_path, dtype="bf16", zero=3).resume(print)


def test_another_number_of_ranks_is_refused_with_the_right_one(tmp_path: Path) -> None:
    save(tmp_path, 4)
    with pytest.raises(ResumeError, match="world_size 1 -> 2") as caught:
        checkpoints_of(tmp_path, world_size=2).resume(print)
    assert caught.value.remedy.startswith("Use 1 rank, or run: folio checkpoint convert ")


def test_failed_save_leaves_nothing_and_keeps_the_older_one(tmp_path: Path) -> None:
    class FullDisk(FakeEngine):
        def save(self, folder: Path, step: int) -> list[Path]:
            super().save(folder, step)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    save(tmp_path, 4)
    with pytest.raises(EnvironmentFault, match=r"step-00000008 was not written \(rank 0: No space left on device\)"):
        save(tmp_path, 8, engine=FullDisk())
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]


def test_too_little_room_is_found_before_anything_is_written(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.num_parameters = 10**15
    with pytest.raises(EnvironmentFault, match=r"it needs 16000.0 TB, .* are free"):
        save(tmp_path, 4, engine=engine)
    assert list(tmp_path.iterdir()) == []


def test_leftover_of_a_killed_save_is_not_a_checkpoint_and_goes_away(tmp_path: Path) -> None:
    save(tmp_path, 4)
    leftover = tmp_path / "step-00000008.tmp"
    leftover.mkdir()
    (leftover / "model_states.pt").touch()
    assert names(tmp_path) == ["step-00000004"]
    assert checkpoints_of(tmp_path).resume(lambda text: None).step == 4
    save(tmp_path, 12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000004", "step-00000012"]


def test_saving_replaces_a_damaged_checkpoint_of_the_same_step(tmp_path: Path) -> None:
    save(tmp_path, 4, 8)
    (tmp_path / "step-00000008" / "model_states.pt").unlink()
    save(tmp_path, 8)
    assert checkpoints_of(tmp_path).resume(lambda text: None).step == 8


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.finite = False
    with pytest.raises(Diverged, match="at step 4 some weights are not finite"):
        save(tmp_path, 4, engine=engine)
    assert list(tmp_path.iterdir()) == []


def test_receipt_that_points_outside_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 4)
    folder = tmp_path / "step-00000004"
    receipt = read_receipt(folder)
    outside = receipt.files[0].model_copy(update={"path": "../model_states.pt"})
    forged = receipt.model_copy(update={"files": (*receipt.files, outside)}).sealed()
    (folder / RECEIPT).write_text(forged.model_dump_json())
    with pytest.raises(DataError, match=r"checkpoint.json names \.\./model_states.pt, which lies outside"):
        read_receipt(folder)
