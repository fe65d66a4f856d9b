"""Other models from scratch that the gain must hold against, whatever their size and tokenizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpt.counts import num_parameters
from pipeline.evaluation.arms import TrainedArm, read_arm
from pipeline.evaluation.bits_per_byte import BitsPerByte, as_json
from pipeline.evaluation.intervals import Estimate, Losses
from pipeline.evaluation.scoring import stacked
from pipeline.graph.work import Artifact
from pipeline.saved_models.weights import load_shape
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.tokens.tokenizer import load_tokenizer

Inputs = Mapping[str, Artifact]


@dataclass(frozen=True)
class Rival:
    """One rival's arm, and the validation text in windows of its own tokenizer and context."""

    name: str
    arm: TrainedArm
    windows: ScoringWindows
    same_windows: bool  # as those of the run's own arms

    @property
    def files(self) -> dict[Path, Path]:
        """Weights to score -> shape of their model."""
        return {file: self.arm.model_json for trial in self.arm.trials for file in (trial.best, trial.last)}


def rivals_in(names: Iterable[str], inputs: Inputs, windows: ScoringWindows, stride: int | None) -> list[Rival]:
    """The rivals of these names; `windows` are those of the run's own arms."""
    return [_rival(name, inputs, windows, stride) for name in names]


def _rival(name: str, inputs: Inputs, windows: ScoringWindows, stride: int | None) -> Rival:
    arm = read_arm(inputs[f"{name}.scratch"])
    context = load_shape(arm.model_json).context
    if f"{name}.shards" not in inputs and context == windows.inputs.shape[1]:
        return Rival(name, arm, windows, same_windows=True)
    tokenizer, shards = (inputs.get(f"{name}.{stage}", inputs[stage]).folder for stage in ("tokenizer", "shards"))
    shard, sha256 = shards / "target" / "validation.arrow", load_tokenizer(tokenizer).sha256
    own = ScoringWindows.of_shard(shard, tokenizer_sha256=sha256, context=context, stride=stride)
    return Rival(name, arm, own, same_windows=False)


def rival_section(
    rival: Rival,
    losses: Mapping[Path, Losses],
    changes: Mapping[str, Any],
    finetune: Losses | None,
    bits: BitsPerByte,
    val_bytes: int,
) -> dict[str, Any]:
    """One rival in the report: how it was trained, what it loses, and the gain of `finetune` over it.

    `bits` is that of the run's own windows. Where the rival's are the same, the gain is paired by window; else its
    interval joins both losses' intervals, which errs on the wide side.
    """
    own = BitsPerByte.of(rival.windows.num_tokens, val_bytes, resamples=bits.resamples, seed=bits.seed)
    best, last = (stacked(losses, [getattr(trial, kind) for trial in rival.arm.trials]) for kind in ("best", "last"))
    loss = own.loss(best)
    saved = None
    if finetune is not None:
        saved = bits.saved(best, finetune) if rival.same_windows else apart(loss, bits.loss(finetune))
    return {
        "name": rival.name,
        "changes": dict(changes),
        "params": num_parameters(load_shape(rival.arm.model_json)),
        **rival.arm.description(),
        "val_bits_per_byte": {**as_json(loss), "per_seed": list(loss.per_seed)},
        "last_step_val_bits_per_byte": own.loss(last).mean,
        "gain_bits_per_byte": None if saved is None else as_json(saved),
    }


def apart(first: Estimate, second: Estimate) -> Estimate:
    """First minus second of estimates that are not paired (Newcombe 1998, who joins intervals by their squares)."""
    mean = first.mean - second.mean
    low = mean - math.hypot(first.mean - first.low, second.high - second.mean)
    high = mean + math.hypot(first.high - first.mean, second.mean - second.low)
    return replace(first, mean=mean, low=low, high=high, p_value=math.nan, per_seed=())
