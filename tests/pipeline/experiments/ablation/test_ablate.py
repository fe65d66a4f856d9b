"""An ablation with real trainings of a tiny model."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.config.schema import Config
from pipeline.experiments.ablation.ablate import ablate
from pipeline.experiments.ablation.effects import findings
from pipeline.graph.runner import Selection, run_nodes
from pipeline.graph.store import Store

WORDS = ["the", "king", "and", "queen", "of", "night", "speak", "no", "more", "love"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def config(store: Store, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A tiny model on generated text, and a change that keeps it from learning."""
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    text, draw = store.root / "text.txt", random.Random(0)
    text.write_text(" ".join(draw.choices(WORDS, k=3000)))
    return Config.model_validate(
        {
            "name": "x",
            "target": {"path": str(text)},
            "tokenizer": {"kind": "char"},
            "model": {"layers": 1, "width": 16, "heads": 2, "context": 16},
            "scratch": {"learning_rates": [1e-2], "max_steps": 24, "batch_tokens": 256, "evaluate_every": 8},
            "ablation": {
                "stage": "scratch",
                "seeds": [1, 2],
                "changes": {"frozen": {"scratch.learning_rates": [1e-9]}},
            },
            "launch": {"ranks": 1, "threads": 1},
        }
    )


@pytest.mark.slow
def test_a_broken_change_hurts_and_what_is_finished_is_not_repeated(config: Config, store: Store) -> None:
    ablation = ablate(config, store, jobs=2)
    (frozen,) = findings(ablation).changes
    assert frozen.same_run, "the same model takes the same time"
    assert frozen.by_tokens.bits_per_byte.mean > 0.5
    assert len(frozen.by_tokens.bits_per_byte.per_seed) == 2
    assert frozen.by_tokens.verdict == "hurts"
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()}
    again = ablate(config, store, jobs=2)
    after = {path: path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()}
    del before[store.root / "text.txt"], after[store.root / "text.txt"]
    assert after == before
    assert findings(again).changes == findings(ablation).changes
    assert len(list(store.root.glob("scratch-*"))) == 2


@pytest.mark.slow
def test_a_stopped_ablation_stops_its_trainings_which_save_first(config: Config, store: Store, tmp_path: Path) -> None:
    run_nodes(config, store, Selection(last="shards"))
    path = tmp_path / "long.yaml"
    scratch = {**config.scratch.model_dump(mode="json"), "max_steps": 1_000_000}
    path.write_text(json.dumps({**config.model_dump(mode="json"), "scratch": scratch}))
    command = [Path(sys.executable).with_name("folio"), "ablate", str(path), "--jobs", "2"]
    with subprocess.Popen(
        command, env={**os.environ, "FOLIO_STORE": str(store.root)}, stderr=subprocess.PIPE
    ) as ablation:
        before = set(store.root.glob("scratch-*/trials"))
        while len(set(store.root.glob("scratch-*/trials")) - before) < 2 and ablation.poll() is None:
            time.sleep(0.1)
        time.sleep(1.0)
        ablation.send_signal(signal.SIGTERM)
        _, talk = ablation.communicate(timeout=60)
    assert ablation.returncode == 75, talk.decode()
    assert "Traceback" not in talk.decode()
    begun = set(store.root.glob("scratch-*/trials")) - before
    assert all(list(trials.glob("*/checkpoints/step-*/checkpoint.json")) for trials in begun)
    left = [process for process in psutil.process_iter(["cmdline"]) if str(store.root) in str(process.info["cmdline"])]
    assert left == []
