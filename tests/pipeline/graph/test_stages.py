"""The stage graph: each stage reads earlier ones only, names a function that exists, and sees its slice."""

from __future__ import annotations

import inspect
import pkgutil
from typing import Any

import pytest

from pipeline.config.schema import Config
from pipeline.graph.stages import IMPORTED, NAMES, STAGES, Stage, nodes_of, stages_of
from pipeline.graph.work import Work


def config(**sections: Any) -> Config:
    return Config.model_validate({"name": "x", **sections})


WITH_CORPUS = {"sources": [{"path": "a", "weight": 2}, {"path": "b"}]}


def test_the_eight_stages_stand_in_the_order_of_execution() -> None:
    assert NAMES == ("target", "corpus", "tokenizer", "shards", "pretrain", "scratch", "finetune", "report")
    for place, stage in enumerate(STAGES):
        assert set(stage.needs) <= set(NAMES[:place])


@pytest.mark.parametrize("stage", [*STAGES, *IMPORTED], ids=lambda stage: stage.function)
def test_the_function_of_a_stage_takes_work_and_returns_counts(stage: Stage) -> None:
    signature = inspect.signature(pkgutil.resolve_name(stage.function), eval_str=True)
    assert [parameter.annotation for parameter in signature.parameters.values()] == [Work]
    assert "Counts" in str(signature.return_annotation)


def test_without_a_corpus_nothing_is_pretrained() -> None:
    assert [stage.name for stage in stages_of(config())] == ["target", "tokenizer", "shards", "scratch", "report"]
    assert len(stages_of(config(corpus=WITH_CORPUS))) == len(STAGES)


def test_imported_weights_take_the_place_of_corpus_tokenizer_and_pretraining() -> None:
    stages = {stage.name: stage for stage in stages_of(config(pretrained={"path": "gpt2"}))}
    assert "corpus" not in stages
    assert [stages[name] for name in ("tokenizer", "pretrain")] == list(IMPORTED)
    assert not stages["pretrain"].trains


def test_the_control_never_reads_the_pretraining() -> None:
    nodes = {node.name: node for node in nodes_of(config(corpus=WITH_CORPUS))}
    assert set(nodes["scratch"].inputs) == {"tokenizer", "shards"}
    assert set(nodes["finetune"].inputs) == {"tokenizer", "shards", "pretrain"}


def test_pretraining_sees_the_weights_of_the_sources() -> None:
    stages = {stage.name: stage for stage in STAGES}
    assert stages["pretrain"].slice(config(corpus=WITH_CORPUS))["weights"] == {"a": 2, "b": 1}
    assert set(stages["scratch"].slice(config())) == {"model", "scratch", "deepspeed"}
