from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.experiments.ablation.changed_configs import changed_configs, shape_of, with_changes_of_command_line
from pipeline.graph.fingerprints import fingerprints

MODEL = {"layers": 4, "width": 128, "heads": 4, "context": 256}


def config(stage: str = "pretrain", **changes: dict[str, Any]) -> Config:
    named = {name.replace("_", " "): change for name, change in changes.items()}
    return Config.model_validate(
        {"name": "x", "model": MODEL, "corpus": {"sources": [{"path": "x.txt"}]}}
        | {"ablation": {"stage": stage, "changes": named}}
    )


def test_a_change_differs_from_the_baseline_in_what_it_sets() -> None:
    baseline, gelu = changed_configs(config(gelu={"model.activation": "gelu"}))
    assert (baseline.name, gelu.name) == ("baseline", "gelu")
    assert gelu.config.model == baseline.config.model.model_copy(update={"activation": "gelu"})
    assert gelu.config.pretrain == baseline.config.pretrain


def test_changed_models_share_everything_before_training(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("text")
    own = config(gelu={"model.activation": "gelu"}).based_in(tmp_path)
    baseline, gelu = (fingerprints(changed.config) for changed in changed_configs(own))
    shared = ("target", "corpus", "tokenizer", "shards")
    assert [baseline[name] for name in shared] == [gelu[name] for name in shared]
    assert baseline["pretrain"] != gelu["pretrain"]


def test_feed_forward_width_makes_up_for_fewer_or_more_parameters() -> None:
    changes = {
        "grouped": {"model.kv_heads": 2},  # 4 layers x 128 x 128 fewer: 65,536 of 1,024 a unit of width
        "learned": {"model.position": "learned"},  # 256 x 128 more
        "swiglu": {"model.activation": "swiglu"},
    }
    baseline, grouped, learned, swiglu = changed_configs(config(**changes))
    assert (grouped.config.model.hidden, learned.config.model.hidden) == (512 + 64, 512 - 32)
    for changed in (grouped, learned, swiglu):
        assert changed.parameters == pytest.approx(baseline.parameters, rel=0.005)


def test_what_no_width_can_make_up_for_stays_as_it_is() -> None:
    baseline, embedded = changed_configs(config(embedded={"model.value_embeddings": True}))
    assert embedded.config.model.hidden is None
    assert embedded.parameters == baseline.parameters + 2 * 4096 * 128


def test_a_width_that_is_asked_for_is_kept() -> None:
    _, wide = changed_configs(config(wide={"model.hidden": 1024}))
    assert wide.config.model.hidden == 1024
    assert shape_of(wide.config).hidden_width == 1024


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"tokenizer.vocab_size": 99}, r"changes\.x sets tokenizer\.vocab_size; with stage pretrain only model and"),
        ({"scratch.clip": 0}, r"only model and pretrain are compared"),
        ({"model.activation": "relu2"}, r"changes\.x changes nothing"),
        ({"model.activation": "tanh"}, r"ablation\.changes\.x: model\.activation: Input should be"),
        ({"model.activatoin": "gelu"}, r"did you mean 'activation'"),
    ],
)
def test_impossible_changes_are_refused(change: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ConfigError, match=refusal):
        changed_configs(config(x=change))


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to compare"):
        changed_configs(config())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("model.activation=swiglu", {"model.activation": "swiglu"}),
        ("model.layers=3", {"model.layers": 3}),
        (" scratch.seeds = [1, 2]", {"scratch.seeds": [1, 2]}),
        ("scratch.learning_rates=[2e-3]", {"scratch.learning_rates": [0.002]}),
        ("model.bias=", {"model.bias": None}),
        ("model.name=[", {"model.name": "["}),
    ],
)
def test_changes_of_the_command_line_replace_those_of_the_config(change: str, expected: dict[str, Any]) -> None:
    own = config(own={"model.layers": 2})
    assert with_changes_of_command_line(own, [change]).ablation.changes == {change: expected}


def test_without_changes_on_the_command_line_the_config_keeps_its_own() -> None:
    own = config(own={"model.layers": 2})
    assert with_changes_of_command_line(own, []) == own


@pytest.mark.parametrize("change", ["swiglu", "activation=swiglu", "model.activation", "model.=1"])
def test_change_of_another_form_is_refused_with_an_example(change: str) -> None:
    refusal = r"--change .* is not of the form a\.b=value\. Example: --change model\.activation=swiglu"
    with pytest.raises(ConfigError, match=refusal):
        with_changes_of_command_line(config(), [change])
