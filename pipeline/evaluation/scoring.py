"""The loss of saved weights on the validation text: every token scored exactly once, in float32, summed in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

MAX_LOGITS = 1 << 24  # in one forward: 64 MB in float32


def score_windows(
    model: GPT, inputs: NDArray[np.int64], targets: NDArray[np.int64], device: torch.device | str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The loss of each window in nats, (windows,) float64, and its counted tokens, (windows,) int64.

    `inputs` and `targets` are (windows, context) int64; targets that are IGNORED count nothing.
    """
    # Logits take by far the most memory, so their number decides how many windows go through one forward.
    micro_batch = max(1, MAX_LOGITS // (inputs.shape[1] * model.shape.vocab_size))
    starts = range(0, len(inputs), micro_batch)
    nats = [_nats(model, inputs[i : i + micro_batch], targets[i : i + micro_batch], device) for i in starts]
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
    """The losses of one arm with its weights of the best and of the last step."""

    best: Losses
    last: Losses

    @classmethod
    def of(cls, weights: ArmWeights, losses: Mapping[Path, Losses]) -> ArmScores:
        return cls(stacked(losses, weights.best), stacked(losses, weights.last))


def score_files(
    files: Mapping[Path, Path], windows: ScoringWindows, device: torch.device, progress: Progress
) -> dict[Path, Losses]:
    """The losses of each file of weights on the windows, as one seed; `files` maps it to the shape of its model."""
    losses = {}
    with progress.task("scoring the validation text", windows.num_tokens * len(files), "tokens") as task:
        for file, model_json in files.items():
            model = load_model(file, model_json, device)
            nats, counts = score_windows(model, windows.inputs, windows.targets, device)
            losses[file] = Losses(nats[None], counts)
            task.advance(windows.num_tokens)
    return losses


def stacked(losses: Mapping[Path, Losses], files: Sequence[Path]) -> Losses:
    """The losses of some files as the seeds of one arm."""
    # All were scored on the same windows, so the tokens of one are those of all.
    rows = [losses[file] for file in files]
    return Losses(np.concatenate([row.nats for row in rows]), rows[0].tokens)


@torch.inference_mode()
def _nats(
    model: GPT, inputs: NDArray[np.int64], targets: NDArray[np.int64], device: torch.device | str
) -> NDArray[np.float64]:
    return nats_of_windows(model(torch.from_numpy(inputs).to(device)), torch.from_numpy(targets).to(device))


def nats_of_windows(logits: Tensor, targets: Tensor) -> NDArray[np.float64]:
    """The loss of each window in nats, (B,) float64, from logits (B, T, V) and targets (B, T).

    Float32 per token, whatever the logits are; summed in float64.
    """
    losses = F.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(targets)
    per_window: NDArray[np.float64] = losses.cpu().double().sum(dim=1).numpy()
    return per_window
