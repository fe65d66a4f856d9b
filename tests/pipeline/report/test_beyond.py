"""What the report says beyond its arms: the curve over pretraining, the leak ablation, the rivals."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pipeline.evaluation.intervals import Estimate
from pipeline.report.page import render
from pipeline.report.sections.rivals import apart


@pytest.fixture(scope="module")
def found(whole: Any) -> dict[str, Any]:
    return dict(whole.content)


def test_curve_has_the_branches_and_the_whole_pretraining(found: dict[str, Any]) -> None:
    points = found["curve"]["points"]
    assert [point["tokens"] for point in points] == [64, 128, 256, 640, 1280]
    assert [point["learning_rate"] for point in points] == [2e-3] * 5
    whole = points[-1]
    assert whole["zero_shot"]["mean"] == found["arms"]["zero_shot"]["val_bits_per_byte"]["mean"]
    assert whole["finetune"]["mean"] == found["arms"]["finetune"]["val_bits_per_byte"]["per_seed"][0]
    for point in points:
        low, high = point["finetune"]["ci95"]
        assert low < point["finetune"]["mean"] < high
        scratch = found["arms"]["scratch"]["val_bits_per_byte"]["mean"]
        assert point["gain"]["mean"] == pytest.approx(scratch - point["finetune"]["mean"], abs=1e-5)
    assert points[1]["flops"] / points[1]["tokens"] < points[0]["flops"] / points[0]["tokens"], "finetuning counts too"


def test_curve_ends_with_the_next_doubling(found: dict[str, Any]) -> None:
    ahead = found["curve"]["law"]["next_doubling"]
    assert ahead["tokens"] == 2560
    low, high = ahead["finetune"]["ci95"]
    assert low <= ahead["finetune"]["mean"] <= high
    assert ahead["saves"]["mean"] >= 0


def test_leak_of_the_same_weights_is_no_memory(found: dict[str, Any]) -> None:
    leak = found["leak"]
    assert leak["val_ngrams_left_in_shards"] == 7
    assert (leak["documents_left_in"], leak["bytes_left_in"], leak["val_ngrams_total"]) == (2, 640, 70)
    assert leak["memory"]["mean"] == 0.0 and leak["memory"]["p_value"] > 0.9
    assert leak["gain"] == {name: found["gain"]["bits_per_byte"][name] for name in ("mean", "ci95")}
    assert leak["finetune"]["mean"] == found["arms"]["finetune"]["val_bits_per_byte"]["mean"]


def test_rivals_are_scored_on_their_own_windows(found: dict[str, Any]) -> None:
    fewer, short = found["rivals"]
    assert (fewer["name"], short["name"]) == ("fewer steps", "short")
    assert fewer["changes"] == {"scratch.max_steps": 3}
    finetune = found["arms"]["finetune"]["val_bits_per_byte"]["mean"]
    for rival in (fewer, short):
        over_it = rival["gain_bits_per_byte"]
        assert over_it["mean"] == pytest.approx(rival["val_bits_per_byte"]["mean"] - finetune, abs=1e-5)
        assert over_it["ci95"][0] < over_it["mean"] < over_it["ci95"][1]
    assert fewer["val_bits_per_byte"]["mean"] != short["val_bits_per_byte"]["mean"]
    scratch = found["arms"]["scratch"]["val_bits_per_byte"]["mean"]
    named = [caveat for caveat in found["caveats"] if "less than the control's" in caveat]
    assert len(named) == sum(rival["val_bits_per_byte"]["mean"] < scratch for rival in (fewer, short)) > 0


def test_sizes_stand_beside_the_run_smallest_first(found: dict[str, Any]) -> None:
    small, own = found["sizes"]
    assert (small["name"], own["name"]) == ("small", "this run")
    assert small["params"] < own["params"] == found["arms"]["scratch"]["params"]
    assert small["gain"]["mean"] == 0.0, "the same weights in all its arms"
    assert own["scratch"]["mean"] == found["arms"]["scratch"]["val_bits_per_byte"]["per_seed"][0]
    assert own["gain"]["mean"] == pytest.approx(own["scratch"]["mean"] - own["finetune"]["mean"], abs=1e-5)


def test_unpaired_difference_joins_intervals_by_their_squares() -> None:
    found = apart(Estimate(2.0, 1.7, 2.3, 0.0), Estimate(1.0, 0.6, 1.4, 0.0))
    assert (found.mean, found.low, found.high) == pytest.approx((1.0, 0.5, 1.5))


def test_page_and_text_show_every_part(whole: Any, found: dict[str, Any]) -> None:
    html, text = ((whole.folder / name).read_text() for name in ("report.html", "report.md"))
    for heading in (
        "Does the gain hold against other models from scratch?",
        "How much pretraining does it take?",
        "Does it hang on the size of the model?",
        "How much would have been memory?",
    ):
        assert heading in html
    for heading in (
        "## Other models from scratch",
        "## The gain over pretraining",
        "## The gain over model size",
        "## The leak ablation",
    ):
        assert heading in text
    for subject in ("Rivals", "Curve", "Leak"):
        assert subject in found["methods"]
    shown = re.findall(r"<title>([^<]*)</title></path>", html)
    assert any("Next doubling, 2.56k tokens" in title for title in shown)
    assert found["rivals"][1]["name"] in html
    assert set(found["cost"]) >= {"leak.pretrain", "fewer steps.scratch"}


def test_a_leak_ablation_without_a_leak_says_so(found: dict[str, Any]) -> None:
    assert "how well the result repeats" not in render.markdown(found).replace("\n", " ")
    clean = found | {"leak": found["leak"] | {"documents_left_in": 0}}
    assert "how well the result repeats" in render.markdown(clean).replace("\n", " ")
    assert "would have come from the leak" not in render.markdown(clean)


def test_a_rivals_changes_read_as_they_are_written(found: dict[str, Any]) -> None:
    rival = found["rivals"][0] | {"changes": {"scratch.learning_rates": ["2e-3", "4e-3"], "model.width": 64}}
    shown = render.markdown(found | {"rivals": [rival]})
    assert "| scratch.learning_rates: 2e-3 4e-3, model.width: 64 |" in shown


def test_cost_names_what_the_branches_took_of_a_stage(whole: Any, found: dict[str, Any]) -> None:
    assert found["cost"]["pretrain"]["branch_seconds"] == 4 * 0.75
    assert found["cost"]["scratch"]["branch_seconds"] == 0
    assert "<small>3.0 s for the curve</small>" in whole.html
    assert ", 3.0 s for the curve |" in (whole.folder / "report.md").read_text(encoding="utf-8")


def test_config_in_the_report_is_that_of_the_run_and_not_of_the_leak(found: dict[str, Any]) -> None:
    assert found["provenance"]["config"]["name"] == "tiny"
    assert found["provenance"]["config"]["model"]["context"] == 16


def test_a_plain_report_has_none_of_it(written: Any) -> None:
    assert (written.content["curve"], written.content["leak"]) == (None, None)
    assert (written.content["rivals"], written.content["sizes"]) == ([], [])
    assert "How much would have been memory" not in written.html
