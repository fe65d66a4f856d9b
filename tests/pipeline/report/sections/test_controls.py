from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.evaluation.arms import TrainedArm, read_arm
from pipeline.report.sections.controls import controls
from pipeline.saved_models.weights import load_shape, save_shape
from pipeline.tokens.tokenizer import load_tokenizer


def checked(chain: Any, arms: list[TrainedArm] | None = None) -> dict[str, bool]:
    found = [read_arm(chain.artifacts[name]) for name in ("scratch", "finetune")] if arms is None else arms
    return controls(chain.artifacts, found, load_tokenizer(chain.artifacts["tokenizer"].folder))


def failed(chain: Any, arms: list[TrainedArm] | None = None) -> list[str]:
    return [name for name, held in checked(chain, arms).items() if not held]


def with_folder(chain: Any, stage: str, folder: Path) -> None:
    chain.artifacts[stage] = replace(chain.artifacts[stage], folder=folder)


def test_a_fair_comparison_passes_every_control(chain: Any) -> None:
    assert failed(chain) == []


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
    assert failed(chain) == [control]


def test_a_tokenizer_file_other_than_the_counted_one_is_noticed(chain: Any) -> None:
    chain.recounted("tokenizer", sha256="e" * 64)
    assert failed(chain) == ["same_tokenizer"]


def test_another_model_is_noticed_and_another_dropout_is_none(chain: Any, tmp_path: Path) -> None:
    shape = load_shape(chain.artifacts["scratch"].folder / "model.json")
    arms = [read_arm(chain.artifacts[name]) for name in ("scratch", "finetune")]
    with_folder(chain, "scratch", tmp_path)
    save_shape(tmp_path, replace(shape, dropout=0.2))
    assert failed(chain, arms) == []
    save_shape(tmp_path, replace(shape, layers=2))
    assert failed(chain, arms) == ["same_model"]


def test_selection_text_inside_the_validation_text_is_noticed(chain: Any, tmp_path: Path) -> None:
    validation = (chain.artifacts["target"].folder / "validation.txt").read_text(encoding="utf-8")
    for name, text in (("train", "of other words"), ("selection", validation[:50]), ("validation", validation)):
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    with_folder(chain, "target", tmp_path)
    assert failed(chain) == ["selection_text_is_not_validation_text"]


def test_unequal_grids_seeds_and_choices_are_noticed(chain: Any) -> None:
    scratch, finetune = (read_arm(chain.artifacts[name]) for name in ("scratch", "finetune"))
    assert failed(chain, [scratch, replace(finetune, grid=finetune.grid[:2])]) == ["same_grid_size"]
    assert failed(chain, [scratch, replace(finetune, trials=finetune.trials[:1])]) == ["same_number_of_seeds"]
    late = tuple(replace(trial, best_step=30) for trial in finetune.trials)
    assert failed(chain, [scratch, replace(finetune, trials=late)]) == ["best_step_has_lowest_selection_loss"]
    other = replace(finetune, learning_rate=4e-3)
    assert failed(chain, [scratch, other]) == ["best_learning_rate_has_lowest_selection_loss"]


def test_a_diverged_learning_rate_does_not_count_as_best(chain: Any) -> None:
    scratch, finetune = (read_arm(chain.artifacts[name]) for name in ("scratch", "finetune"))
    diverged = {"learning_rate": 1.0, "best_selection_nats_per_token": None, "best_step": None, "steps": 7}
    grid = (*finetune.grid[1:], diverged)
    assert failed(chain, [scratch, replace(finetune, grid=grid)]) == []


@pytest.mark.parametrize("left", [3, None])
def test_validation_ngrams_left_or_uncounted_are_noticed(chain: Any, left: int | None) -> None:
    chain.recounted("shards", val_ngrams_left_in_shards=left)
    assert failed(chain) == ["no_validation_ngrams_in_shards"]


def test_scratch_alone_is_not_held_to_a_comparison(chain: Any) -> None:
    chain.without_pretraining()
    found = checked(chain, [read_arm(chain.artifacts["scratch"])])
    assert all(found.values())
    assert "same_grid_size" not in found
