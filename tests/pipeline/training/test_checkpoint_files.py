"""How checkpoints come and go on the disk, cut short at every point."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.graph.manifest import file_entries
from pipeline.training import checkpoint_files
from pipeline.training.checkpoint_files import (
    RECEIPT,
    CheckpointReceipt,
    checkpoints_in,
    delete,
    link_checkpoint,
    publish,
    read_receipt,
    receipt_or_reason,
    remove_leftovers,
    settle,
    step_name,
)


def draft_in(folder: Path, step: int, content: str) -> tuple[Path, CheckpointReceipt]:
    draft = folder / f"{step_name(step)}.tmp"
    draft.mkdir(parents=True)
    (draft / "state.pt").write_text(content)
    files = file_entries(draft)
    receipt = CheckpointReceipt(
        step=step, tokens=0, nats_per_token=None, state={}, identity={}, ranks=1, zero=1, files=files
    )
    return draft, receipt


def checkpoint_in(folder: Path, step: int, content: str = "old") -> Path:
    draft, receipt = draft_in(folder, step, content)
    publish(draft, folder / step_name(step), receipt)
    return folder / step_name(step)


class Killed(BaseException):
    """Stands in for the end of the process."""


@pytest.mark.parametrize("moment", range(6))
def test_replacing_a_checkpoint_leaves_the_old_or_the_new_one_whenever_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    final = checkpoint_in(tmp_path, 4)
    draft, receipt = draft_in(tmp_path, 4, "new")
    calls = 0
    real = os.rename

    def count(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls > moment:
            raise Killed

    with monkeypatch.context() as patch, pytest.MonkeyPatch.context() as other:
        patch.setattr(Path, "rename", lambda self, target: (count(), real(self, target)))
        other.setattr(checkpoint_files, "sync", count)
        try:
            publish(draft, final, receipt)
            done = True
        except Killed:
            done = False
    settle(tmp_path)
    assert [path.name for path in checkpoints_in(tmp_path)] == ["step-00000004"]
    assert read_receipt(final).files == file_entries(final, ignored=(RECEIPT,))
    assert (final / "state.pt").read_text() == ("new" if done or moment >= 2 else "old")
    remove_leftovers(tmp_path)
    settle(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000004"}


def test_a_complete_draft_only_lacked_its_name(tmp_path: Path) -> None:
    draft, receipt = draft_in(tmp_path, 8, "new")
    checkpoint = checkpoint_in(tmp_path, 4)
    (draft / RECEIPT).write_text(receipt.sealed().model_dump_json())
    incomplete, _ = draft_in(tmp_path, 12, "newer")
    settle(tmp_path)
    assert [path.name for path in checkpoints_in(tmp_path)] == ["step-00000004", "step-00000008"]
    assert incomplete.exists() and checkpoint.exists()


def test_a_deletion_that_is_cut_short_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = checkpoint_in(tmp_path, 4)

    def killed(*arguments: object, **options: object) -> None:
        if not options:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint_files.shutil, "rmtree", killed)
        delete(checkpoint)
    settle(tmp_path)
    assert checkpoints_in(tmp_path) == []
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_trainings_share_a_checkpoint_and_each_may_delete_its_own(tmp_path: Path) -> None:
    original = checkpoint_in(tmp_path / "one", 4)
    link_checkpoint(original, tmp_path / "other")
    shared = tmp_path / "other" / original.name
    assert (shared / "state.pt").samefile(original / "state.pt")
    delete(original)
    assert receipt_or_reason(shared)[1] == "" and (shared / "state.pt").read_text() == "old"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: json.dumps({"format": 1, "step": 4}), "has format 1, this Folio reads 2"),
        (lambda text: "[]", "is damaged"),
        (lambda text: text.replace('"tokens":0', '"tokens":1'), "has another sha256"),
    ],
)
def test_a_receipt_that_cannot_be_used_says_why(tmp_path: Path, change: Callable[[str], str], reason: str) -> None:
    checkpoint = checkpoint_in(tmp_path, 4)
    compact = json.dumps(json.loads((checkpoint / RECEIPT).read_text()), separators=(",", ":"))
    (checkpoint / RECEIPT).write_text(change(compact))
    assert receipt_or_reason(checkpoint)[1] == f"checkpoint.json {reason}"


def test_a_checkpoint_may_have_any_name_outside_of_its_training(tmp_path: Path) -> None:
    copy = checkpoint_in(tmp_path, 4).rename(tmp_path / "the-one-before-the-outage")
    assert read_receipt(copy).step == 4
    assert checkpoints_in(tmp_path) == []


def test_receipt_that_points_outside_is_refused(tmp_path: Path) -> None:
    checkpoint = checkpoint_in(tmp_path, 4)
    receipt = read_receipt(checkpoint)
    outside = receipt.files[0].model_copy(update={"path": "../state.pt"})
    forged = receipt.model_copy(update={"files": (*receipt.files, outside)}).sealed()
    (checkpoint / RECEIPT).write_text(forged.model_dump_json())
    with pytest.raises(DataError, match=r"checkpoint.json names \.\./state.pt, which lies outside"):
        read_receipt(checkpoint)
