"""A run that imports its weights: the stages before training, and what is refused when folder and config disagree."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt.model import GPTShape
from pipeline.config.schema import Config
from pipeline.errors import ConfigError, DataError
from pipeline.graph.fingerprints import fingerprints
from pipeline.graph.plan import plan
from pipeline.graph.runner import Selection, run_nodes
from pipeline.graph.stage_counts import ImportedCounts, TokenizerCounts
from pipeline.graph.stages import nodes_of, stages_of
from pipeline.graph.store import Store
from pipeline.huggingface.import_stages import cropped, refuse_another_shape
from pipeline.inputs.outside import look_outside
from pipeline.saved_models.saved_model import open_model
from pipeline.tokens.shard import read_info

MODEL = {"layers": 2, "width": 32, "heads": 4, "context": 16, "position": "learned", "norm": "layernorm"}
MODEL |= {"activation": "gelu", "qk_norm": False, "bias": True}


@pytest.fixture
def config(gpt2: Path, text_file: Path) -> Config:
    return configured(gpt2, text_file)


def configured(folder: Path, text_file: Path, model: dict[str, Any] = MODEL, **pretrained: str) -> Config:
    return Config.model_validate(
        {
            "name": "imported",
            "target": {"path": str(text_file)},
            "pretrained": {"path": str(folder), **pretrained},
            "model": model,
            "launch": {"workers": 1},
        }
    )


def prepared(config: Config, root: Path) -> dict[str, Any]:
    return dict(run_nodes(config, Store(root), Selection(last="pretrain")))


def test_imported_weights_take_the_place_of_corpus_and_pretraining(config: Config, gpt2: Path, tmp_path: Path) -> None:
    names = [stage.name for stage in stages_of(config)]
    assert names == ["target", "tokenizer", "shards", "pretrain", "scratch", "finetune", "report"]
    artifacts = prepared(config, tmp_path)
    assert list(artifacts) == ["target", "tokenizer", "shards", "pretrain"]
    counts = artifacts["pretrain"].counts_as(ImportedCounts)
    weights = hashlib.sha256((gpt2 / "model.safetensors").read_bytes()).hexdigest()
    assert counts.imported_files["model.safetensors"] == weights
    assert counts.largest_logit_difference < 1e-4
    assert set(artifacts["tokenizer"].counts_as(TokenizerCounts).imported_files or {}) == {"vocab.json", "merges.txt"}
    shard = artifacts["shards"].folder / "target" / "train.arrow"
    assert (read_info(shard).vocab_size, read_info(shard).end_of_text) == (300, 299)


def test_imported_artifact_computes_what_the_folder_does(config: Config, gpt2: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model, tokenizer = open_model(prepared(config, tmp_path)["pretrain"].folder)
    assert (model.shape, tokenizer.end_of_text) == (config.model.shape(300), 299)
    other = transformers.GPT2LMHeadModel.from_pretrained(gpt2).eval()
    tokens = torch.arange(16)[None]
    with torch.inference_mode():
        assert (other(tokens).logits - model(tokens)).abs().max() < 1e-4


def test_a_rival_with_its_own_tokenizer_trains_it(gpt2: Path, text_file: Path) -> None:
    config = configured(gpt2, text_file)
    rivals = {"characters": {"tokenizer.kind": "char"}}
    found = nodes_of(config.model_copy(update={"report": config.report.model_copy(update={"rivals": rivals})}))
    stages = {node.name: node.stage.function for node in found}
    assert stages["tokenizer"] == "pipeline.huggingface.import_stages:take_tokenizer"
    assert stages["characters.tokenizer"] == "pipeline.tokens.tokenizer_stage:make_tokenizer"


def test_a_plan_knows_the_import(config: Config, tmp_path: Path) -> None:
    made = plan(config, Store(tmp_path))
    (stage,) = (stage for stage in made.stages if stage.stage == "pretrain")
    assert stage.disk_bytes == 4 * made.parameters


def test_corpus_and_pretrained_weights_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="either a corpus to pretrain on or pretrained weights, not both"):
        Config.model_validate({"name": "x", "pretrained": {"path": "p"}, "corpus": {"sources": [{"path": "c"}]}})


def test_a_config_without_import_keeps_its_fingerprints_when_the_key_is_left_out() -> None:
    assert fingerprints(Config(name="x")) == fingerprints(Config(name="x", pretrained=None))


def test_another_model_than_the_imported_one_is_refused_with_the_lines_to_write(
    gpt2: Path, text_file: Path, tmp_path: Path
) -> None:
    config = configured(gpt2, text_file, {"layers": 3, "width": 32, "heads": 4, "context": 16})
    with pytest.raises(ConfigError) as refused:
        prepared(config, tmp_path)
    assert "layers 3, position rope, norm rmsnorm, activation relu2" in str(refused.value)
    lines = (
        "layers: 2, width: 32, heads: 4, context: 16, hidden: 128, position: learned, norm: layernorm, activation: gelu"
    )
    assert f"Use model: {{{lines}, qk_norm: false, bias: true, tie_embeddings: true}}" in str(refused.value)


def test_a_longer_context_than_the_imported_one_is_refused() -> None:
    shape = GPTShape(vocab_size=9, layers=1, width=8, heads=2, context=16)
    with pytest.raises(ConfigError, match="context 32; the imported weights do not"):
        refuse_another_shape(shape, GPTShape(vocab_size=9, layers=1, width=8, heads=2, context=32, dropout=0.1))


def test_a_cropped_model_computes_the_same_on_shorter_texts(drawn: Any) -> None:
    model = drawn(GPTShape(vocab_size=9, layers=1, width=8, heads=2, context=16))
    tokens = torch.arange(6)[None]
    assert torch.equal(cropped(model, 6)(tokens), model(tokens))
    assert cropped(model, 6).shape.context == 6
    assert cropped(model, 16) is model


@pytest.fixture
def other_merges(gpt2: Path, tmp_path: Path) -> Callable[[], None]:
    """Changes the tokenizer of tmp_path/gpt2, which is a copy of the folder."""
    merges = Path(shutil.copytree(gpt2, tmp_path / "gpt2")) / "merges.txt"

    def change() -> None:
        first, *others = merges.read_text().splitlines(keepends=True)
        merges.write_text("".join([first, *reversed(others)]))

    return change


def test_a_folder_that_changes_between_its_two_stages_is_refused(
    other_merges: Callable[[], None], text_file: Path, tmp_path: Path
) -> None:
    config, store = configured(tmp_path / "gpt2", text_file), Store(tmp_path / "store")
    seen = look_outside(config)
    run_nodes(config, store, Selection(last="shards"), outside=seen)
    other_merges()
    with pytest.raises(DataError, match=r"merges\.txt changed while it was read"):
        run_nodes(config, store, Selection(last="pretrain"), outside=seen)


def test_a_folder_that_changed_is_imported_anew(
    other_merges: Callable[[], None], text_file: Path, tmp_path: Path
) -> None:
    config, store = configured(tmp_path / "gpt2", text_file), Store(tmp_path / "store")
    before = run_nodes(config, store, Selection(last="tokenizer"))
    other_merges()
    after = run_nodes(config, store, Selection(last="tokenizer"))
    assert after["target"] == before["target"]
    assert after["tokenizer"].folder != before["tokenizer"].folder


def test_another_file_than_the_config_names_is_refused(gpt2: Path, text_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape("the config asks for 1234")):
        prepared(configured(gpt2, text_file, sha256="1234"), tmp_path)
