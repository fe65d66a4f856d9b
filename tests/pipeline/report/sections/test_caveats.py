from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.arms import TrainedArm, read_arm
from pipeline.report.finished_run import FinishedRun
from pipeline.report.sections.caveats import (
    arm_caveats,
    batch_caveats,
    caveats_section,
    rival_caveats,
    short_text_caveats,
)
from pipeline.report.sections.methods import methods_section
from pipeline.tokens.scoring_windows import ScoringWindows, windows_of_pieces


def nothing_held_out(chain: Any) -> None:
    empty = {"documents": 0, "tokens": 0, "bytes": 0}
    chain.recounted("shards", corpus_validation=empty)


@pytest.fixture
def arm(chain: Any) -> TrainedArm:
    return read_arm(chain.artifacts["scratch"])


def doubts(arm: TrainedArm, max_steps: int = 100) -> list[str]:
    return list(arm_caveats([arm], {"scratch": max_steps}))


def test_a_rate_inside_the_grid_and_a_step_before_the_end_need_no_caveat(arm: TrainedArm) -> None:
    assert doubts(arm) == []


def test_a_rate_at_the_edge_of_the_grid_is_a_caveat(arm: TrainedArm) -> None:
    (edge,) = doubts(replace(arm, grid=arm.grid[:2]))
    assert "at the edge of the grid (0.002 of 0.001 to 0.002)" in edge
    (only,) = doubts(replace(arm, grid=arm.grid[1:2]))
    assert "only one learning rate was tried, 0.002" in only


def test_a_best_step_at_the_end_is_a_caveat(arm: TrainedArm) -> None:
    assert doubts(arm, max_steps=21) == []
    (still,) = doubts(arm, max_steps=20)
    assert "still improving at its last step" in still


def test_one_seed_and_diverged_seeds_are_caveats(arm: TrainedArm) -> None:
    diverged, one_seed = doubts(replace(arm, trials=arm.trials[:1], diverged_seeds=(2,)))
    assert "diverged with seed 2" in diverged and "one seed" in one_seed


def test_rivals_that_beat_the_control_are_caveats_the_best_first(whole: Any) -> None:
    fewer, short = whole.report.rivals
    best, second = sorted((fewer, short), key=lambda rival: rival.val_bits_per_byte.mean)
    lines = rival_caveats([fewer, short], control=9.0)
    assert [line.split(",")[0] for line in lines] == [best.name, second.name]
    assert "less than the control's 9.000; the gain over it is" in lines[0]
    between = (best.val_bits_per_byte.mean + second.val_bits_per_byte.mean) / 2
    assert len(rival_caveats([fewer, short], control=between)) == 1
    assert rival_caveats([fewer, short], control=0.1) == []


def test_a_gap_that_was_not_measured_is_a_caveat_if_there_was_a_corpus(chain: Any) -> None:
    run = FinishedRun.of(chain.work())
    [*_, one_pretraining, gap] = caveats_section(run, 2.0, (), pretraining=None)
    assert one_pretraining.startswith("One pretraining run")
    assert gap == "The corpus has too little validation text to say how much pretraining memorized."
    chain.without_pretraining()
    assert caveats_section(FinishedRun.of(chain.work("alone")), 2.0, (), pretraining=None) == ()


def test_nothing_held_out_of_the_corpus_is_another_caveat_than_too_little(chain: Any) -> None:
    nothing_held_out(chain)
    lines = caveats_section(FinishedRun.of(chain.work()), 2.0, (), pretraining=None)
    assert lines[-1] == "No part of the corpus was held out, so nothing says how much pretraining memorized."


def test_batches_smaller_than_the_config_asks_for_are_a_caveat(chain: Any) -> None:
    assert list(batch_caveats(FinishedRun.of(chain.work()))) == []
    for stage in ("pretrain", "scratch"):
        chain.reconfigured(stage, batch_tokens=128)
    assert list(batch_caveats(FinishedRun.of(chain.work("short")))) == [
        f"{stage}: the text is too short for batches of 128 tokens; they had 64." for stage in ("pretrain", "scratch")
    ]


def test_a_target_of_a_few_windows_is_a_caveat(chain: Any) -> None:
    run = FinishedRun.of(chain.work())
    assert list(short_text_caveats(run)) == []
    tokens = np.arange(64, dtype=np.uint16) % 8
    few = replace(run, windows=ScoringWindows(*windows_of_pieces(tokens, 16, 20), in_pieces=True))
    (text,) = short_text_caveats(few)
    assert text.startswith("The validation text has 63 tokens; the interval rests on 4 draws of neighbouring pieces")
    assert "each window counts one of 20 pieces" in methods_section(few)["Loss"]
    assert "pieces" not in methods_section(run)["Loss"]
    chain.recounted("shards", target_selection={"documents": 1, "tokens": 16, "bytes": 16})
    (choice,) = short_text_caveats(FinishedRun.of(chain.work("short")))
    assert choice == "Learning rates and best steps were chosen on 16 tokens, less than one window."
