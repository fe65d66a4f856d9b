"""Did pretraining memorize? The pretrained model's loss on windows that it was trained on and on unseen documents.

Where nothing of the corpus was held out there is nothing unseen to compare with: the trained windows stand alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gpt.model import GPT
from pipeline.evaluation.intervals import DocumentLosses, Estimate, Losses, documents_loss, gap
from pipeline.evaluation.scoring import score_windows
from pipeline.graph.stage_counts import PretrainCounts, ShardsCounts
from pipeline.graph.work import Artifact
from pipeline.saved_models.model_files import SHAPE, WEIGHTS
from pipeline.saved_models.weights import load_model
from pipeline.tokens.batches import Batches, corpus_mixture
from pipeline.tokens.shard import DocumentSpan


@dataclass(frozen=True)
class GapSide:
    """The loss on one side of the gap, in nats per token, and how many documents its windows come from."""

    loss: Estimate
    num_documents: int


@dataclass(frozen=True)
class MemorizationGap:
    """Losses on as many windows of trained and of unseen documents; `gap` is validation minus train, nats per token.

    Without two windows of unseen documents there is neither `validation` nor `gap`.
    """

    num_windows: int  # on each side
    train: GapSide
    validation: GapSide | None
    gap: Estimate | None


def memorization_gap(
    pretrain: Artifact, shards: Artifact, tokenizer_sha256: str, device: torch.device, *, resamples: int
) -> MemorizationGap | None:
    """How much lower the pretrained model's loss is on what it was trained on; None for fewer than two trained windows.

    The train side is the first samples of the data order, so they were seen for certain; the validation side is as
    many samples of the same mixture of sources, drawn from documents that were split off before training.
    """
    model = load_model(pretrain.folder / WEIGHTS, pretrain.folder / SHAPE, device)
    section, weights = pretrain.manifest.config["pretrain"], pretrain.manifest.config["weights"]
    context, seed = model.shape.context, section["seed"]
    splits = ["train"] + ["validation"] * (shards.counts_as(ShardsCounts).corpus_validation.tokens > 0)
    train, *held_out = (
        corpus_mixture(shards.folder, split, weights, context=context, tokenizer_sha256=tokenizer_sha256)
        for split in splits
    )
    most_tokens = min(section["evaluate_tokens"], pretrain.counts_as(PretrainCounts).tokens)
    most = min(most_tokens // context, train.num_samples)
    held_out = [mixture for mixture in held_out if mixture.num_samples >= 2]
    num_windows = min([most, *(mixture.num_samples for mixture in held_out)])
    if num_windows < 2:
        return None
    # Samples are taken batch by batch, as training took them: its first batches, and so samples that it has seen.
    batch_samples = min(section["batch_tokens"] // context, num_windows)
    seen, *unseen = (
        _scored(model, Batches(mixture, batch_samples=batch_samples, seed=seed), num_windows, device)
        for mixture in (train, *held_out)
    )
    return MemorizationGap(
        num_windows=num_windows,
        train=_side(seen, resamples, seed),
        validation=_side(unseen[0], resamples, seed) if unseen else None,
        gap=gap(seen, unseen[0], resamples=resamples, seed=seed) if unseen else None,
    )


def _side(scored: DocumentLosses, resamples: int, seed: int) -> GapSide:
    return GapSide(documents_loss(scored, resamples=resamples, seed=seed), len(set(scored.documents)))


def _scored(model: GPT, batches: Batches, num_windows: int, device: torch.device) -> DocumentLosses:
    """The losses of the first samples of these batches, each window with the document that fills most of it."""
    steps = range(-(-num_windows // batches.batch_samples))
    samples = [sample for step in steps for sample in batches.samples_of_step(step)][:num_windows]
    windows = np.stack([batches.mixture.tokens(sample) for sample in samples]).astype(
        np.int64
    )  # (windows, context + 1)
    nats, tokens = score_windows(model, windows[:, :-1], windows[:, 1:], device)
    # A window may run over the end of a document: its loss counts for the one that it shows most of.
    documents = tuple(_main_document(batches.mixture.documents(sample)) for sample in samples)
    return DocumentLosses(Losses(nats[None], tokens), documents)


def _main_document(spans: Sequence[DocumentSpan]) -> str:
    return max(spans, key=lambda span: span.last - span.first).document
