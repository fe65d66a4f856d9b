from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gpt.model import GPT, GPTShape
from pipeline.saved_models.continue_text import continued
from pipeline.tokens.tokenizer import Tokenizer, load_tokenizer


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"kind": "char", "characters": "abc"}))
    return load_tokenizer(tmp_path)


class Successor(GPT):
    """Predicts with certainty the id after the last one, in a circle; remembers the first id it was shown."""

    first: int | None = None

    def forward(self, inputs: Tensor, *_: Any, **__: Any) -> Tensor:  # type: ignore[override]
        self.first = int(inputs[0, 0]) if self.first is None else self.first
        vocabulary = self.shape.vocab_size
        return 1e6 * torch.nn.functional.one_hot((inputs + 1) % vocabulary, vocabulary).float()


def test_text_is_the_prompt_and_what_the_model_predicts_after_end_of_text(tokenizer: Tokenizer) -> None:
    model = Successor(GPTShape(vocab_size=tokenizer.vocab_size, layers=1, width=8, heads=2, context=8)).eval()
    assert continued(model, tokenizer, "a", 2, seed=1) == "abc"
    assert model.first == tokenizer.end_of_text


def test_the_seed_alone_decides_what_is_sampled(tokenizer: Tokenizer) -> None:
    shape = GPTShape(vocab_size=tokenizer.vocab_size, layers=1, width=8, heads=2, context=8)
    model = GPT(shape).initialize(1).eval()
    texts = [continued(model, tokenizer, "ab", 30, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert all(text.startswith("ab") for text in texts)
