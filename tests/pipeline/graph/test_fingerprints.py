"""Fingerprints of the named runs never change by accident: a changed one would make everybody's finished work stale."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.loading import load_config
from pipeline.config.schema import Config
from pipeline.graph.fingerprints import fingerprints, identity
from pipeline.inputs.outside import Outside, OutsideText

Digests = Callable[[Config], dict[str, str]]

# The twelve digits that name the artifacts' folders. Change one only together with the stage's version or its config.
GOLDEN = {
    "configs/ablation.yaml": {
        "target": "ef4517dc9d25",
        "corpus": "035ada1e0714",
        "tokenizer": "20ff3c2fbce1",
        "shards": "6e0b2ee9339d",
        "pretrain": "7de45c068763",
        "scratch": "11c4638b4b2f",
        "finetune": "12e5285e5cd1",
        "report": "4f20780ccdb9",
    },
    "configs/demo.yaml": {
        "target": "ef4517dc9d25",
        "corpus": "c42d1fcfcbbb",
        "tokenizer": "d2d7c9c19dc7",
        "shards": "d45e6e09ffd3",
        "pretrain": "5a7c85a3e94b",
        "scratch": "cacca6393fe8",
        "finetune": "35eb90233dcb",
        "report": "9bf412489b79",
    },
    "configs/gpt2-124m.yaml": {
        "target": "ef4517dc9d25",
        "corpus": "6ac2c9e79891",
        "tokenizer": "af5fcb7a3de3",
        "shards": "26fbbf06d795",
        "pretrain": "1705374d171d",
        "scratch": "427ccbc25659",
        "finetune": "2e78302a4607",
        "report": "8184669d58e1",
    },
    "configs/gpt2-shakespeare.yaml": {
        "target": "ef4517dc9d25",
        "tokenizer": "c8982063fd0c",
        "shards": "6867379c6a25",
        "pretrain": "72399057be7e",
        "scratch": "6586593a1fd5",
        "finetune": "6d15c00e739a",
        "report": "29990941b067",
    },
    "configs/lecture.yaml": {
        "target": "ef4517dc9d25",
        "tokenizer": "676c2eea540e",
        "shards": "e89c0fe837db",
        "scratch": "634a1b167a08",
        "report": "799f9d4f8e9a",
    },
    "configs/shakespeare-cpu.yaml": {
        "target": "ef4517dc9d25",
        "corpus": "4f39499c9bcc",
        "tokenizer": "afdfeb61ffc4",
        "shards": "5956e3e2c88a",
        "pretrain": "50b50afcc6b8",
        "scratch": "46bac911977b",
        "finetune": "fa2d8f06e86a",
        "leak.corpus": "b5f08638d86f",
        "leak.shards": "ef24779509b1",
        "leak.pretrain": "1449e7429f2d",
        "leak.finetune": "3d2ba79c0f7d",
        "equal finetuning steps.scratch": "108b00729c94",
        "characters.tokenizer": "679812c15a1c",
        "characters.shards": "985576f4bb49",
        "characters.scratch": "c0dbaa5bbf0a",
        "small vocabulary.tokenizer": "950d0913b927",
        "small vocabulary.shards": "5408f23a786e",
        "small vocabulary.scratch": "9e84a5b2aebe",
        "equal total compute.scratch": "d45c67c92729",
        "larger model.scratch": "29b5b36d37ac",
        "report": "ec83be20b35b",
    },
    "configs/shakespeare-gpu.yaml": {
        "target": "ef4517dc9d25",
        "corpus": "262a993da9f9",
        "tokenizer": "228764727bcf",
        "shards": "23c2d2472207",
        "pretrain": "6b66f1e3b023",
        "scratch": "7948f716c529",
        "finetune": "d14832fdaa53",
        "report": "68057dc6b831",
    },
}


def test_every_named_run_has_golden_values() -> None:
    assert set(GOLDEN) == set(map(str, Path("configs").glob("*.yaml")))


@pytest.mark.parametrize("path", GOLDEN)
def test_finished_artifacts_of_a_named_run_stay_finished(path: str, digests_of: Digests) -> None:
    digests = digests_of(load_config(Path(path)))
    assert {name: digest[:12] for name, digest in digests.items()} == GOLDEN[path]


def config(**report: Any) -> Config:
    return Config.model_validate({"name": "x", "corpus": {"sources": [{"path": "x"}]}, "report": report})


def test_a_later_field_counts_once_it_is_set(digests_of: Digests) -> None:
    branched = config().model_copy(update={"pretrain": config().pretrain.model_copy(update={"branch_at": (100,)})})
    assert "branch_at" not in identity(config().pretrain)
    assert identity(branched.pretrain)["branch_at"] == [100]
    assert digests_of(branched)["pretrain"] != digests_of(config())["pretrain"]


def test_fields_that_change_nothing_computed_are_left_out(digests_of: Digests) -> None:
    seldom = config().model_copy(update={"pretrain": config().pretrain.model_copy(update={"save_every": 7})})
    assert "save_every" not in identity(seldom.pretrain)
    assert digests_of(seldom) == digests_of(config())


def test_the_zero_stage_counts_as_its_default_whatever_it_is(digests_of: Digests) -> None:
    sharded = config().model_copy(update={"pretrain": config().pretrain.model_copy(update={"zero": 3})})
    assert identity(sharded.pretrain)["zero"] == 1
    assert digests_of(sharded) == digests_of(config())


def test_the_fingerprint_is_a_digest_of_name_version_slice_inputs_and_texts() -> None:
    """By hand: sha256 of a JSON list, so that another implementation could find the same artifact."""
    text = OutsideText("tiny-shakespeare", "file", {"sha256": "5" * 64})
    section = {"name": None, "subset": None, "split": "train", "field": "text", "validation": 0.1, "selection": 0.05}
    shown = {**section, "name": "tiny-shakespeare"}
    held = hashlib.sha256(json.dumps({"sha256": "5" * 64}).encode()).hexdigest()
    written = json.dumps(["target", 2, {"target": shown}, {}, {"target": held}], sort_keys=True)
    named = Config(name="x", target={"name": "tiny-shakespeare"})
    found = fingerprints(named, Outside({"target": {"target": text}}, {}))
    assert found["target"] == hashlib.sha256(written.encode()).hexdigest()


def test_a_source_weight_changes_pretraining_but_not_the_corpus(digests_of: Digests) -> None:
    digests = [
        digests_of(Config.model_validate({"name": "x", "corpus": {"sources": [{"path": "x", "weight": weight}]}}))
        for weight in (1, 2)
    ]
    assert [name for name in digests[0] if digests[0][name] != digests[1][name]] == ["pretrain", "finetune", "report"]
