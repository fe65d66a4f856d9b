"""The lm-evaluation-harness takes an export as it is, and finds the loss that Folio reports."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from gpt.model import GPTShape
from pipeline.huggingface.export import export
from pipeline.tokens.tokenizer import load_tokenizer

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

        found = lm_eval.simple_evaluate(
            model=HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=8),
            tasks=[{"task": "local", "test_split": "test", **data, **task}],
            task_manager=TaskManager(include_defaults=False),  # reading its thousands takes a minute
            bootstrap_iters=0,
        )
    results: dict[str, Any] = found["results"]["local"]
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


def test_multiple_choice_runs(exported: Path, tmp_path: Path) -> None:
    rows = [{"question": "We'll speak, and they'd", "choices": [" hear", " xyzzy"], "answer": 0}]
    results = evaluated(
        exported / "out",
        tmp_path,
        rows,
        output_type="multiple_choice",
        doc_to_text="{{question}}",
        doc_to_choice="{{choices}}",
        doc_to_target="answer",
        metric_list=[{"metric": "acc"}],
    )
    assert results["acc,none"] in (0.0, 1.0)
