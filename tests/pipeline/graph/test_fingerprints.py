"""Fingerprints of the named runs never change by accident: a changed one would make everybody's finished work stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.loading import load_config
from pipeline.config.schema import Config
from pipeline.graph.fingerprints import fingerprints, identity

# The twelve digits that name the artifacts' folders. Change one only together with the stage's version or its config.
GOLDEN = {
    "configs/ablation.yaml": {
        "target": "545fa3da5c85",
        "corpus": "daebaf503c39",
        "tokenizer": "c9925f90eaa9",
        "shards": "6b4990682943",
        "pretrain": "bd57d1578500",
        "scratch": "2cc45df1d701",
        "finetune": "77e04764f2ab",
        "report": "d973fcb70b8d",
    },
    "configs/demo.yaml": {
        "target": "1327f4502c37",
        "corpus": "eb98ae8ea033",
        "tokenizer": "f3c37b995c7c",
        "shards": "39c2e1247eec",
        "pretrain": "738f692f3f8d",
        "scratch": "25c6f01fbe0d",
        "finetune": "2b4481f87cda",
        "report": "c9e862df005c",
    },
    "configs/gpt2-124m.yaml": {
        "target": "545fa3da5c85",
        "corpus": "b8b62a2c232d",
        "tokenizer": "eb2b267dba2d",
        "shards": "2f116ce83028",
        "pretrain": "4cf21434bd21",
        "scratch": "44fb023ffeaf",
        "finetune": "f4b9bd0816c9",
        "report": "ce5c9e14f41b",
    },
    "configs/gpt2-shakespeare.yaml": {
        "target": "545fa3da5c85",
        "tokenizer": "afd467efb2e8",
        "shards": "80fdfa0ae5a0",
        "pretrain": "ee9a7694b594",
        "scratch": "976024eb6408",
        "finetune": "54f174ed550b",
        "report": "28b7f97e6943",
    },
    "configs/lecture.yaml": {
        "target": "545fa3da5c85",
        "tokenizer": "7e4f2a233868",
        "shards": "f19a7efa74ec",
        "scratch": "f99d1e48bf9b",
        "report": "4f5998e56b7e",
    },
    "configs/shakespeare-cpu.yaml": {
        "target": "545fa3da5c85",
        "corpus": "d00ec4e89b3a",
        "tokenizer": "89898a09085a",
        "shards": "ad92b04625d2",
        "pretrain": "6dbafce3d4d9",
        "scratch": "9c6736e38c46",
        "finetune": "06d427b4c5b5",
        "leak.corpus": "bbf13af3df60",
        "leak.shards": "6d2dc5be04cd",
        "leak.pretrain": "a39f60547cd1",
        "leak.finetune": "4f7b507f0a75",
        "equal finetuning steps.scratch": "6a0942f34bd8",
        "characters.tokenizer": "cd22c854a3e4",
        "characters.shards": "f73f39e56e6d",
        "characters.scratch": "a4aa4309326f",
        "small vocabulary.tokenizer": "eaa3d9b7446e",
        "small vocabulary.shards": "2968faa064bd",
        "small vocabulary.scratch": "722b2768be73",
        "equal total compute.scratch": "5403bbbb6045",
        "larger model.scratch": "97d107bf4681",
        "report": "07ca7ace6fb5",
    },
    "configs/shakespeare-gpu.yaml": {
        "target": "545fa3da5c85",
        "corpus": "6e624d3f4949",
        "tokenizer": "0528e37b8b6a",
        "shards": "a497222feb13",
        "pretrain": "a034f686278c",
        "scratch": "dbe22d8dd98c",
        "finetune": "9fc8ce8026b7",
        "report": "c323ec627535",
    },
}


def test_every_named_run_has_golden_values() -> None:
    assert set(GOLDEN) == set(map(str, Path("configs").glob("*.yaml")))


@pytest.mark.parametrize("path", GOLDEN)
def test_finished_artifacts_of_a_named_run_stay_finished(path: str) -> None:
    digests = fingerprints(load_config(Path(path)))
    assert {name: digest[:12] for name, digest in digests.items()} == GOLDEN[path]


def config(**report: Any) -> Config:
    return Config.model_validate({"name": "x", "corpus": {"sources": [{"path": "x"}]}, "report": report})


def test_a_later_field_counts_once_it_is_set() -> None:
    branched = config().model_copy(update={"pretrain": config().pretrain.model_copy(update={"branch_at": (100,)})})
    assert "branch_at" not in identity(config().pretrain)
    assert identity(branched.pretrain)["branch_at"] == [100]
    assert fingerprints(branched)["pretrain"] != fingerprints(config())["pretrain"]


def test_fields_that_change_nothing_computed_are_left_out() -> None:
    seldom = config().model_copy(update={"pretrain": config().pretrain.model_copy(update={"save_every": 7})})
    assert "save_every" not in identity(seldom.pretrain)
    assert fingerprints(seldom) == fingerprints(config())


def test_the_fingerprint_is_a_digest_of_name_version_slice_and_inputs() -> None:
    """By hand: sha256 of a JSON list, so that another implementation could find the same artifact."""
    import hashlib
    import json

    shown = {name: getattr(Config(name="x").target, name) for name in type(Config(name="x").target).model_fields}
    text = json.dumps(["target", 1, {"target": shown}, {}], sort_keys=True)
    assert fingerprints(Config(name="x"))["target"] == hashlib.sha256(text.encode()).hexdigest()


def test_a_source_weight_changes_pretraining_but_not_the_corpus() -> None:
    digests = [
        fingerprints(Config.model_validate({"name": "x", "corpus": {"sources": [{"path": "x", "weight": weight}]}}))
        for weight in (1, 2)
    ]
    assert [name for name in digests[0] if digests[0][name] != digests[1][name]] == ["pretrain", "finetune", "report"]
