"""The config of one model for one amount of training: who gets how much of it, in which batches, at which rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.sizing.model_sizes import CandidateModel

CONTROL_SHARE = 0.5  # of all training: the control gets as much as pretraining and finetuning together
FINETUNE_SHARE = 0.125  # of all training; a quarter of the control's steps
TRAIN_SHARE = 0.85  # of the target; the rest chooses and is scored
CORPUS_EPOCHS = 4  # Muennighoff et al. 2023: up to four, repeated text is nearly as good as new text
TARGET_EPOCHS = 12  # a model from scratch is past its best then (docs/log.md, a larger model: 1,920 steps)
FINETUNE_EPOCHS = 4
# A batch is as large as costs nothing at equal tokens; that grows with the root of a training's length
# (docs/decisions/a-run-that-fits.md).
BATCH, BATCH_LENGTH = 2048, 500_000  # tokens of a batch, for a training of so many tokens
LARGEST_BATCH = 524_288  # tokens, as GPT-3 had for models of this ladder's upper end
PRETRAIN_RATE, RATE_WIDTH = 6e-3, 128  # Muon's best rate at that width (docs/log.md, rates for Muon)
# As shares of pretraining's rate: short runs want the higher ones, long ones the lower (docs/log.md).
CONTROL_RATES = (0.5, 1.0, 2.0)
FINETUNE_RATES = (0.06, 0.25, 1.0)
HELD_OUT_BYTES = 200_000  # of the corpus, about 60,000 tokens, as `pretrain.evaluate_tokens` asks for by default
LARGEST_MICRO_BATCH = 16
# Of each source, whatever pretraining needs: a source gives whole documents, and books have millions of bytes. Reading
# so much takes a second.
SOURCE_BYTES = 5_000_000
EVALUATIONS = 10  # of one trial, and of pretraining
PATIENCE = 4
SHORT_MINUTES = 6  # below that, two seeds: five trainings an arm instead of six


@dataclass(frozen=True)
class TextSizes:
    """What there is to train on, UTF-8 bytes; a corpus of unknown size is as large as is needed."""

    target_bytes: int
    corpus_bytes: float
    fewest_characters: int | None = None  # of a document of the corpus; None: the default


@dataclass(frozen=True)
class Wish:
    """What the user asks for. `target` and `sources` are written into the config as they are."""

    name: str
    minutes: float
    ranks: int
    dtype: str
    texts: TextSizes
    target: Mapping[str, Any]
    sources: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Amounts:
    """Tokens of each training."""

    pretrain: int
    scratch: int  # of one trial or refit
    finetune: int  # likewise
    trainings: int  # of each arm: trials and refits


def amounts(size: CandidateModel, total: float, wish: Wish) -> Amounts:
    """Share `total` tokens of training among pretraining and both arms; what an arm has no use for pretraining gets."""
    trainings = len(CONTROL_RATES) + (2 if wish.minutes < SHORT_MINUTES else 3)
    target = TRAIN_SHARE * wish.texts.target_bytes / size.bytes_per_token
    scratch = min(CONTROL_SHARE * total / trainings, TARGET_EPOCHS * target)
    finetune = min(FINETUNE_SHARE * total / trainings, FINETUNE_EPOCHS * target)
    left = total - trainings * (scratch + finetune)
    pretrain = min(left, CORPUS_EPOCHS * wish.texts.corpus_bytes / size.bytes_per_token)
    return Amounts(int(pretrain), int(scratch), int(finetune), trainings)


def config_values(size: CandidateModel, total: float, wish: Wish) -> dict[str, Any]:
    """The keys of the config that trains this model on `total` tokens in all; what is left out keeps its default."""
    share = amounts(size, total, wish)
    unit = wish.ranks * size.context  # one sample a rank, the smallest batch
    batch = _batch_tokens(share.pretrain, unit)
    arm_batch = min(batch, _batch_tokens(share.scratch, unit))
    rate = PRETRAIN_RATE * math.sqrt(RATE_WIDTH / size.width)
    common = {"optimizer": "muon", "dtype": wish.dtype}
    pretrain_tokens = max(share.pretrain // batch, 1) * batch
    return {
        "name": wish.name,
        "target": dict(wish.target),
        "corpus": _corpus(size, pretrain_tokens, wish),
        "tokenizer": {"vocab_size": size.vocab_size},
        "model": {"layers": size.layers, "width": size.width, "heads": size.heads, "context": size.context},
        "pretrain": {
            **common,
            "tokens": pretrain_tokens,
            **_batch(batch, unit),
            "learning_rate": _rounded(rate),
            "evaluate_every": max(pretrain_tokens // batch // EVALUATIONS, 1),
            "evaluate_tokens": max(min(65_536, pretrain_tokens // 50) // unit, 1) * unit,
        },
        "scratch": {**common, **_arm(share.scratch, arm_batch, unit, rate, CONTROL_RATES, share.trainings)},
        "finetune": {**common, **_arm(share.finetune, arm_batch, unit, rate, FINETUNE_RATES, share.trainings)},
        "launch": {"ranks": wish.ranks},
    }


def _corpus(size: CandidateModel, tokens: int, wish: Wish) -> dict[str, Any]:
    """The corpus, cut to what pretraining has time to see, with a margin for what cleaning drops."""
    needed = max(1.5 * tokens * size.bytes_per_token + HELD_OUT_BYTES, SOURCE_BYTES * len(wish.sources))
    kept = min(needed, wish.texts.corpus_bytes)
    section: dict[str, Any] = {"sources": [dict(source) for source in wish.sources]}
    if needed < wish.texts.corpus_bytes:
        section["max_bytes"] = math.ceil(needed / 100_000) * 100_000
    if wish.texts.fewest_characters is not None:
        section["min_characters"] = wish.texts.fewest_characters
    section["validation"] = round(min(max(HELD_OUT_BYTES / kept, 0.01), 0.1), 3)
    return section


def _arm(tokens: int, batch: int, unit: int, peak: float, shares: tuple[float, ...], trainings: int) -> dict[str, Any]:
    """One arm: a grid of rates on the first seed, and a refit of the best of them on every seed."""
    seeds = range(1, trainings - len(shares) + 1)
    steps = max(tokens // batch, EVALUATIONS)
    return {
        "learning_rates": [_rounded(peak * share) for share in shares],
        "max_steps": steps,
        "seeds": list(seeds),
        **_batch(batch, unit),
        "evaluate_every": max(steps // EVALUATIONS, 1),
        "patience": PATIENCE,
    }


def _batch(batch: int, unit: int) -> dict[str, int]:
    return {"batch_tokens": batch, "micro_batch": math.gcd(batch // unit, LARGEST_MICRO_BATCH)}


def _batch_tokens(tokens: int, unit: int) -> int:
    """The batch of a training of so many tokens: one sample of every rank times a power of two, at least one each."""
    samples = min(BATCH * math.sqrt(tokens / BATCH_LENGTH), LARGEST_BATCH) / unit
    return int(unit * 2 ** max(math.floor(math.log2(max(samples, 1))), 0))


def _rounded(rate: float) -> float:
    """Two digits: more would suggest a precision that no grid has."""
    return float(f"{rate:.1e}")
