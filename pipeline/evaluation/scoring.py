"""The loss of saved weights on the validation text: every token scored exactly once, in float32, summed in float64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from numpy.typing import NDArray
from torch import Tensor

from gpt.model import GPT, IGNORED
from pipeline.evaluation.intervals import Losses
from pipeline.runtime.progress import Progress
from pipeline.saved_models.weights import load_model
from pipeline.tokens.scoring_windows import ScoringWindows

MAX_LOGITS = 1 << 24  # of one forward: 64 MB in float32


def score_windows(
    model: GPT, inputs: NDArray[np.int64], targets: NDArray[np.int64], device: torch.device | str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Nats lost in each window, (windows,) float64, and the tokens counted there, (windows,) int64."""
    micro_batch = max(1, MAX_LOGITS // (inputs.shape[1] * model.shape.vocab_size))
    pieces = range(0, len(inputs), micro_batch)
    nats = [_nats(model, inputs[i : i + micro_batch], targets[i : i + micro_batch], device) for i in pieces]
    return np.concatenate(nats), (targets != IGNORED).sum(axis=1)


@dataclass(frozen=True)
class ArmWeights:
    """Saved weights of one arm: those of the best and of the last step per seed, and the shape of their model."""

    model_json: Path
    best: tuple[Path, ...]
    last: tuple[Path, ...]

    @property
    def files(self) -> dict[Path, Path]:
        """Weights to score -> shape of their model."""
        return dict.fromkeys((*self.best, *self.last), self.model_json)


@dataclass(frozen=True)
class ArmScores:
    """What one arm lost at its best and at its last step."""

    best: Losses
    last: Losses

    @classmethod
    def of(cls, weights: ArmWeights, losses: Mapping[Path, Losses]) -> ArmScores:
        return cls(stacked(losses, weights.best), stacked(losses, weights.last))


def score_files(
    files: Mapping[Path, Path], windows: ScoringWindows, device: torch.device, progress: Progress
) -> dict[Path, Losses]:
    """What each file of weights loses on the windows, as one seed; `files` maps it to the shape of its model."""
    found = {}
    with progress.task("scoring the validation text", windows.num_tokens * len(files), "tokens") as task:
        for file, model_json in files.items():
            model = load_model(file, model_json, device)
            nats, counts = score_windows(model, windows.inputs, windows.targets, device)
            found[file] = Losses(nats[None], counts)
            task.advance(windows.num_tokens)
    return found


def stacked(losses: Mapping[Path, Losses], files: Sequence[Path]) -> Losses:
    """The losses of some files as the seeds of one arm."""
    rows = [losses[file] for file in files]
    return Losses(np.concatenate([row.nats for row in rows]), rows[0].tokens)


@contextmanager
def fixed_threads(threads: int) -> Iterator[None]:
    """Sums in torch depend on the number of threads; with this one the same weights give the same digits again."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def _nats(
    model: GPT, inputs: NDArray[np.int64], targets: NDArray[np.int64], device: torch.device | str
) -> NDArray[np.float64]:
    return nats_of_windows(model(torch.from_numpy(inputs).to(device)), torch.from_numpy(targets).to(device))


def nats_of_windows(logits: Tensor, targets: Tensor) -> NDArray[np.float64]:
    """Nats lost in each window, (B,), of logits (B, T, V) and targets (B, T): float32 per token, summed in float64."""
    losses = F.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(targets)
    per_window: NDArray[np.float64] = losses.cpu().double().sum(dim=1).numpy()
    return per_window
