"""Tiny models whose every weight matters, and tokenizers for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from gpt.model import GPT, GPTShape
from pipeline.results.evaluation import fixed_threads
from pipeline.tokens.tokenizer import FILE
from pipeline.tokens.training import byte_pairs, characters
from pipeline.training.weights import save_shape, save_weights

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
    (folder / FILE).write_text(
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
