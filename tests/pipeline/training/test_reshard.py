"""Conversions without DeepSpeed. With it, and going on from the result: tests/distributed/test_equal_training.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.graph.manifest import damaged_files, file_entries
from pipeline.training import reshard
from pipeline.training.checkpoints import CheckpointReceipt, publish, read_receipt
from pipeline.training.reshard import convert
from pipeline.training.state import State


def checkpoint_in(folder: Path, *, zero: int, universal: bool = False) -> Path:
    """A checkpoint of two ranks with one file."""
    draft, final = folder / "draft", folder / "checkpoints" / "step-00000004"
    draft.mkdir()
    final.parent.mkdir()
    (draft / "model_states.pt").write_bytes(b"weights")
    receipt = CheckpointReceipt(
        step=4,
        tokens=64,
        nats_per_token=1.0,
        state=State(step=4, tokens=64).to_json(),
        identity={"world_size": 2, "scratch.zero": zero, "seed": 1},
        files=tuple(file_entries(draft)),
        universal=universal,
    )
    publish(draft, final, receipt)
    return final


@pytest.mark.parametrize(("zero", "universal"), [(0, False), (2, True)])
def test_a_state_that_is_whole_already_is_copied_for_another_number_of_ranks(
    tmp_path: Path, zero: int, universal: bool
) -> None:
    folder = checkpoint_in(tmp_path, zero=zero, universal=universal)
    before = read_receipt(folder)
    aside = convert(folder, 4)
    after = read_receipt(folder)
    assert after.identity == {"world_size": 4, "scratch.zero": zero, "seed": 1}
    assert (after.state, after.files, after.universal) == (before.state, before.files, universal)
    assert damaged_files(folder, after.files) == []
    assert aside == tmp_path / "checkpoints-of-2-ranks" / "step-00000004"
    assert read_receipt(aside) == before
    assert [path.name for path in folder.parent.iterdir()] == ["step-00000004"], "no draft is left"


def test_a_state_in_shares_is_joined_by_deepspeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def join(folder: Path, draft: Path) -> None:
        draft.mkdir()
        (draft / "joined.pt").write_bytes((folder / "model_states.pt").read_bytes() * 2)

    monkeypatch.setattr(reshard, "_run_deepspeed", join)
    folder = checkpoint_in(tmp_path, zero=1)
    convert(folder, 1)
    receipt = read_receipt(folder)
    assert receipt.universal
    assert [entry.path for entry in receipt.files] == ["joined.pt"]


def test_a_damaged_checkpoint_is_refused_before_anything_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("DeepSpeed unpickles what it reads")

    monkeypatch.setattr(reshard, "_run_deepspeed", refuse)
    folder = checkpoint_in(tmp_path, zero=1)
    (folder / "model_states.pt").write_bytes(b"Weights")
    with pytest.raises(DataError, match=r"model_states\.pt has another sha256.* Convert another checkpoint"):
        convert(folder, 1)


def test_no_ranks_at_all_are_refused(tmp_path: Path) -> None:
    folder = checkpoint_in(tmp_path, zero=0)
    with pytest.raises(ConfigError, match="0 ranks cannot train"):
        convert(folder, 0)
    assert read_receipt(folder).identity["world_size"] == 2


def test_deepspeed_imports_nothing_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "SHADOWED"
    for name in ("deepspeed", "torch", "random", "pickle"):
        (tmp_path / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write(__name__)")
    (tmp_path / "checkpoint").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    # It is no checkpoint; what is refused is that, and not a module of the folder.
    with pytest.raises(DataError, match="DeepSpeed could not convert checkpoint"):
        reshard._run_deepspeed(Path("checkpoint"), Path("draft"))
    assert not mark.exists(), mark.read_text()
