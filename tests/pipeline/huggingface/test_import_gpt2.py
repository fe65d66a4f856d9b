"""GPT-2 as `transformers` saves it becomes a GPT with the same logits, and what is no GPT-2 is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt.model import GPT, GPTShape
from pipeline.errors import ConfigError, DataError, FolioError
from pipeline.huggingface import gpt2 as gpt2_format
from pipeline.huggingface.export import export
from pipeline.huggingface.import_gpt2 import import_folder, read_model
from pipeline.saved_models.continue_text import continued
from pipeline.saved_models.saved_model import open_model
from pipeline.tokens.tokenizer import load_tokenizer
from pipeline.tokens.tokenizer_stage import byte_pairs

transformers = pytest.importorskip("transformers")


@pytest.fixture
def copied(gpt2: Path, tmp_path: Path) -> Path:
    """The same in a folder that a test may change."""
    return Path(shutil.copytree(gpt2, tmp_path / "gpt2"))


def reconfigured(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_import_gives_the_logits_that_transformers_gives(gpt2: Path, text_file: Path, tmp_path: Path) -> None:
    parity = import_folder(gpt2, tmp_path / "out", text_file)
    assert parity.holds
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "model.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    model, tokenizer = open_model(tmp_path / "out")
    other = transformers.GPT2LMHeadModel.from_pretrained(gpt2).eval()
    tokens = torch.randint(300, (3, 24), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert (other(tokens).logits - model(tokens)).abs().max() < 1e-4
    assert (tokenizer.end_of_text, model.shape.position, model.shape.activation) == (299, "learned", "gelu")
    assert continued(model, tokenizer, "FIRST", 30, seed=0, temperature=0).startswith("FIRST")


def test_export_of_an_import_is_the_identity(gpt2: Path, text_file: Path, tmp_path: Path) -> None:
    import_folder(gpt2, tmp_path / "in", text_file)
    export(tmp_path / "in", tmp_path / "out", text_file)
    first, again = (transformers.GPT2LMHeadModel.from_pretrained(folder) for folder in (gpt2, tmp_path / "out"))
    for (name, here), (_, there) in zip(first.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(here, there), name


def test_import_of_an_export_is_the_identity(
    text_file: Path, tmp_path: Path, drawn: Callable[[GPTShape], GPT], left: Callable[..., Path]
) -> None:
    model = drawn(GPTShape(vocab_size=300, layers=2, width=32, heads=4, context=24, hidden=40))
    export(left(tmp_path / "model", model), tmp_path / "out", text_file)
    import_folder(tmp_path / "out", tmp_path / "again", text_file)
    again, tokenizer = open_model(tmp_path / "again")
    assert again.shape == model.shape
    assert tokenizer.encode("We'll").tolist() == load_tokenizer(tmp_path / "model").encode("We'll").tolist()
    for (name, here), (_, there) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(here, there), name


def test_weights_in_pieces_and_without_prefix_are_the_same_model(gpt2: Path, tmp_path: Path) -> None:
    bare = transformers.GPT2LMHeadModel.from_pretrained(gpt2).transformer
    bare.save_pretrained(tmp_path, max_shard_size="30KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    whole, pieces = read_model(gpt2), read_model(tmp_path)
    assert set(whole.files) == {"config.json", "model.safetensors"}
    assert len(pieces.files) > 2
    for here, there in zip(whole.model.parameters(), pieces.model.parameters(), strict=True):
        assert torch.equal(here, there)


def test_the_constant_masks_in_old_files_are_left_out(copied: Path, gpt2: Path) -> None:
    path = copied / "model.safetensors"
    masks = {"transformer.h.0.attn.bias": torch.ones(24, 24), "transformer.h.1.attn.masked_bias": torch.tensor(-1e4)}
    save_file(load_file(path) | masks, path, metadata={"format": "pt"})
    for here, there in zip(read_model(copied).model.parameters(), read_model(gpt2).model.parameters(), strict=True):
        assert torch.equal(here, there)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "llama"}, "is a llama model"),
        ({"activation_function": "gelu"}, "activation_function gelu"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon 1e-06"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
        ({"n_head": 5}, "width 32 cannot be divided into heads 5"),
        ({"n_layer": 3}, r"holds nothing for transformer\.h\.2\.ln_1\.weight"),
        ({"n_layer": 1}, r"holds .* for transformer\.h\.1\..*, its config.json asks for nothing"),
    ],
)
def test_what_a_gpt_does_not_compute_is_refused(changes: dict[str, object], reason: str, copied: Path) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_model(reconfigured(copied, **changes))


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "merges.txt"])
def test_a_missing_file_is_named(missing: str, copied: Path, text_file: Path, tmp_path: Path) -> None:
    (copied / missing).unlink()
    with pytest.raises(DataError, match=missing):
        import_folder(copied, tmp_path / "out", text_file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpt2"]


def test_a_folder_that_transformers_cannot_load_is_refused(copied: Path, text_file: Path, tmp_path: Path) -> None:
    (copied / "tokenizer_config.json").write_text('{"tokenizer_class": "NoSuchTokenizer"}')
    with pytest.raises(DataError, match="transformers cannot load"):
        import_folder(copied, tmp_path / "out", text_file)


def test_a_folder_without_tokenizer_config_is_read(copied: Path, text_file: Path, tmp_path: Path) -> None:
    (copied / "tokenizer_config.json").unlink()
    assert import_folder(copied, tmp_path / "out", text_file).holds


def test_another_kind_of_tokenizer_is_refused(copied: Path, text_file: Path, tmp_path: Path, text: str) -> None:
    content = json.loads(byte_pairs([text], 300))
    (copied / "tokenizer.json").write_text(json.dumps(content | {"normalizer": {"type": "Lowercase"}}))
    with pytest.raises(ConfigError, match="is not GPT-2's byte-level BPE"):
        import_folder(copied, tmp_path / "out", text_file)
    (copied / "tokenizer.json").write_text(byte_pairs([text], 280))
    with pytest.raises(ConfigError, match="a model of 300 tokens and a tokenizer of 280"):
        import_folder(copied, tmp_path / "out", text_file)


def test_an_import_that_differs_is_not_written(
    copied: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gpt2_format.READ_ACTIVATIONS, "gelu_new", "relu")
    with pytest.raises(FolioError, match="does not compute what it should: logits"):
        import_folder(copied, tmp_path / "out", text_file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpt2"]
