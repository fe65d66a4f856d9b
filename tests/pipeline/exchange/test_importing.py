"""GPT-2 as `transformers` saves it becomes a GPT with the same logits, and what is no GPT-2 is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpt.model import GPT, GPTShape
from pipeline.errors import ConfigError, DataError, FolioError
from pipeline.exchange.export import export
from pipeline.exchange.importing import import_folder, read_model
from pipeline.results.samples import continued, open_model
from pipeline.tokens.tokenizer import END_OF_TEXT, load_tokenizer
from pipeline.tokens.training import byte_pairs

transformers = pytest.importorskip("transformers")
SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 24}


@pytest.fixture(scope="module")
def gpt2(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 of random weights and its tokenizer in the old form, end-of-text last, as GPT-2 has it."""
    folder = tmp_path_factory.mktemp("gpt2")
    trained = json.loads(byte_pairs([text], 300))["model"]
    tokens = sorted((token for token in trained["vocab"] if token != END_OF_TEXT), key=trained["vocab"].get)
    vocabulary = {token: number for number, token in enumerate([*tokens, END_OF_TEXT])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in trained["merges"]))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    torch.manual_seed(5)
    config = transformers.GPT2Config(vocab_size=300, bos_token_id=299, eos_token_id=299, **SIZES)
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder


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
    monkeypatch.setitem(__import__("pipeline.exchange.gpt2").exchange.gpt2.READABLE, "gelu_new", "relu")
    with pytest.raises(FolioError, match="does not compute what it should: logits"):
        import_folder(copied, tmp_path / "out", text_file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpt2"]
