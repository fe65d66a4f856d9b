from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.experiments.ablation import ablate
from pipeline.experiments.findings import findings
from pipeline.graph.config import Config
from pipeline.graph.store import Store

WORDS = ["the", "king", "and", "queen", "of", "night", "speak", "no", "more", "love"]


@pytest.mark.slow
def test_a_broken_change_hurts_and_what_is_finished_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    draw = random.Random(0)
    (tmp_path / "text.txt").write_text(" ".join(draw.choices(WORDS, k=3000)))
    arm = {"learning_rates": [1e-2], "max_steps": 24, "batch_tokens": 256, "evaluate_every": 8}
    config = Config.model_validate(
        {
            "name": "x",
            "target": {"path": str(tmp_path / "text.txt")},
            "tokenizer": {"kind": "char"},
            "model": {"layers": 1, "width": 16, "heads": 2, "context": 16},
            "scratch": arm,
            "ablation": {
                "stage": "scratch",
                "seeds": [1, 2],
                "changes": {"frozen": {"scratch.learning_rates": [1e-9]}},
            },
            "launch": {"ranks": 1, "threads": 1},
        }
    )
    store = Store(tmp_path / "store")
    ablation = ablate(config, store, jobs=2)
    (frozen,) = findings(ablation).changes
    assert frozen.same_run, "the same model takes the same time"
    assert frozen.by_tokens.bits_per_byte.mean > 0.5
    assert len(frozen.by_tokens.bits_per_byte.per_seed) == 2
    assert frozen.by_tokens.verdict == "hurts"
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()}
    again = ablate(config, store, jobs=2)
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()} == before
    assert findings(again).changes == findings(ablation).changes
    assert len(list(store.root.glob("scratch-*"))) == 2
