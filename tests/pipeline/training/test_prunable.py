"""What can go, and what must not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.graph.lock import exclusive
from pipeline.training.prunable import prunable


def artifact(
    store: Path, name: str, *, finished: str = "", run: str = "demo", reads: dict[str, str] | None = None
) -> Path:
    """An artifact of so many bytes as its name has letters; its fingerprint is its name."""
    folder, stage = store / name, name.split("-", maxsplit=1)[0]
    folder.mkdir(parents=True)
    (folder / "weights").write_text(name)
    if stage in ("pretrain", "scratch", "finetune"):
        (folder / "job.json").write_text("{}")
    if finished:
        fields = {
            "format": 1, "stage": stage, "run": run, "fingerprint": name, "config": {}, "inputs": reads or {},
            "files": [], "counts": {}, "seconds": 1.0, "rank_seconds": 1.0, "peak_memory_bytes": 1,
            "finished": finished, "versions": {}, "git_commit": "",
        }  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(fields))
    return folder


def names(path: Path) -> dict[str, str]:
    return {str(one.folder.relative_to(path)): one.reason for one in prunable(path)}


def test_trainings_that_newer_reports_do_not_read_can_go(tmp_path: Path) -> None:
    artifact(tmp_path, "pretrain-old", finished="2026-01-01")
    artifact(tmp_path, "pretrain-shared", finished="2026-01-01")  # another run reads it
    artifact(tmp_path, "pretrain-new", finished="2026-01-02")
    artifact(tmp_path, "pretrain-unfinished")
    artifact(tmp_path, "scratch-next", finished="2026-01-05")  # of a report that is still to come
    artifact(tmp_path, "finetune-alone", finished="2026-01-01", run="no report yet")
    artifact(tmp_path, "report-old", finished="2026-01-02", reads={"pretrain": "pretrain-old"})
    artifact(tmp_path, "report-new", finished="2026-01-03", reads={"leak.pretrain": "pretrain-new"})
    artifact(tmp_path, "report-other", finished="2026-01-01", run="other", reads={"pretrain": "pretrain-shared"})
    assert names(tmp_path) == {"pretrain-old": "the newest report of demo is of another pretrain"}
    [old] = prunable(tmp_path)
    assert old.bytes == len("pretrain-old") + len("{}") + (old.folder / "manifest.json").stat().st_size
    with exclusive(old.folder):
        assert prunable(tmp_path) == [], "somebody works on it"


def test_halves_of_checkpoints_and_old_conversions_can_go_and_the_last_of_anything_stays(tmp_path: Path) -> None:
    training = artifact(tmp_path / "store", "pretrain-a")
    checkpoints = training / "checkpoints"
    folders = ["step-00000004", "step-00000008.tmp", "step-00000012.tmp", "step-00000002.deleted",
               "step-00000004.replaced", "step-00000006.replaced"]  # fmt: skip
    for name in folders:
        (checkpoints / name).mkdir(parents=True)
    (checkpoints / "step-00000012.tmp" / "checkpoint.json").touch()  # complete: it only lacks its name
    (training / "checkpoints-of-2-ranks" / "step-00000004").mkdir(parents=True)
    (training / "trials" / "one" / "checkpoints-of-2-ranks" / "step-00000004").mkdir(parents=True)  # the only one there
    expected = {
        "checkpoints/step-00000002.deleted": "left by a save that was killed",
        "checkpoints/step-00000004.replaced": "replaced by the one beside it",
        "checkpoints/step-00000008.tmp": "left by a save that was killed",
        "checkpoints-of-2-ranks": "the original of an old conversion",
    }
    assert names(training) == expected
    assert names(tmp_path / "store") == {f"pretrain-a/{name}": reason for name, reason in expected.items()}
    for one in prunable(training):
        one.remove()
    assert prunable(training) == []


def test_a_folder_without_trainings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no trainings"):
        prunable(tmp_path)
