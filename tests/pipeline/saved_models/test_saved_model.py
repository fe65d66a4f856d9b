from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gpt.model import GPT, GPTShape
from pipeline.errors import DataError
from pipeline.graph.manifest import Manifest, write_manifest
from pipeline.saved_models.model_files import BEST, LAST, SHAPE, TRIALS, WEIGHTS
from pipeline.saved_models.saved_model import SavedModel, open_model
from pipeline.saved_models.trial_record import TrialRecord
from pipeline.saved_models.weights import save_shape, save_weights

MODEL = GPT(GPTShape(vocab_size=4, layers=1, width=8, heads=2, context=4)).initialize(1)


def tokenizer_in(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps({"kind": "char", "characters": "abc"}))
    return folder


def artifact_in(store: Path, stage: str) -> Path:
    """A finished artifact of a training stage, with its tokenizer in the same store."""
    tokenizer_in(store / f"tokenizer-{'7' * 12}")
    folder = store / f"{stage}-{'0' * 12}"
    folder.mkdir()
    save_shape(folder, MODEL.shape)
    manifest = Manifest(
        stage=stage,
        run="x",
        fingerprint="0" * 64,
        config={},
        inputs={"tokenizer": "7" * 64},
        files=(),
        counts={},
        seconds=1.0,
        rank_seconds=1.0,
        peak_memory_bytes=1,
        finished="2026-01-01T00:00:00+00:00",
        versions={},
        git_commit="0" * 12,
    )
    write_manifest(folder, manifest)
    return folder


def trial_in(
    artifact: Path, name: str, loss: float | None, *, weights: bool = True, seed: int = 1, refit: bool = False
) -> Path:
    folder = artifact / TRIALS / name
    folder.mkdir(parents=True)
    TrialRecord(
        learning_rate=1e-3,
        seed=seed,
        steps=4,
        tokens=16,
        tokens_per_second=1.0,
        best_step=None if loss is None else 4,
        best_selection_nats_per_token=loss,
        diverged=False,
        curve=(),
        refit=refit,
    ).write(folder)
    if weights:
        for file in (BEST, LAST):
            save_weights(folder / file, MODEL.state_dict())
    return folder / (LAST if refit else BEST)


def test_pretrained_artifact_opens_with_the_tokenizer_it_was_made_from(tmp_path: Path) -> None:
    folder = artifact_in(tmp_path, "pretrain")
    save_weights(folder / WEIGHTS, MODEL.state_dict())
    saved = SavedModel.of(folder)
    assert (saved.weights, saved.shape, saved.artifact) == (folder / WEIGHTS, folder / SHAPE, folder)
    model, tokenizer = open_model(folder)
    assert tokenizer.decode(tokenizer.encode("cab")) == "cab"
    assert torch.equal(model(torch.tensor([[1, 2]])), MODEL.eval()(torch.tensor([[1, 2]])))


def test_arm_opens_at_the_best_trial_whose_weights_were_kept(tmp_path: Path) -> None:
    folder = artifact_in(tmp_path, "scratch")
    trial_in(folder, "lost", 1.0, weights=False)
    trial_in(folder, "nan", None)
    best = trial_in(folder, "second", 1.5)
    trial_in(folder, "third", 2.0)
    assert SavedModel.of(folder).weights == best


def test_arm_with_refits_opens_at_the_first_of_them(tmp_path: Path) -> None:
    folder = artifact_in(tmp_path, "scratch")
    trial_in(folder, "lr-0.1-seed-1", 1.0)
    first = trial_in(folder, "refit-lr-0.1-seed-1", None, refit=True)
    trial_in(folder, "refit-lr-0.1-seed-2", None, refit=True, seed=2)
    assert SavedModel.of(folder).weights == first


def test_weights_file_belongs_to_the_artifact_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = artifact_in(tmp_path, "scratch")
    weights = trial_in(folder, "t", 2.0)
    monkeypatch.chdir(weights.parent)
    assert SavedModel.of(Path(BEST)).artifact == folder


def test_imported_folder_holds_its_own_tokenizer(tmp_path: Path) -> None:
    folder = tokenizer_in(tmp_path / "gpt2")
    save_weights(folder / WEIGHTS, MODEL.state_dict())
    assert SavedModel.of(folder) == SavedModel(folder / WEIGHTS, folder / SHAPE, folder, artifact=None)


def test_path_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no weights"):
        SavedModel.of(tmp_path)
    save_weights(tmp_path / WEIGHTS, MODEL.state_dict())
    with pytest.raises(DataError, match="does not lie in a finished artifact") as caught:
        SavedModel.of(tmp_path)
    assert caught.value.remedy == "Finish its stage first."
