from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.schema import Config
from pipeline.errors import DataError
from pipeline.experiments.ablation.training_jobs import TrainingJob, train_all, with_section, with_share
from pipeline.graph.store import Store
from pipeline.runtime.progress import Progress


def test_a_share_of_the_tokens_is_whole_batches() -> None:
    config = Config(name="x")
    pretrain = with_share(config, "pretrain", 0.9).pretrain
    assert pretrain.tokens == round(30_000_000 // 8192 * 0.9) * 8192
    assert with_share(config, "scratch", 0.9).scratch.max_steps == 540


def test_a_replaced_value_leaves_the_rest_of_the_config_as_it_is() -> None:
    config = Config(name="x")
    changed = with_section(config, "scratch", max_steps=7)
    assert changed.scratch == config.scratch.model_copy(update={"max_steps": 7})
    assert changed.model_copy(update={"scratch": config.scratch}) == config


@pytest.mark.slow
def test_the_error_of_a_training_is_raised_as_itself(tmp_path: Path) -> None:
    """Through the pipe of the process that led it; here its inputs are missing."""
    jobs = [TrainingJob("x", Config(name="x"))]
    with pytest.raises(DataError, match="Stage scratch needs tokenizer, shards"):
        train_all(jobs, "scratch", Store(tmp_path), 1, Progress("test"))
