"""Section `pretrain`: did pretraining memorize its corpus?"""

from __future__ import annotations

import torch

from pipeline.evaluation.memorization_gap import memorization_gap
from pipeline.graph.stage_counts import PretrainCounts
from pipeline.report.finished_run import FinishedRun
from pipeline.report.section_records import ReportedPretraining


def pretraining_section(run: FinishedRun, device: torch.device) -> ReportedPretraining | None:
    """The losses on both sides of the gap; None without a corpus, or with less than two windows of it trained on."""
    if "corpus" not in run.artifacts:
        return None
    pretrain, shards = run.artifacts["pretrain"], run.artifacts["shards"]
    measured = memorization_gap(pretrain, shards, run.tokenizer.sha256, device, resamples=run.section.resamples)
    if measured is None:  # a caveat says so
        return None
    counts = pretrain.counts_as(PretrainCounts)
    train, validation = measured.train, measured.validation
    return ReportedPretraining(
        tokens=counts.tokens,
        steps=counts.steps,
        train_nats_per_token=train.loss.mean,
        train_nats_per_token_ci95=train.loss.ci95,
        val_nats_per_token=validation.loss.mean if validation else None,
        val_nats_per_token_ci95=validation.loss.ci95 if validation else None,
        gap=measured.gap.mean if measured.gap else None,
        gap_ci95=measured.gap.ci95 if measured.gap else None,
        windows=measured.num_windows,
        train_documents=train.num_documents,
        validation_documents=validation.num_documents if validation else 0,
        batch_tokens=counts.batch_tokens,
    )
