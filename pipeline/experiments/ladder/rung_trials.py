"""One rung trained with one seed, and scored on every character of the validation text. Finished trials are kept."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from gpt.lecture import RUNGS, fit, generate
from gpt.loss import next_token_loss
from pipeline.corpus.target_splits import target_text
from pipeline.errors import DataError, Diverged
from pipeline.experiments.ladder.rungs import Rung
from pipeline.graph.fingerprints import identity
from pipeline.runtime.files import write_text
from pipeline.runtime.threads import fixed_threads
from pipeline.runtime.versions import git_commit
from pipeline.tokens.scoring_windows import scoring_windows

FORMAT = 1  # raise it when the same config would now give another result
SCORED_AT_ONCE = 4096  # windows: a few MB of logits, as a context is 8 characters
SAMPLE_CHARACTERS = 160


@dataclass(frozen=True)
class CharacterText:
    """A text as the lecture has it: its characters, and both splits as indices into them, (N,) int64."""

    characters: str  # every character that occurs, once, sorted
    train: Tensor
    validation: Tensor


@dataclass(frozen=True)
class RungTrial:
    """What to train, on which text, and the file that holds the result once there is one."""

    rung: Rung
    seed: int
    target: Path  # folder of the stage's artifact
    file: Path


class RungTrialResult(BaseModel):
    """The result of a trial, as its file holds it; `nats_per_char` is the mean over the validation text."""

    # A field more or less is a damaged file: what changes the result also changes the file's name (FORMAT).
    model_config = ConfigDict(frozen=True, extra="forbid")
    rung: str
    seed: int
    parameters: int
    nats_per_char: float
    scored_characters: int  # of the validation text, the same for all seeds
    seconds: float  # of training and scoring
    sample: str
    commit: str


def trials_of(rung: Rung, target: Path, target_fingerprint: str, folder: Path) -> list[RungTrial]:
    """The rung's trials, one per seed. Another config, or another text, has other files."""
    text = json.dumps([FORMAT, identity(rung), target_fingerprint], sort_keys=True)
    own = folder / f"{rung.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return [RungTrial(rung, seed, target, own / f"seed-{seed}.json") for seed in rung.seeds]


def read_result(trial: RungTrial) -> RungTrialResult | None:
    """The result of a finished trial, None if it is not finished. Raises DataError if its file is damaged."""
    if not trial.file.exists():
        return None
    try:
        return RungTrialResult.model_validate_json(trial.file.read_bytes())
    except ValidationError:
        raise DataError(
            f"{trial.file} is damaged.", remedy="Delete it; the same command trains that seed again."
        ) from None


def train_and_score(trial: RungTrial) -> RungTrialResult:
    """Train, score, write a sample, and keep the result in the trial's file.

    Raises Diverged if the loss is not finite; nothing is kept then.
    """
    started = time.monotonic()
    rung, text = trial.rung, read_text(trial.target)
    generator = torch.Generator().manual_seed(trial.seed)
    # One thread: matrices this small cost less than sharing them out, and the cores are busy with other trials.
    with fixed_threads(1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)  # torch draws the first weights from its global generator
        model = RUNGS[rung.name](rung.sizes(len(text.characters)))
        plan = {"context": rung.context, "batch": rung.batch_samples, "steps": rung.steps}
        fit(model, text.train, learning_rate=rung.learning_rate, generator=generator, **plan)
        nats, scored = score(model, text.validation, rung.context)
        sample = generate(model, torch.zeros(1, 1, dtype=torch.int64), SAMPLE_CHARACTERS, rung.context, generator)
    if not math.isfinite(nats):
        raise Diverged(
            f"Rung {rung.name} with seed {trial.seed} ended with a loss of {nats}.",
            remedy="Lower learning_rate in its config.",
        )
    result = RungTrialResult(
        rung=rung.name,
        seed=trial.seed,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        nats_per_char=nats / scored,
        scored_characters=scored,
        seconds=round(time.monotonic() - started, 3),
        sample="".join(text.characters[index] for index in sample[0, 1:].tolist()),
        commit=git_commit(),
    )
    trial.file.parent.mkdir(parents=True, exist_ok=True)
    write_text(trial.file, result.model_dump_json(indent=1) + "\n")
    return result


def read_text(target: Path) -> CharacterText:
    """The text of a target artifact, in the two splits that the lecture has: it selects nothing."""
    texts = target_text(target, "refit"), target_text(target, "validation")
    characters = "".join(sorted(set("".join(texts))))
    index = {character: number for number, character in enumerate(characters)}
    splits = (torch.tensor([index[character] for character in text]) for text in texts)
    return CharacterText(characters, *splits)


@torch.inference_mode()
def score(model: nn.Module, text: Tensor, context: int) -> tuple[float, int]:
    """The loss over a text (N,) int64, summed in nats, and the number of characters scored: all but the first, once.

    The model is any of the lecture's: (B, T) int64 to logits (B, T, V). Windows of `context` characters follow one
    another without overlap, so a character is predicted from 1 to `context` earlier ones, as in training.
    """
    inputs, targets = (torch.from_numpy(windows) for windows in scoring_windows(text.numpy(), context))
    nats, scored = 0.0, 0
    for start in range(0, len(inputs), SCORED_AT_ONCE):
        piece = slice(start, start + SCORED_AT_ONCE)
        loss = next_token_loss(model(inputs[piece]), targets[piece])
        nats += float(loss.nats)
        scored += int(loss.count)
    return nats, scored
