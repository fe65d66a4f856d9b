"""A tiny world to train in: a character tokenizer, shards of random words, and jobs over them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.schema import LaunchSection
from pipeline.config.training_sections import FinetuneSection, ModelSection, PretrainSection, ScratchSection
from pipeline.distributed.job import Job
from pipeline.tokens.shard import Rows, ShardInfo, write_shard
from pipeline.tokens.tokenizer import Tokenizer, load_tokenizer

MODEL: dict[str, Any] = {"layers": 2, "width": 32, "heads": 2, "context": 16}
COMMON = {"batch_tokens": 128, "micro_batch": 2, "evaluate_every": 4, "save_every": 4, "warmup": 0.1}
SECTIONS: dict[str, Any] = {
    "pretrain": (PretrainSection, {"tokens": 128 * 8, "evaluate_tokens": 128, "learning_rate": 1e-2}),
    "scratch": (ScratchSection, {"learning_rates": [1e-2, 1e-3], "max_steps": 8, "seeds": [1, 2], "dropout": 0.1}),
    "finetune": (FinetuneSection, {"learning_rates": [1e-2, 1e-3], "max_steps": 8, "seeds": [1, 2], "dropout": 0.1}),
}


@pytest.fixture(scope="module")
def ranks_find_the_bodies() -> Iterator[None]:
    """Let ranks import `bodies`: they start in the artifact's folder, where no module of this one is found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        yield


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of a tokenizer and a shards stage."""
    root = tmp_path_factory.mktemp("inputs")
    for folder in ("tokenizer", "shards/corpus", "shards/target"):
        (root / folder).mkdir(parents=True)
    (root / "tokenizer/tokenizer.json").write_text(json.dumps({"kind": "char", "characters": " abcdefgh"}))
    tokenizer = load_tokenizer(root / "tokenizer")
    for number, (name, source, documents) in enumerate(
        [
            ("corpus/train-00000", "prose", 60),
            ("corpus/train-00001", "verse", 30),
            ("corpus/validation-00000", "prose", 10),
            ("target/train", "target", 40),
            ("target/selection", "target", 6),
            ("target/refit", "target", 46),
        ]
    ):
        _write_words(root / "shards" / f"{name}.arrow", tokenizer, name, source, documents, seed=number)
    return {"tokenizer": str(root / "tokenizer"), "shards": str(root / "shards")}


@pytest.fixture(scope="session")
def job_in(inputs: dict[str, str]) -> Callable[..., Job]:
    """job_in(folder, stage, **changes to its section): a small job; `more_inputs` adds input folders."""

    def make(folder: Path, stage: str, more_inputs: dict[str, str] | None = None, **changes: Any) -> Job:
        kind, defaults = SECTIONS[stage]
        section = kind(**{**COMMON, **defaults, **changes}).model_dump(mode="json")
        folder.mkdir(exist_ok=True)
        job = Job(
            stage=stage,
            config_slice={
                "model": ModelSection(**MODEL).model_dump(mode="json"),
                stage: section,
                "deepspeed": {},
                "weights": {"prose": 1.0, "verse": 2.0},
            },
            inputs={**inputs, **(more_inputs or {})},
            fingerprints={"shards": "s", "tokenizer": "t"},
            folder=str(folder),
            launch=LaunchSection(threads=1),
        )
        job.write()
        return job

    return make


def _write_words(path: Path, tokenizer: Tokenizer, name: str, source: str, documents: int, seed: int) -> None:
    draw = random.Random(seed)
    words = ["abc", "fade", "head", "bed", "cab", "gag", "deaf", "beach"]
    texts = [" ".join(draw.choices(words, k=30)) for _ in range(documents)]
    tokens, offsets = tokenizer.encode_rows(texts)
    rows = Rows(tokens, np.asarray(offsets, dtype=np.int64), [f"{source}-{number}" for number in range(documents)])
    write_shard(path, [rows], ShardInfo(name, source, tokenizer.sha256, tokenizer.vocab_size, tokenizer.end_of_text))
