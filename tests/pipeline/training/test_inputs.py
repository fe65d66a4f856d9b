from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpt.model import GPT
from pipeline.config.schema import LaunchSection
from pipeline.config.training_sections import FinetuneSection, PretrainSection
from pipeline.distributed.job import Job
from pipeline.errors import DataError
from pipeline.saved_models.model_files import WEIGHTS
from pipeline.saved_models.weights import save_weights
from pipeline.tokens.shard import Rows, ShardInfo, write_shard
from pipeline.tokens.tokenizer import load_tokenizer
from pipeline.training.inputs import TrainingInputs

MODEL = {"layers": 1, "width": 8, "heads": 2, "context": 4, "dropout": 0.1}


def job_in(folder: Path, **changes: Any) -> Job:
    """A pretrain job over two sources of 40 tokens each and a target of 20."""
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(parents=True)
    (tokenizer / "tokenizer.json").write_text(json.dumps({"kind": "char", "characters": "abc"}))
    sha256 = load_tokenizer(tokenizer).sha256
    for name, source, length in (("corpus/train-0", "a", 40), ("corpus/train-1", "b", 40), ("target/train", "t", 20)):
        path = folder / "shards" / f"{name}.arrow"
        path.parent.mkdir(parents=True, exist_ok=True)
        tokens = np.ones(length, np.uint8)
        info = ShardInfo(name, source, sha256, vocab_size=5, end_of_text=0)
        write_shard(path, [Rows(tokens, np.array([0, length]), ["all"])], info)
    config = {"pretrain": PretrainSection(**changes).model_dump(mode="json"), "model": MODEL, "deepspeed": {}}
    inputs = {"tokenizer": str(tokenizer), "shards": str(folder / "shards"), "pretrain": str(folder / "pretrain")}
    fingerprints = {"shards": "5" * 64}
    return Job("pretrain", config | {"weights": {"b": 2.0}}, inputs, fingerprints, str(folder), LaunchSection())


def test_model_has_the_tokenizers_vocabulary_and_the_dropout_that_is_asked_for(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    end_of_text = load_tokenizer(tmp_path / "tokenizer").end_of_text
    assert TrainingInputs.of(job).shape == job.model.shape(vocab_size=5, end_of_text=end_of_text)
    assert TrainingInputs.of(job).shape.dropout == 0.1
    assert TrainingInputs.of(job, dropout=0.0).shape.dropout == 0.0


def test_sources_are_repeated_by_their_weight_and_once_without_one(tmp_path: Path) -> None:
    inputs = TrainingInputs.of(job_in(tmp_path))
    # (40 - 1) // 4 = 9 windows in each source; b is seen twice.
    assert inputs.corpus().num_samples == 9 + 2 * 9
    assert inputs.target("train").num_samples == (20 - 1) // 4


def test_missing_shards_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shards has no target/selection\.arrow\. Run stage shards again"):
        TrainingInputs.of(job_in(tmp_path)).stream("target/selection.arrow")


def test_identity_covers_what_decides_the_training_and_not_how_often_it_saves(tmp_path: Path) -> None:
    inputs = TrainingInputs.of(job_in(tmp_path, save_every=1))
    identity = inputs.identity(seed=3)
    seldom = TrainingInputs.of(job_in(tmp_path / "again", save_every=7))
    assert seldom.identity(seed=3) == identity
    expected = {"pretrain.dtype": "fp32", "model.width": 8, "deepspeed": "{}", "shards": "5" * 64, "seed": 3}
    assert expected.items() <= identity.items()
    assert not [name for name in identity if "save_every" in name or "world_size" in name]


def test_first_model_is_drawn_from_the_seed(tmp_path: Path) -> None:
    inputs = TrainingInputs.of(job_in(tmp_path))
    assert weights_of(inputs.first_model(1)).equal(weights_of(GPT(inputs.shape).initialize(1)))
    assert not weights_of(inputs.first_model(1)).equal(weights_of(inputs.first_model(2)))


def test_finetuning_starts_where_pretraining_or_its_branch_ended_whatever_the_seed(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    section = FinetuneSection(learning_rates=(0.1,)).model_dump(mode="json")
    inputs = TrainingInputs.of(replace(job, stage="finetune", config_slice=job.config_slice | {"finetune": section}))
    pretrained, branch = (GPT(inputs.shape).initialize(seed) for seed in (7, 8))
    (tmp_path / "pretrain").mkdir()
    save_weights(tmp_path / "pretrain" / WEIGHTS, dict(pretrained.named_parameters()))
    save_weights(tmp_path / "branch", dict(branch.named_parameters()))
    for seed in (1, 2):
        assert weights_of(inputs.first_model(seed)).equal(weights_of(pretrained))
        assert weights_of(inputs.first_model(seed, tmp_path / "branch")).equal(weights_of(branch))


def weights_of(model: GPT) -> torch.Tensor:
    return torch.cat([parameter.detach().ravel() for parameter in model.parameters()])
