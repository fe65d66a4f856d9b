from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.results.gap import pretraining_gap
from pipeline.tokens.batches import Batches, Mixture
from pipeline.tokens.shard import TokenStream
from pipeline.tokens.tokenizer import load_tokenizer
from pipeline.training.weights import load_model


def measured(chain: Any) -> dict[str, Any]:
    sha256 = load_tokenizer(chain.artifacts["tokenizer"].folder).sha256
    pretrain, shards = chain.artifacts["pretrain"], chain.artifacts["shards"]
    return pretraining_gap(pretrain, shards, sha256, torch.device("cpu"), resamples=200)


@torch.no_grad()
def test_train_loss_is_that_of_the_first_batches_of_the_data_order(chain: Any) -> None:
    folder = chain.artifacts["pretrain"].folder
    model = load_model(folder / "model.safetensors", folder / "model.json")
    stream = TokenStream.open([chain.artifacts["shards"].folder / "corpus" / "train-00000.arrow"])
    batches = Batches(Mixture([(stream, 1.0)], 16), batch_samples=4, seed=0)
    seen = [batch for step in range(4) for batch in batches.of_step(step, rank=0, world_size=1, micro_batch=4)]
    sums = [model(torch.from_numpy(inputs), torch.from_numpy(targets)) for inputs, targets in seen]
    expected = sum(float(one.nats) for one in sums) / sum(float(one.count) for one in sums)
    assert measured(chain)["train_nats_per_token"] == pytest.approx(expected, rel=1e-5)


def test_a_source_without_weight_counts_once(chain: Any) -> None:
    before = measured(chain)
    config = chain.artifacts["pretrain"].manifest.config | {"weights": {}}
    manifest = chain.artifacts["pretrain"].manifest.model_copy(update={"config": config})
    chain.artifacts["pretrain"] = type(chain.artifacts["pretrain"])(
        "pretrain", chain.artifacts["pretrain"].folder, manifest
    )
    assert measured(chain) == before


def test_documents_on_both_sides_are_counted(chain: Any) -> None:
    found = measured(chain)
    assert 1 < found["train_documents"] <= 5
    assert 1 < found["validation_documents"] <= 4
    assert np.isfinite(found["gap_ci95"]).all()
