from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.evaluation import scoring
from pipeline.report.finished_run import FinishedRun
from pipeline.report.run_scores import RunScores, arm_weights, scored
from pipeline.runtime.progress import Progress


def scores_of(run: FinishedRun) -> RunScores:
    return scored(run, torch.device("cpu"), Progress("report"))


def test_every_file_is_scored_once_on_the_windows_of_its_model(
    whole_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    original = scoring.load_model
    monkeypatch.setattr(scoring, "load_model", lambda path, *rest: loaded.append(path) or original(path, *rest))
    scores = scores_of(whole_run)
    assert len(loaded) == len(set(loaded)) == len(scores.files)
    # 2 arms x 2 seeds, zero-shot; 4 branches before and after; 2 rivals x 2 seeds; 3 of the other size.
    # The leak ablation's weights are the run's own, in this chain.
    assert len(loaded) == 5 + 8 + 4 + 3
    short = whole_run.rivals[1]
    assert scores.files[short.arm.weights[0]].tokens.shape == (len(short.windows.inputs),)


def test_arms_are_in_the_order_of_the_report(whole_run: FinishedRun) -> None:
    assert list(arm_weights(whole_run)) == ["scratch", "zero_shot", "finetune"]


def test_what_is_scored_of_an_arm_is_every_seed(chain: Any) -> None:
    run = FinishedRun.of(chain.work())
    scores = scores_of(run)
    assert scores.scratch.nats.shape == (2, len(run.windows.inputs))
    assert np.array_equal(scores.scratch.nats[1:], scores.files[run.arms[0].weights[1]].nats)
    assert np.array_equal(scores.arms["scratch"].last.nats, scores.scratch.nats), "a refit ends where it is scored"
    assert scores.has_gain and scores.finetune is scores.arms["finetune"].best


def test_a_run_that_pretrains_nothing_has_no_gain(chain: Any) -> None:
    chain.without_pretraining()
    scores = scores_of(FinishedRun.of(chain.work()))
    assert list(scores.arms) == ["scratch"] and not scores.has_gain
