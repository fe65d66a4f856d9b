"""Training needs no compiler on a node, so it cannot wait for one either."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.distributed.job import Job
from pipeline.distributed.launch_local import run_local_ranks


def test_training_compiles_nothing(job_in: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extensions = tmp_path / "extensions"
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(extensions))
    monkeypatch.setenv("PATH", str(tmp_path))  # neither g++ nor ninja
    assert run_local_ranks(job_in(tmp_path / "run", "pretrain"), 1)["world_size"] == 1
    assert not extensions.exists()
