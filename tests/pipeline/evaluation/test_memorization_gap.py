from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.evaluation.memorization_gap import memorization_gap
from pipeline.saved_models.weights import load_model
from pipeline.tokens.batches import Batches, Mixture
from pipeline.tokens.shard import TokenStream
from pipeline.tokens.tokenizer import load_tokenizer


def measured(chain: Any) -> Any:
    sha256 = load_tokenizer(chain.artifacts["tokenizer"].folder).sha256
    pretrain, shards = chain.artifacts["pretrain"], chain.artifacts["shards"]
    return memorization_gap(pretrain, shards, sha256, torch.device("cpu"), resamples=200)


@torch.no_grad()
def test_train_loss_is_that_of_the_first_batches_of_the_data_order(chain: Any) -> None:
    folder = chain.artifacts["pretrain"].folder
    model = load_model(folder / "model.safetensors", folder / "model.json")
    stream = TokenStream.open([chain.artifacts["shards"].folder / "corpus" / "train-00000.arrow"])
    batches = Batches(Mixture([(stream, 1.0)], 16), batch_samples=4, seed=0)
    seen = [batch for step in range(4) for batch in batches.of_step(step, rank=0, world_size=1, micro_batch=4)]
    sums = [model(torch.from_numpy(inputs), torch.from_numpy(targets)) for inputs, targets in seen]
    expected = sum(float(loss.nats) for loss in sums) / sum(float(loss.count) for loss in sums)
    assert measured(chain).train.loss.mean == pytest.approx(expected, rel=1e-5)


def test_fewer_than_two_windows_measure_no_gap(chain: Any) -> None:
    chain.reconfigured("pretrain", evaluate_tokens=31)  # of a context of 16
    assert measured(chain) is None
    chain.reconfigured("pretrain", evaluate_tokens=32)
    assert measured(chain).num_windows == 2


def test_less_than_two_unseen_windows_leave_the_trained_side(chain: Any) -> None:
    both = measured(chain)
    empty = {"documents": 0, "tokens": 0, "bytes": 0}
    chain.recounted("shards", corpus_validation=empty)
    alone = measured(chain)
    assert (alone.validation, alone.gap, alone.num_windows) == (None, None, both.num_windows)
    assert alone.train == both.train


def test_documents_on_both_sides_are_counted(chain: Any) -> None:
    gap = measured(chain)
    assert 1 < gap.train.num_documents <= 5
    assert 1 < gap.validation.num_documents <= 4
    assert gap.gap.mean == pytest.approx(gap.validation.loss.mean - gap.train.loss.mean)
    assert gap.gap.low < gap.gap.mean < gap.gap.high
