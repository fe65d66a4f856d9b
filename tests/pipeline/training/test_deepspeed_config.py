from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.training_sections import ScratchSection
from pipeline.errors import ConfigError
from pipeline.training.deepspeed_config import OWNED, EngineSettings, deepspeed_config, refuse_owned_keys
from pipeline.training.training_plan import BatchGeometry


def test_every_number_comes_from_the_settings() -> None:
    config = deepspeed_config(EngineSettings(micro_batch=4, accumulation=3, zero=2, clip=0.5))
    assert config["train_micro_batch_size_per_gpu"] == 4
    assert config["gradient_accumulation_steps"] == 3
    assert config["gradient_clipping"] == 0.5
    assert config["zero_optimization"]["stage"] == 2
    assert "bf16" not in config


def test_rest_of_the_block_is_passed_through_beside_what_folio_sets() -> None:
    extra = {"zero_optimization": {"overlap_comm": True}, "comms_logger": {"enabled": True}}
    config = deepspeed_config(EngineSettings(1, 1, deepspeed=extra))
    assert config["zero_optimization"]["stage"] == 1
    assert config["zero_optimization"]["overlap_comm"] is True
    assert config["comms_logger"] == {"enabled": True}


@pytest.mark.parametrize("key", sorted(OWNED))
def test_key_that_folio_owns_is_refused_and_its_home_named(key: str) -> None:
    block: dict[str, Any] = {key: 1}
    if "." in key:
        outer, inner = key.split(".")
        block = {outer: {inner: 1}}
    with pytest.raises(ConfigError, match=f"deepspeed.{key} cannot be set here: Folio ") as caught:
        deepspeed_config(EngineSettings(1, 1, deepspeed=block))
    assert (OWNED[key] or "Remove it") in caught.value.remedy


def test_refusal_names_what_the_key_is_derived_from() -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_owned_keys({"zero_optimization": {"stage": 3}})
    assert str(caught.value) == (
        "deepspeed.zero_optimization.stage cannot be set here: Folio derives it from `zero`. "
        "Set `zero` of the stage instead."
    )


def test_settings_are_those_of_the_section_and_of_its_split_of_a_batch() -> None:
    section = ScratchSection(batch_tokens=1024, micro_batch=4, zero=2, dtype="bf16", clip=0.5)
    geometry = BatchGeometry.of("scratch", section, context=32, world_size=2)
    expected = EngineSettings(4, 4, zero=2, dtype="bf16", clip=0.5, deepspeed={"comms_logger": {}})
    assert EngineSettings.of(section, geometry, {"comms_logger": {}}) == expected


def test_folio_clips_itself_where_deepspeed_does_not_look_at_the_norm() -> None:
    assert deepspeed_config(EngineSettings(1, 1, zero=0, dtype="fp32", clip=1.0))["gradient_clipping"] == 0.0
    assert deepspeed_config(EngineSettings(1, 1, zero=0, dtype="bf16", clip=1.0))["gradient_clipping"] == 1.0
