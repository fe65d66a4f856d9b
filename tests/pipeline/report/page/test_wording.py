from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.evaluation.arms import TrainedArm, read_arm
from pipeline.report.page.wording import alarms, caveats, headline
from pipeline.report.sections.references import SHA256, references


def report(low: float, mean: float, high: float, **changes: Any) -> dict[str, Any]:
    gain = {"bits_per_byte": {"mean": mean, "ci95": [low, high], "p_value": 0.5}, "helps": low > 0}
    target = {"name": "tiny-shakespeare", "origin": "FOLIO_DATA"}
    return {"target": target, "gain": gain, "contamination": None, "controls": {}} | changes


@pytest.mark.parametrize(
    ("interval", "sentence"),
    [
        (
            (0.461, 0.478, 0.496),
            "Pretraining helps on Tiny Shakespeare: it saves 0.478 bits per byte (95% interval 0.461 to 0.496).",
        ),
        (
            (-0.2, -0.1, -0.05),
            "Pretraining hurts on Tiny Shakespeare: it costs 0.100 bits per byte (gain 95% interval -0.200 to -0.050).",
        ),
        (
            (-0.1, 0.02, 0.14),
            "No gain shown on Tiny Shakespeare: 0.020 bits per byte (95% interval -0.100 to 0.140 includes zero).",
        ),
    ],
)
def test_headline_says_what_the_interval_allows(interval: tuple[float, float, float], sentence: str) -> None:
    assert str(headline(report(*interval))).replace("\N{MINUS SIGN}", "-") == sentence


def test_stand_ins_failed_controls_and_contamination_raise_alarms() -> None:
    assert alarms(report(0.1, 0.2, 0.3)) == []
    found = alarms(
        report(
            0.1,
            0.2,
            0.3,
            target={"name": "python-language-reference", "origin": "installed text"},
            contamination={"val_ngrams_left_in_shards": 1234, "corpus_origin": "installed text"},
            controls={"same_model": False, "same_split": True},
        )
    )
    assert [line.split(",")[0].split(":")[0][:30] for line in found] == [
        "The target is not what was ask",
        "The corpus is a stand-in as we",
        "1",
        "Controls that did not hold",
    ]
    assert "same model" in found[-1] and "same split" not in found[-1]


@pytest.fixture
def arm(chain: Any) -> TrainedArm:
    return read_arm(chain.artifacts["scratch"])


def test_a_rate_inside_the_grid_and_a_step_before_the_end_need_no_caveat(arm: TrainedArm) -> None:
    assert caveats([arm], {"scratch": 100}) == []


def test_a_rate_at_the_edge_of_the_grid_is_a_caveat(arm: TrainedArm) -> None:
    assert (
        "at the edge of the grid (0.002 of 0.001 to 0.002)"
        in caveats([replace(arm, grid=arm.grid[:2])], {"scratch": 100})[0]
    )
    assert "only one learning rate" in caveats([replace(arm, grid=arm.grid[1:2])], {"scratch": 100})[0]


def test_a_best_step_at_the_end_is_a_caveat(arm: TrainedArm) -> None:
    assert "still improving at its last step" in caveats([arm], {"scratch": 20})[0]


def test_one_seed_and_diverged_seeds_are_caveats(arm: TrainedArm) -> None:
    found = caveats([replace(arm, trials=arm.trials[:1], diverged_seeds=(2,))], {"scratch": 100})
    assert "diverged with seed 2" in found[0] and "one seed" in found[1]


def test_published_losses_are_shown_for_the_whole_of_tiny_shakespeare_alone() -> None:
    target = {"sha256": SHA256, "validation_characters": 111_540}
    assert [one["low"] for one in references(target)] == [2.13, 2.12, 1.881]
    assert references(target | {"sha256": "0" * 64}) == []
    assert references(target | {"validation_characters": 55_770}) == []
