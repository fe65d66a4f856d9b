"""Did pretraining memorize? The pretrained model's loss on windows that it was trained on and on unseen documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gpt.model import GPT
from pipeline.evaluation.intervals import Losses, documents_loss, gap
from pipeline.evaluation.scoring import score_windows
from pipeline.graph.work import Artifact
from pipeline.saved_models.weights import load_model
from pipeline.tokens.batches import Batches, Mixture, corpus_mixture
from pipeline.tokens.shard import DocumentSpan


@dataclass(frozen=True)
class Sampled:
    """Windows of a mixture: tokens (windows, context + 1) int64, and the document that fills most of each."""

    tokens: np.ndarray
    documents: tuple[str, ...]


def pretraining_gap(
    pretrain: Artifact, shards: Artifact, tokenizer_sha256: str, device: torch.device, *, resamples: int
) -> dict[str, Any] | None:
    """The report's `pretrain` section: losses on both sides, their gap and its interval, in nats per token.

    The trained side is the first samples of the data order, so they were seen for certain; the other side is as many
    samples of the same mixture of sources, drawn from documents that were split off before training. None if there are
    not two windows on each side.
    """
    model = load_model(pretrain.folder / "model.safetensors", pretrain.folder / "model.json", device)
    settings, counts = pretrain.manifest.config["pretrain"], pretrain.manifest.counts
    context, weights = model.shape.context, pretrain.manifest.config["weights"]
    mixtures = [
        corpus_mixture(shards.folder, split, weights, context=context, tokenizer_sha256=tokenizer_sha256)
        for split in ("train", "validation")
    ]
    most = settings["evaluate_tokens"], counts["tokens"]
    num_windows = min(*(tokens // context for tokens in most), *(mixture.num_samples for mixture in mixtures))
    if num_windows < 2:
        return None
    batch_samples = settings["batch_tokens"] // context
    sides = [_first_samples(mixture, num_windows, batch_samples, settings["seed"]) for mixture in mixtures]
    losses = [_losses(model, side, device) for side in sides]
    train, validation = (
        documents_loss(one, side.documents, resamples=resamples, seed=settings["seed"])
        for one, side in zip(losses, sides, strict=True)
    )
    estimate = gap(losses[0], losses[1], [side.documents for side in sides], resamples=resamples, seed=settings["seed"])
    return {
        "tokens": counts["tokens"],
        "steps": counts["tokens"] // settings["batch_tokens"],
        "train_nats_per_token": train.mean,
        "train_nats_per_token_ci95": [train.low, train.high],
        "val_nats_per_token": validation.mean,
        "val_nats_per_token_ci95": [validation.low, validation.high],
        "gap": estimate.mean,
        "gap_ci95": [estimate.low, estimate.high],
        "windows": num_windows,
        "train_documents": len(set(sides[0].documents)),
        "validation_documents": len(set(sides[1].documents)),
    }


def _first_samples(mixture: Mixture, num_windows: int, batch_samples: int, seed: int) -> Sampled:
    batches = Batches(mixture, batch_samples=min(batch_samples, num_windows), seed=seed)
    steps = range(-(-num_windows // batches.batch_samples))
    samples = [sample for step in steps for sample in batches.samples_of_step(step)][:num_windows]
    tokens = np.stack([mixture.tokens(sample) for sample in samples]).astype(np.int64)
    return Sampled(tokens, tuple(_main_document(mixture.documents(sample)) for sample in samples))


def _main_document(spans: Sequence[DocumentSpan]) -> str:
    return max(spans, key=lambda span: span.last - span.first).document


def _losses(model: GPT, side: Sampled, device: torch.device) -> Losses:
    nats, tokens = score_windows(model, side.tokens[:, :-1], side.tokens[:, 1:], device)
    return Losses(nats[None], tokens)
