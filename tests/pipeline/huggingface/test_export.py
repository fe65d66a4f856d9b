"""An exported folder is a model that `transformers` runs, equal to the one it came from, or it is not there at all."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpt.model import GPT, GPTShape
from pipeline.errors import ConfigError, DataError, EnvironmentFault, FolioError
from pipeline.huggingface import export as exporting
from pipeline.huggingface import parity
from pipeline.huggingface.export import export
from pipeline.tokens.tokenizer import load_tokenizer

transformers = pytest.importorskip("transformers")
Draw = Callable[[GPTShape], GPT]
Leave = Callable[..., Path]

SIZES = {"layers": 2, "width": 32, "heads": 4, "context": 24}
CLASSIC = {
    "gpt2": GPTShape(vocab_size=300, **SIZES),
    "gpt2 relu untied": GPTShape(vocab_size=300, **SIZES, activation="relu", bias=False, tie_embeddings=False),
    "gpt2 relu2": GPTShape(
        vocab_size=300, **SIZES, activation="relu2", qkv_bias=False, zero_init=True, hidden=40, dropout=0.1
    ),
}
MODERN_OPTIONS = {"position": "rope", "norm": "rmsnorm", "bias": False}
MODERN = {
    "llama": GPTShape(vocab_size=300, **SIZES, **MODERN_OPTIONS, activation="swiglu", kv_heads=2),
    "llama biased": GPTShape(
        vocab_size=300, **SIZES, **(MODERN_OPTIONS | {"bias": True}), activation="swiglu", qkv_bias=False
    ),
    "qwen3": GPTShape(vocab_size=300, **SIZES, **MODERN_OPTIONS, activation="swiglu", qk_norm=True, kv_heads=1),
    "qwen3 relu2 untied": GPTShape(
        vocab_size=300, **SIZES, **MODERN_OPTIONS, activation="relu2", qk_norm=True, qkv_bias=True, tie_embeddings=False
    ),
}
SHAPES = CLASSIC | MODERN
LECTURE_OPTIONS = {"activation": "relu", "qkv_bias": False, "tie_embeddings": False}
EXPECTED = dict.fromkeys(CLASSIC, "GPT2LMHeadModel") | {
    name: "LlamaForCausalLM" if name.startswith("llama") else "Qwen3ForCausalLM" for name in MODERN
}


def lecture(text: str) -> GPTShape:
    """The lecture's model, small, with one token per character of the text."""
    sizes = SIZES | {"width": 64}
    return GPTShape(vocab_size=len(set(text)) + 2, **sizes, **LECTURE_OPTIONS)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SHAPES)
def test_export_gives_the_same_logits_text_and_loss(
    name: str, tmp_path: Path, text: str, text_file: Path, drawn: Draw, left: Leave
) -> None:
    model = drawn(SHAPES[name])
    done = export(left(tmp_path / "model", model), tmp_path / "out", text_file)
    assert done.architecture == EXPECTED[name]
    assert done.parity.holds
    assert done.parity.tokens == len(load_tokenizer(tmp_path / "model").encode(text))
    other = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert type(other).__name__ == EXPECTED[name]
    tokens = torch.randint(300, (3, 24), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert (other(tokens).logits - model(tokens)).abs().max() < 1e-4


def test_export_holds_what_a_reader_needs_and_nothing_else(
    tmp_path: Path, text_file: Path, drawn: Draw, left: Leave
) -> None:
    export(left(tmp_path / "model", drawn(SHAPES["qwen3 relu2 untied"])), tmp_path / "out", text_file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "A Qwen3ForCausalLM with" in card
    assert re.search(r"ok  bits per byte  \d\.\d{4} here, \d\.\d{4} there", card)
    assert "relu(gate) * up" in card


def test_lecture_model_takes_the_bias_of_its_head_along(
    tmp_path: Path, text: str, text_file: Path, drawn: Draw, left: Leave
) -> None:
    model = drawn(lecture(text))
    assert model.head is not None
    assert model.head.bias.abs().min() > 0
    assert export(left(tmp_path / "model", model, "char"), tmp_path / "out", text_file).parity.holds


def test_exported_tokenizer_gives_our_ids_for_any_text(
    tmp_path: Path, text: str, text_file: Path, drawn: Draw, left: Leave
) -> None:
    for kind, shape in (("bpe", SHAPES["llama"]), ("char", lecture(text))):
        export(left(tmp_path / kind, drawn(shape), kind), tmp_path / f"{kind}-out", text_file)
        ours = load_tokenizer(tmp_path / kind)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / f"{kind}-out")
        for shown in ("", "unseen: Zebra #42 🙂\r\n\tx", "a <|endoftext|> b", "  two  spaces  "):
            ids = ours.encode(shown).tolist()
            assert theirs(shown)["input_ids"] == ids
            assert theirs.decode(ids) == ours.decode(ids)
        assert theirs.bos_token_id == theirs.eos_token_id == ours.end_of_text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"norm": "rmsnorm", "bias": False}, "the norm must be layernorm, not rmsnorm"),
        ({"activation": "swiglu"}, "the activation cannot be swiglu"),
        ({"qk_norm": True}, "there is no qk_norm"),
        ({"kv_heads": 2}, "4 heads cannot share 2 kv_heads"),
        ({"position": "rope", "activation": "relu2"}, "the norm must be rmsnorm, not layernorm"),
        ({"position": "rope", "norm": "rmsnorm"}, "the activation must be swiglu or relu2, not gelu"),
        ({"position": "rope", "norm": "rmsnorm", "activation": "swiglu", "qk_norm": True}, "feed-forward has no bias"),
        ({"residual_scalars": True}, "none has residual_scalars True"),
        ({"value_embeddings": True}, "none has value_embeddings True"),
        ({"logit_softcap": 15.0}, "none has logit_softcap 15.0"),
        ({"document_start": 0}, "none has document_start 0"),
        ({"tie_embeddings": False}, "this model's cannot move into the last norm"),
        (
            {"position": "rope", "norm": "rmsnorm", "activation": "swiglu", "tie_embeddings": False},
            "Llama's head has no bias, but this",
        ),
    ],
)
def test_a_model_without_standard_form_is_refused_with_the_reason(
    changes: dict[str, object], reason: str, tmp_path: Path, drawn: Draw, left: Leave
) -> None:
    model = drawn(replace(CLASSIC["gpt2"], **changes))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=re.escape(reason)):
        export(left(tmp_path / "model", model), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("norm", "logits, greedy text, bits per byte differ"),
        ("tokenizer", "token ids, .*differ"),
    ],
)
def test_a_model_that_differs_is_not_written(
    damage: str,
    named: str,
    tmp_path: Path,
    text_file: Path,
    drawn: Draw,
    left: Leave,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(folder: Path) -> parity.TransformersModel:
        other = parity.load_with_transformers(folder)
        if damage == "tokenizer":
            return other._replace(tokenizer=Shouting(other.tokenizer))
        with torch.no_grad():
            other.model.transformer.ln_f.weight.neg_()
        return other

    monkeypatch.setattr(exporting, "load_with_transformers", wrong)
    with pytest.raises(FolioError, match=named) as refused:
        export(left(tmp_path / "model", drawn(SHAPES["gpt2"])), tmp_path / "out", text_file)
    assert refused.value.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


class Shouting:
    """A tokenizer that reads upper case."""

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __call__(self, text: str, **options: object) -> object:
        return self.inner(text.upper(), **options)  # type: ignore[operator]

    def decode(self, *arguments: object, **options: object) -> str:
        return "?"


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path, drawn: Draw, left: Leave) -> None:
    model = left(tmp_path / "model", drawn(SHAPES["gpt2"]))
    with pytest.raises(ConfigError, match="model is there already"):
        export(model, model)
    with pytest.raises(ConfigError, match=r"model.json is there already"):
        export(model, model / "model.json")


def test_a_place_that_cannot_be_made_is_the_machines_fault(tmp_path: Path, drawn: Draw, left: Leave) -> None:
    with pytest.raises(EnvironmentFault, match="/proc/nowhere cannot be created"):
        export(left(tmp_path / "model", drawn(SHAPES["gpt2"])), Path("/proc/nowhere/out"))


def test_without_a_text_the_language_reference_is_compared_and_named(tmp_path: Path, drawn: Draw, left: Leave) -> None:
    (tmp_path / "out").mkdir()  # empty
    done = export(left(tmp_path / "model", drawn(SHAPES["gpt2"])), tmp_path / "out")
    assert "Python's language reference (no validation text in reach)" in done.parity.table()


def test_what_is_no_model_or_no_text_is_a_data_error(tmp_path: Path, drawn: Draw, left: Leave) -> None:
    with pytest.raises(DataError, match="holds no weights"):
        export(tmp_path, tmp_path / "out")
    model = left(tmp_path / "model", drawn(SHAPES["gpt2"]))
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    for name in ("latin", "absent"):
        with pytest.raises(DataError, match=f"{name} is not a readable UTF-8 text"):
            export(model, tmp_path / "out", tmp_path / name)


def test_without_transformers_the_remedy_is_the_line_that_installs_it(
    tmp_path: Path, text_file: Path, drawn: Draw, left: Leave, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EnvironmentFault, match="python -m pip install 'transformers>=5'"):
        export(left(tmp_path / "model", drawn(SHAPES["gpt2"])), tmp_path / "out", text_file)
    assert not (tmp_path / "out").exists()


def test_configs_name_end_of_text_and_the_true_sizes(tmp_path: Path, text_file: Path, drawn: Draw, left: Leave) -> None:
    export(left(tmp_path / "model", drawn(SHAPES["llama"])), tmp_path / "out", text_file)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    expected = {"num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 88, "max_position_embeddings": 24}
    expected |= {"bos_token_id": 0, "eos_token_id": 0, "rms_norm_eps": 1e-6, "hidden_act": "silu", "mlp_bias": False}
    assert {key: config[key] for key in expected} == expected
