from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.experiments.ablation.changed_configs import changed_configs, parameters_of
from pipeline.experiments.ablation.training_jobs import with_share
from pipeline.graph.fingerprints import fingerprints

MODEL = {"layers": 4, "width": 128, "heads": 4, "context": 256}


def config(stage: str = "pretrain", **changes: dict[str, Any]) -> Config:
    named = {name.replace("_", " "): change for name, change in changes.items()}
    return Config.model_validate(
        {"name": "x", "model": MODEL, "corpus": {"sources": [{"path": "x"}]}}
        | {"ablation": {"stage": stage, "changes": named}}
    )


def test_a_change_differs_from_the_baseline_in_what_it_sets() -> None:
    baseline, gelu = changed_configs(config(gelu={"model.activation": "gelu"}))
    assert (baseline.name, gelu.name) == ("baseline", "gelu")
    assert gelu.config.model == baseline.config.model.model_copy(update={"activation": "gelu"})
    assert gelu.config.pretrain == baseline.config.pretrain


def test_changed_models_share_everything_before_training() -> None:
    baseline, gelu = (fingerprints(kind.config) for kind in changed_configs(config(gelu={"model.activation": "gelu"})))
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
    for kind in (grouped, learned, swiglu):
        assert kind.parameters == pytest.approx(baseline.parameters, rel=0.005)


def test_what_no_width_can_make_up_for_stays_as_it_is() -> None:
    baseline, embedded = changed_configs(config(embedded={"model.value_embeddings": True}))
    assert embedded.config.model.hidden is None
    assert embedded.parameters == baseline.parameters + 2 * 4096 * 128


def test_a_width_that_is_asked_for_is_kept() -> None:
    _, wide = changed_configs(config(wide={"model.hidden": 1024}))
    assert wide.config.model.hidden == 1024
    assert parameters_of(wide.config) == wide.parameters


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


def test_a_share_of_the_tokens_is_whole_batches() -> None:
    pretrain = with_share(config(), "pretrain", 0.9).pretrain
    assert pretrain.tokens == round(30_000_000 // 8192 * 0.9) * 8192
    assert with_share(config(), "scratch", 0.9).scratch.max_steps == 540
