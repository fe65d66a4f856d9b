"""A run and its variants: the leak ablation, the rivals and the sizes that its report compares with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.graph.plan import plan
from pipeline.graph.runner import Selection
from pipeline.graph.stages import NAMES, Node, nodes_of
from pipeline.graph.store import Store
from pipeline.graph.variants import LEAK

Digests = Callable[[Config], dict[str, str]]


def config(**report: Any) -> Config:
    return Config.model_validate({"name": "x", "corpus": {"sources": [{"path": "x"}]}, "report": report})


def nodes(**report: Any) -> dict[str, Node]:
    return {node.name: node for node in nodes_of(config(**report))}


def read_by(node: Node) -> dict[str, str]:
    return {stage: other.name for stage, other in node.inputs.items()}


def test_a_plain_run_makes_its_stages() -> None:
    assert tuple(nodes()) == NAMES


def test_the_columns_of_a_plan_stand_below_each_other_whatever_a_rival_is_called(tmp_path: Path) -> None:
    rivals = {"a rival with a long name": {"scratch.max_steps": 3}}
    lines = plan(config(rivals=rivals), Store(tmp_path), 1).as_text().splitlines()
    states = [line.index("will run") for line in lines if "will run" in line]
    assert len(states) == len(NAMES) + 1 and len(set(states)) == 1
    assert len({line.index("   (this run") for line in lines if "(this run" in line}) == 1


def test_leak_ablation_repeats_what_depends_on_the_corpus_with_the_same_tokenizer(digests_of: Digests) -> None:
    found = nodes(leak_ablation=True)
    assert list(found)[7:] == ["leak.corpus", "leak.shards", "leak.pretrain", "leak.finetune", "report"]
    assert found["leak.corpus"].config.corpus.decontaminate is False
    assert read_by(found["leak.shards"]) == {"target": "target", "corpus": "leak.corpus", "tokenizer": "tokenizer"}
    assert found["leak.finetune"].inputs["pretrain"] is found["leak.pretrain"]
    assert found["report"].reads["leak.finetune"] is found["leak.finetune"]
    assert {node.variant for node in found["report"].compared} == {LEAK}
    prints = digests_of(config(leak_ablation=True))
    assert prints["leak.pretrain"] != prints["pretrain"]
    assert prints["report"] != digests_of(config())["report"]
    for name in NAMES[:-1]:
        assert prints[name] == digests_of(config())[name], "the run itself stays what it was"


def test_nothing_leaks_where_nothing_would_be_removed() -> None:
    plain = Config.model_validate(
        {"name": "x", "corpus": {"sources": [{"path": "x"}], "decontaminate": False}, "report": {"leak_ablation": True}}
    )
    assert tuple(node.name for node in nodes_of(plain)) == NAMES
    assert [node.name for node in nodes_of(Config(name="x", report={"leak_ablation": True}))] == [
        "target",
        "tokenizer",
        "shards",
        "scratch",
        "report",
    ]


def test_leak_ablation_decays_once_however_many_branches_there_are() -> None:
    branched = config(leak_ablation=True).model_copy(
        update={"pretrain": config().pretrain.model_copy(update={"branch_at": (100,)})}
    )
    found = {node.name: node for node in nodes_of(branched)}
    assert found["leak.pretrain"].config.pretrain.branch_at == ()


def test_a_rival_with_the_same_tokenizer_is_another_scratch_arm() -> None:
    found = nodes(rivals={"fewer steps": {"scratch.max_steps": 300}})
    assert list(found)[7:] == ["fewer steps.scratch", "report"]
    rival = found["fewer steps.scratch"]
    assert (rival.config.scratch.max_steps, rival.config.scratch.seeds) == (300, (1,))
    assert read_by(rival) == {"tokenizer": "tokenizer", "shards": "shards"}


def test_a_rival_with_another_tokenizer_is_made_from_the_target_alone(digests_of: Digests) -> None:
    found = nodes(rivals={"characters": {"tokenizer.kind": "char", "scratch.seeds": [4, 5]}})
    assert list(found)[7:] == ["characters.tokenizer", "characters.shards", "characters.scratch", "report"]
    assert read_by(found["characters.tokenizer"]) == {"target": "target"}
    assert read_by(found["characters.shards"]) == {"target": "target", "tokenizer": "characters.tokenizer"}
    assert found["characters.scratch"].config.scratch.seeds == (4, 5)
    alone = Config.model_validate({"name": "y", "tokenizer": {"kind": "char"}, "scratch": {"seeds": [4, 5]}})
    prints = digests_of(config(rivals={"characters": {"tokenizer.kind": "char", "scratch.seeds": [4, 5]}}))
    assert prints["characters.scratch"] == digests_of(alone)["scratch"], "shared with a run of that config"


def test_another_size_is_pretrained_finetuned_and_trained_from_scratch_on_one_seed() -> None:
    found = nodes(sizes={"small": {"model.width": 64}})
    assert list(found)[7:] == ["small.pretrain", "small.scratch", "small.finetune", "report"]
    assert read_by(found["small.finetune"]) == {
        "tokenizer": "tokenizer",
        "shards": "shards",
        "pretrain": "small.pretrain",
    }
    small = found["small.finetune"].config
    assert (small.model.width, small.finetune.seeds, small.scratch.seeds) == (64, (1,), (1,))
    with pytest.raises(ConfigError, match=r"report\.sizes\.s sets model\.context"):
        nodes(sizes={"s": {"model.context": 64}})
    with pytest.raises(ConfigError, match=r"report\.sizes\.s sets scratch\.clip\. Set keys of model"):
        nodes(sizes={"s": {"scratch.clip": 0}})


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"pretrain.tokens": 1}, r"report\.rivals\.r sets pretrain\.tokens\. Set keys of tokenizer, model, scratch"),
        ({}, r"report\.rivals\.r sets nothing"),
        ({"scratch.max_stepz": 1}, r"report\.rivals\.r: unknown key scratch\.max_stepz; did you mean 'max_steps'"),
    ],
)
def test_rivals_that_make_no_sense_are_refused(changes: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ConfigError, match=refusal):
        nodes(rivals={"r": changes})


@pytest.mark.parametrize(
    "report",
    [
        {"rivals": {"leak": {"scratch.clip": 0}}},
        {"sizes": {"leak": {"model.width": 64}}},
        {"rivals": {"small": {"model.width": 64}}, "sizes": {"small": {"model.width": 64}}},
    ],
)
def test_a_name_is_given_once(report: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is taken"):
        nodes(**report)


def test_what_only_the_report_reads_is_selected_with_it() -> None:
    found = nodes(leak_ablation=True, rivals={"r": {"scratch.max_steps": 3}})
    whole, arms, only = Selection(), Selection(last="finetune"), Selection("report", "report")
    assert all(node in whole for node in found.values())
    assert found["leak.pretrain"] not in arms and found["r.scratch"] not in arms and found["finetune"] in arms
    assert [name for name, node in found.items() if node in only] == ["report"]
