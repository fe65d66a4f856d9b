"""Tiny models whose every weight matters, and tokenizers for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from gpt.model import GPT, GPTShape
from pipeline.runtime.threads import fixed_threads
from pipeline.saved_models.weights import save_shape, save_weights
from pipeline.tokens.tokenizer import END_OF_TEXT, TOKENIZER_FILE
from pipeline.tokens.tokenizer_stage import byte_pairs, characters

TEXT = "".join(
    f"FIRST CITIZEN {n}:\nWe'll speak, and they'd hear the {n * 7 % 31}th word. «où»<|endoftext|>\n\n"
    for n in range(40)
)
Draw = Callable[[GPTShape], GPT]
Leave = Callable[..., Path]


def _drawn(shape: GPTShape) -> GPT:
    """A model in which no norm is one and no bias zero, with weights large enough that logits differ."""
    model = GPT(shape).initialize(0).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.empty(parameter.shape).normal_(0.0, 0.1, generator=generator)
            parameter.add_(noise)
    return model


def _left(folder: Path, model: GPT, kind: str = "bpe") -> Path:
    """The folder with the model and a tokenizer, as `folio import` leaves one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKENIZER_FILE).write_text(
        characters(TEXT) if kind == "char" else byte_pairs([TEXT], model.shape.vocab_size), encoding="utf-8"
    )
    save_weights(folder / "model.safetensors", dict(model.named_parameters()))
    save_shape(folder, model.shape)
    return folder


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """More of them only wait for each other on models this small."""
    with fixed_threads(1):
        yield


@pytest.fixture(scope="session")
def text() -> str:
    return TEXT


@pytest.fixture(scope="session")
def drawn() -> Draw:
    return _drawn


@pytest.fixture(scope="session")
def left() -> Leave:
    return _left


@pytest.fixture(scope="session")
def gpt2(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 of random weights and its tokenizer in the old form, end-of-text last, as GPT-2 has it."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("gpt2")
    trained = json.loads(byte_pairs([text], 300))["model"]
    tokens = sorted((token for token in trained["vocab"] if token != END_OF_TEXT), key=trained["vocab"].get)
    vocabulary = {token: number for number, token in enumerate([*tokens, END_OF_TEXT])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in trained["merges"]))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    torch.manual_seed(5)
    config = transformers.GPT2Config(
        vocab_size=300, bos_token_id=299, eos_token_id=299, n_layer=2, n_head=4, n_embd=32, n_positions=24
    )
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder
