from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from gpt.model import GPT, GPTShape
from pipeline.errors import DataError
from pipeline.saved_models.model_files import SHAPE as SHAPE_FILE
from pipeline.saved_models.model_files import WEIGHTS
from pipeline.saved_models.weights import load_model, load_weights, save_shape, save_weights

SHAPE = GPTShape(vocab_size=11, layers=1, width=8, heads=2, context=4, position="rope", tie_embeddings=True)


def saved(folder: Path, model: GPT, dtype: torch.dtype = torch.float32) -> Path:
    path = folder / WEIGHTS
    save_weights(path, {name: p.detach().to(dtype) for name, p in model.named_parameters()}, step="7")
    save_shape(folder, model.shape)
    return path


def test_loaded_model_computes_the_same_and_shares_tied_weights(tmp_path: Path) -> None:
    model = GPT(SHAPE).initialize(3).eval()
    loaded = load_model(saved(tmp_path, model), tmp_path / SHAPE_FILE)
    tokens = torch.arange(4)[None]
    assert torch.equal(loaded(tokens), model(tokens))
    assert loaded.shape == SHAPE
    assert not loaded.training
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_half_precision_weights_load_into_float32(tmp_path: Path) -> None:
    model = GPT(SHAPE).initialize(3)
    loaded = load_model(saved(tmp_path, model, torch.bfloat16), SHAPE)
    for here, there in zip(loaded.parameters(), model.parameters(), strict=True):
        assert here.dtype == torch.float32
        assert torch.equal(here, there.bfloat16().float())


def test_other_shape_is_refused_naming_the_tensor(tmp_path: Path) -> None:
    path = saved(tmp_path, GPT(SHAPE))
    wider = GPTShape(vocab_size=11, layers=1, width=16, heads=2, context=4, position="rope")
    with pytest.raises(DataError, match=r"holds \(11, 8\) for token_embedding\.weight, the model has \(11, 16\)\."):
        load_model(path, wider)
    deeper = GPTShape(vocab_size=11, layers=2, width=8, heads=2, context=4, position="rope")
    with pytest.raises(DataError, match=r"holds nothing for blocks\.1\."):
        load_model(path, deeper)


@pytest.mark.parametrize("damage", ["missing", "cut", "not safetensors"])
def test_damaged_file_is_a_data_error(tmp_path: Path, damage: str) -> None:
    path = saved(tmp_path, GPT(SHAPE))
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        path.write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(DataError, match=r"model.safetensors is not a readable weights file"):
        load_model(path, SHAPE)


def test_damaged_shape_is_a_data_error(tmp_path: Path) -> None:
    path = saved(tmp_path, GPT(SHAPE))
    (tmp_path / SHAPE_FILE).write_text('{"layers": 2}')
    with pytest.raises(DataError, match=r"model.json is not a model shape"):
        load_model(path, tmp_path / SHAPE_FILE)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_lost_numbers_are_named_with_file_weight_and_place(tmp_path: Path, value: float) -> None:
    model = GPT(SHAPE).initialize(1)
    with torch.no_grad():
        model.blocks[0].feed_forward.up.weight[2, 3:5] = value  # type: ignore[union-attr]
    path = saved(tmp_path, model)
    with pytest.raises(DataError, match=r": 2 elements of blocks\.0\.feed_forward\.up\.weight are NaN .* at \[2, 3\]"):
        load_weights(path, GPT(SHAPE))
