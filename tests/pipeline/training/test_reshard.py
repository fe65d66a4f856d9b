"""What a conversion refuses. With ranks, and going on from the result: tests/distributed/test_equal_training.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.graph.lock import exclusive
from pipeline.graph.manifest import file_entries
from pipeline.training.checkpoint_files import CheckpointReceipt, publish, read_receipt
from pipeline.training.reshard import convert


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of two ranks with one file, in the folder of a training."""
    draft, final = tmp_path / "draft", tmp_path / "training" / "checkpoints" / "step-00000004"
    draft.mkdir()
    final.parent.mkdir(parents=True)
    (draft / "model_states.pt").write_bytes(b"weights")
    receipt = CheckpointReceipt(
        step=4, tokens=64, nats_per_token=1.0, state={}, identity={}, ranks=2, zero=1, files=tuple(file_entries(draft))
    )
    publish(draft, final, receipt)
    (tmp_path / "training" / "job.json").write_text("{}")
    return final


def test_a_damaged_checkpoint_is_refused_before_any_rank_starts(checkpoint: Path) -> None:
    (checkpoint / "model_states.pt").write_bytes(b"Weights")
    with pytest.raises(DataError, match=r"model_states\.pt has another sha256.* Convert another checkpoint"):
        convert(checkpoint, 1)


def test_no_ranks_at_all_are_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="0 ranks cannot train"):
        convert(checkpoint, 0)
    assert read_receipt(checkpoint).ranks == 2


def test_while_the_training_runs_its_holder_is_named(checkpoint: Path) -> None:
    artifact = checkpoint.parent.parent
    with exclusive(artifact), pytest.raises(EnvironmentFault, match=r"is being written by process \d+ on "):
        convert(checkpoint, 1)


def test_a_checkpoint_without_its_training_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    alone = checkpoint.rename(tmp_path / "step-00000004")
    with pytest.raises(DataError, match=r"lies in no training's folder: no job\.json above it"):
        convert(alone, 1)
