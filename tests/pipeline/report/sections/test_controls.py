from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.corpus.target_splits import TargetSplits
from pipeline.report.finished_run import FinishedRun
from pipeline.report.run_scores import scored
from pipeline.report.section_records import ReportedControls
from pipeline.report.sections.controls import controls_section
from pipeline.runtime.progress import Progress
from pipeline.saved_models.weights import load_shape, save_shape


def controls_of(run: FinishedRun) -> ReportedControls:
    return controls_section(run, scored(run, torch.device("cpu"), Progress("report")))


def failed(run: FinishedRun) -> list[str]:
    return [name for name, held in controls_of(run).by_name().items() if not held]


@pytest.fixture
def run(chain: Any) -> FinishedRun:
    return FinishedRun.of(chain.work("read"))


def test_a_fair_comparison_passes_every_control(run: FinishedRun) -> None:
    assert failed(run) == []


@pytest.mark.parametrize(
    ("stage", "reads", "control"),
    [
        ("scratch", "tokenizer", "same_tokenizer"),
        ("shards", "tokenizer", "same_tokenizer"),
        ("finetune", "shards", "same_split"),
        ("pretrain", "shards", "same_split"),
        ("shards", "target", "same_split"),
        ("finetune", "pretrain", "finetuned_from_this_pretraining"),
    ],
)
def test_an_arm_made_from_another_artifact_is_noticed(chain: Any, stage: str, reads: str, control: str) -> None:
    chain.reinput(stage, **{reads: "e" * 64})
    assert failed(FinishedRun.of(chain.work())) == [control]


def test_a_tokenizer_file_other_than_the_counted_one_is_noticed(chain: Any) -> None:
    chain.recounted("tokenizer", sha256="e" * 64)
    assert failed(FinishedRun.of(chain.work())) == ["same_tokenizer"]


def test_another_model_is_noticed_and_another_dropout_is_not(run: FinishedRun, tmp_path: Path) -> None:
    shape = load_shape(run.arms[0].model_json)
    moved = replace(run, artifacts={**run.artifacts, "scratch": replace(run.artifacts["scratch"], folder=tmp_path)})
    save_shape(tmp_path, replace(shape, dropout=0.2))
    assert failed(moved) == []
    save_shape(tmp_path, replace(shape, layers=2))
    assert failed(moved) == ["same_model"]


def test_selection_text_inside_the_validation_text_is_noticed(chain: Any, tmp_path: Path) -> None:
    validation = (chain.artifacts["target"].folder / "validation.txt").read_text(encoding="utf-8")
    words = "of other words " * 20
    text = words + validation[:60] + words
    spans = {"train": ((0, 300), (360, 660)), "selection": ((300, 360),), "refit": ((0, 660),)}
    TargetSplits(**spans, validation=((660, 660 + len(validation)),)).write(tmp_path, text + validation)
    chain.moved("target", tmp_path)
    assert failed(FinishedRun.of(chain.work())) == ["selection_text_is_not_validation_text"]


def test_unequal_grids_seeds_and_choices_are_noticed(run: FinishedRun) -> None:
    scratch, finetune = run.arms

    def failed_with(**changes: Any) -> list[str]:
        return failed(replace(run, arms=(scratch, replace(finetune, **changes))))

    assert failed_with(grid=finetune.grid[:2]) == ["same_grid_size"]
    assert failed_with(trials=finetune.trials[:1]) == ["same_number_of_seeds"]
    late = [record.model_copy(update={"best_step": 30}) for record in finetune.grid_records]
    assert failed_with(grid_records=tuple(late)) == ["best_step_has_lowest_selection_loss"]
    assert failed_with(learning_rate=4e-3) == [
        "best_learning_rate_has_lowest_selection_loss",
        "refits_follow_the_best_trial",
    ]
    longer = [replace(trial, record=trial.record.model_copy(update={"steps": 30})) for trial in finetune.trials]
    assert failed_with(trials=tuple(longer)) == ["refits_follow_the_best_trial"]


def test_a_diverged_learning_rate_does_not_count_as_best(run: FinishedRun) -> None:
    scratch, finetune = run.arms
    nothing = {"best_selection_nats_per_token": None, "best_step": None, "diverged": True}
    diverged = finetune.grid[0].model_copy(update={"learning_rate": 1.0, "steps": 7, **nothing})
    grid = (*finetune.grid[1:], diverged)
    assert failed(replace(run, arms=(scratch, replace(finetune, grid=grid)))) == []


@pytest.mark.parametrize("left", [3, None])
def test_validation_ngrams_left_or_uncounted_are_noticed(chain: Any, left: int | None) -> None:
    chain.recounted("shards", val_ngrams_left_in_shards=left)
    assert failed(FinishedRun.of(chain.work())) == ["no_validation_ngrams_in_shards"]


def test_scratch_alone_is_not_held_to_a_comparison(chain: Any) -> None:
    chain.without_pretraining()
    held = controls_of(FinishedRun.of(chain.work())).by_name()
    assert all(held.values())
    assert "same_grid_size" not in held
    assert list(held)[-2:] == ["same_windows", "refits_follow_the_best_trial"]
