"""The commit protocol and the choice of a checkpoint, with an engine that only writes and reads two small files."""

from __future__ import annotations

import errno
import os
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.distributed.world import World
from pipeline.errors import DataError, Diverged, EnvironmentFault, ResumeError
from pipeline.training.checkpoint_files import RECEIPT, checkpoints_in, read_receipt
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.deepspeed_config import EngineSettings
from pipeline.training.file_writing import FileWriting
from pipeline.training.state import State
from tests.pipeline.training.conftest import Canary

pytestmark = pytest.mark.usefixtures("one_rank")


class FakeEngine:
    world, settings = World(), EngineSettings(micro_batch=1, accumulation=1)
    num_parameters = 100

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.finite = True

    def is_finite(self) -> bool:
        return self.finite

    def save(self, folder: Path, step: int) -> FileWriting:
        writing = FileWriting()
        for name in ("model_states.pt", "optim_states.pt"):
            writing.add(folder / name, lambda path: torch.save({"step": torch.full((50,), step)}, path))
        writing.start()
        return writing

    def load(self, files: Sequence[Path]) -> None:
        self.loaded.append(files[0].parent.name)


def checkpoints_of(
    folder: Path, *, keep: int = 2, keep_every: int = 0, engine: Any = None, **identity: Any
) -> Checkpoints:
    given: Any = engine or FakeEngine()
    return Checkpoints(folder, given, keep=keep, keep_every=keep_every, identity={"seed": 1} | identity)


def save(folder: Path, *steps: int, **options: Any) -> Checkpoints:
    checkpoints = checkpoints_of(folder, **options)
    for step in steps:
        checkpoints.save(State(step=step, tokens=8 * step, nats_per_token=1 / 3))
        checkpoints.commit()
    return checkpoints


def names(folder: Path) -> list[str]:
    return [path.name for path in checkpoints_in(folder)]


def test_checkpoint_holds_its_state_and_a_hash_of_every_file(tmp_path: Path) -> None:
    save(tmp_path, 5)
    folder = tmp_path / "step-00000005"
    receipt = read_receipt(folder)
    assert State.from_json(receipt.state) == State(step=5, tokens=40, nats_per_token=1 / 3)
    assert {entry.path for entry in receipt.files} == {path.name for path in folder.iterdir()} - {RECEIPT}
    assert (receipt.identity, receipt.ranks) == ({"seed": 1}, 1)


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
        def load(self, files: Sequence[Path]) -> None:
            for path in files:
                torch.load(path, weights_only=False)

    assert checkpoints_of(tmp_path, engine=ReadingEngine()).resume(lambda text: None).step == 4
    assert not canary.exists()


def test_another_training_is_refused_naming_old_and_new(tmp_path: Path) -> None:
    save(tmp_path, 4, dtype="fp32", layers=1)
    with pytest.raises(ResumeError, match=r"different training: dtype fp32 -> bf16, layers 1 -> 3\."):
        checkpoints_of(tmp_path, dtype="bf16", layers=3).resume(print)


@pytest.mark.parametrize(
    ("ranks", "zero", "said"),
    [(1, 1, ""), (2, 1, " (1 -> 2 ranks)"), (1, 3, " (ZeRO 1 -> 3)"), (4, 0, " (1 -> 4 ranks, ZeRO 1 -> 0)")],
)
def test_another_number_of_ranks_or_stage_goes_on_and_says_so(tmp_path: Path, ranks: int, zero: Any, said: str) -> None:
    save(tmp_path, 4)
    engine = FakeEngine()
    engine.world = replace(World(), world_size=ranks)
    engine.settings = replace(engine.settings, zero=zero)
    lines: list[str] = []
    checkpoints_of(tmp_path, engine=engine).resume(lines.append)
    assert lines == [f"resuming at step 4{'; its state is divided anew' if said else ''}{said}"]


def test_failed_save_leaves_nothing_and_keeps_the_older_one(tmp_path: Path) -> None:
    class FullDisk(FakeEngine):
        def save(self, folder: Path, step: int) -> FileWriting:
            writing = FileWriting()

            def fail(path: Path) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            writing.add(folder / "optim_states.pt", fail)
            writing.start()
            return writing

    save(tmp_path, 4)
    with pytest.raises(EnvironmentFault, match=r"step-00000008 was not written \(rank 0: No space left on device\)"):
        save(tmp_path, 8, engine=FullDisk())
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]


def test_too_little_room_is_found_before_anything_is_written(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.num_parameters = 10**15
    with pytest.raises(EnvironmentFault, match=r"it needs 20000.0 TB, .* are free"):
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


def test_at_most_one_checkpoint_is_under_way_and_none_is_there_before_it_is_committed(tmp_path: Path) -> None:
    checkpoints = checkpoints_of(tmp_path)
    assert not checkpoints.written()
    checkpoints.save(State(step=4))
    assert names(tmp_path) == []
    checkpoints.save(State(step=8))
    assert names(tmp_path) == ["step-00000004"], "the second waited for the first"
    checkpoints.commit()
    assert names(tmp_path) == ["step-00000004", "step-00000008"]
    checkpoints.commit()  # nothing is under way
    assert checkpoints.newest == 8


def test_no_inodes_are_said_to_be_missing_and_not_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs

    def used_up(path: Any) -> Any:
        values = list(real(path))
        values[5], values[7] = 1000, 3  # f_files, f_favail
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "statvfs", used_up)
    with pytest.raises(EnvironmentFault, match=r"only 3 more files fit on the disk \(its inodes are used up\)"):
        save(tmp_path, 4)


def test_a_checkpoint_renamed_to_a_later_step_stands_in_the_way_of_none(tmp_path: Path) -> None:
    save(tmp_path, 4, 8)
    (tmp_path / "step-00000004").rename(tmp_path / "step-00000099")
    said: list[str] = []
    assert checkpoints_of(tmp_path).resume(said.append).step == 8
    assert said[0] == "checkpoint step-00000099 is not used: checkpoint.json is that of step 4"
    save(tmp_path, 12, 16, keep=1)
    assert names(tmp_path) == ["step-00000016", "step-00000099"]


def test_training_never_begins_again_while_a_checkpoint_lies_elsewhere_in_its_folder(tmp_path: Path) -> None:
    save(tmp_path / "checkpoints", 4)
    aside = tmp_path / "checkpoints-of-2-ranks"
    (tmp_path / "checkpoints").rename(aside)
    with pytest.raises(DataError, match=r"There is no checkpoint in .*, but one in .*-2-ranks/step-00000004\."):
        checkpoints_of(tmp_path / "checkpoints").resume(print)
    # The trials and branches in an artifact's folder are trainings of their own.
    (tmp_path / "trials").mkdir()
    aside.rename(tmp_path / "trials" / "checkpoints")
    assert checkpoints_of(tmp_path / "checkpoints").resume(print) == State()


def test_every_nth_and_the_best_are_kept_beside_the_newest(tmp_path: Path) -> None:
    checkpoints = checkpoints_of(tmp_path, keep=1, keep_every=8)
    for step, best in [(4, 4), (8, 4), (12, 12), (16, 12), (20, 12), (24, 12), (28, 12)]:
        checkpoints.save(State(step=step, best_step=best))
        checkpoints.commit()
    assert names(tmp_path) == [f"step-{step:08d}" for step in (8, 12, 16, 24, 28)]
