"""The lm-evaluation-harness takes an export as it is, and finds the loss that Folio reports."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpt.model import GPT, GPTShape, next_token_loss
from pipeline.huggingface.export import export
from pipeline.saved_models.saved_model import open_model
from pipeline.tokens.tokenizer import Tokenizer, load_tokenizer

lm_eval = pytest.importorskip("lm_eval", reason="`make eval-harness` installs the lm-evaluation-harness")
CONTEXT = 24


def evaluated(model: Path, folder: Path, rows: list[dict[str, Any]], **task: Any) -> dict[str, Any]:
    """The results of a task on rows of a local file."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the harness and its dependencies
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        evaluation = lm_eval.simple_evaluate(
            model=HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=8),
            tasks=[{"task": "local", "test_split": "test", **data, **task}],
            task_manager=TaskManager(include_defaults=False),  # reading its thousands takes a minute
            bootstrap_iters=0,
        )
    results: dict[str, Any] = evaluation["results"]["local"]
    return results


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, text: str, drawn: Any, left: Any) -> Path:
    """A modern model, with a text of whole windows: what the harness does with the rest of one differs from ours."""
    folder = tmp_path_factory.mktemp("harness")
    shape = GPTShape(300, 2, 32, 4, CONTEXT, position="rope", norm="rmsnorm", activation="relu2", bias=False)
    tokenizer = load_tokenizer(left(folder / "model", drawn(shape)))
    ids = tokenizer.encode(text)
    cuts = (tokenizer.decode(ids[:end]) for end in range(10 * CONTEXT, len(ids), CONTEXT))
    whole = next(cut for cut in cuts if len(tokenizer.encode(cut)) % CONTEXT == 0)
    (folder / "whole.txt").write_text(whole, encoding="utf-8")
    export(folder / "model", folder / "out", folder / "whole.txt")
    return folder


def test_rolling_bits_per_byte_is_what_folio_finds(exported: Path, tmp_path: Path) -> None:
    text = (exported / "whole.txt").read_text(encoding="utf-8")
    results = evaluated(
        exported / "out",
        tmp_path,
        [{"text": text}],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": "bits_per_byte"}],
    )
    card = (exported / "out" / "README.md").read_text()
    assert f"{results['bits_per_byte,none']:.4f} here" in card


def likeliest(model: GPT, tokenizer: Tokenizer, question: str, choices: list[str]) -> int:
    """The choice that the model gives the highest probability after the question, summed over its tokens."""
    start = len(tokenizer.encode(question))
    scores = []
    for choice in choices:
        tokens = torch.from_numpy(tokenizer.encode(question + choice).astype(np.int64))[None]
        with torch.inference_mode():
            logits = model(tokens[:, :-1])[:, start - 1 :]
        scores.append(-float(next_token_loss(logits, tokens[:, start:]).nats))
    return scores.index(max(scores))


def test_multiple_choice_takes_the_answers_that_our_model_finds_likeliest(exported: Path, tmp_path: Path) -> None:
    """With three choices each, seven answers agree by chance once in 2,187 times."""
    model, tokenizer = open_model(exported / "model")
    questions = ["We'll speak, and they'd", "FIRST CITIZEN", "the 7th word", "hear the", "We'll", "CITIZEN 7:", "where"]
    choices = [" speak", " they", " the"]  # a token each: a longer one would never be the likeliest
    answers = [likeliest(model, tokenizer, question, choices) for question in questions]
    assert len(set(answers)) > 1, "else always taking the same choice would pass"
    rows = [
        {"question": question, "choices": choices, "answer": answer}
        for question, answer in zip(questions, answers, strict=True)
    ]
    results = evaluated(
        exported / "out",
        tmp_path,
        rows,
        output_type="multiple_choice",
        doc_to_text="{{question}}",
        doc_to_choice="{{choices}}",
        doc_to_target="answer",
        target_delimiter="",  # the choices begin with their own space
        metric_list=[{"metric": "acc"}],
    )
    assert results["acc,none"] == 1.0
