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
        "target": "4be654c9369e",
        "corpus": "54bd343dafd7",
        "tokenizer": "898d007942d4",
        "shards": "29c85f4e6132",
        "pretrain": "d8672cd281c7",
        "scratch": "ce144add9878",
        "finetune": "b9a4ac6d26b6",
        "report": "c3c3a3cc63f7",
    },
    "configs/demo.yaml": {
        "target": "4be654c9369e",
        "corpus": "50800eca7a5d",
        "tokenizer": "18c9a25890d1",
        "shards": "f5efcda5b39e",
        "pretrain": "508f69968bb4",
        "scratch": "6f6da7afca1a",
        "finetune": "1c353f30c643",
        "report": "868cb10fb250",
    },
    "configs/gpt2-124m.yaml": {
        "target": "4be654c9369e",
        "corpus": "284e348d5500",
        "tokenizer": "82de1d761748",
        "shards": "0dea2677febe",
        "pretrain": "33d2bb8a2447",
        "scratch": "39a4fb9baf55",
        "finetune": "efd8abb12099",
        "report": "cb681d1c65ff",
    },
    "configs/gpt2-shakespeare.yaml": {
        "target": "4be654c9369e",
        "tokenizer": "c8982063fd0c",
        "shards": "03ed6608f410",
        "pretrain": "2267e7f85371",
        "scratch": "e36298c1f8a5",
        "finetune": "13fe2f774a91",
        "report": "6131cc386c2e",
    },
    "configs/lecture.yaml": {
        "target": "4be654c9369e",
        "tokenizer": "bf90c57fa952",
        "shards": "e6fed0ed46ce",
        "scratch": "83acac37c91a",
        "report": "36aeac1d30cf",
    },
    "configs/shakespeare-cpu.yaml": {
        "target": "4be654c9369e",
        "corpus": "a3211c5eb44c",
        "tokenizer": "1ae43af88e46",
        "shards": "d417e7e50a17",
        "pretrain": "8b901d8fd4dd",
        "scratch": "e759380c8986",
        "finetune": "dd021e04a39a",
        "leak.corpus": "f52573f94a72",
        "leak.shards": "dddb0b501360",
        "leak.pretrain": "b69805d6ee33",
        "leak.finetune": "38dae41afcd7",
        "equal finetuning steps.scratch": "f63229eb447a",
        "characters.tokenizer": "d8be211af4bc",
        "characters.shards": "420e3a5f5037",
        "characters.scratch": "d70ffcec5f02",
        "small vocabulary.tokenizer": "a6b8a7859d4a",
        "small vocabulary.shards": "ef18efe73091",
        "small vocabulary.scratch": "c1e1164fd2d2",
        "equal total compute.scratch": "19af00c2430b",
        "larger model.scratch": "4d5ff38fe9c6",
        "report": "1573d2e0ad14",
    },
    "configs/shakespeare-gpu.yaml": {
        "target": "4be654c9369e",
        "corpus": "09174310f4d9",
        "tokenizer": "05cae3e6f52a",
        "shards": "90fd044ce657",
        "pretrain": "3bb08039c153",
        "scratch": "591892d30d42",
        "finetune": "c005b89652bd",
        "report": "f5db9e13f424",
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
    written = json.dumps(["target", 1, {"target": shown}, {}, {"target": held}], sort_keys=True)
    named = Config(name="x", target={"name": "tiny-shakespeare"})
    found = fingerprints(named, Outside({"target": {"target": text}}, {}))
    assert found["target"] == hashlib.sha256(written.encode()).hexdigest()


def test_a_source_weight_changes_pretraining_but_not_the_corpus(digests_of: Digests) -> None:
    digests = [
        digests_of(Config.model_validate({"name": "x", "corpus": {"sources": [{"path": "x", "weight": weight}]}}))
        for weight in (1, 2)
    ]
    assert [name for name in digests[0] if digests[0][name] != digests[1][name]] == ["pretrain", "finetune", "report"]
