"""Section `leak`: what the gain would have been with the validation text left in the corpus."""

from __future__ import annotations

from pipeline.evaluation.scoring import stacked
from pipeline.graph.stage_counts import CorpusCounts, ShardsCounts
from pipeline.report.finished_run import FinishedRun
from pipeline.report.report_records import ReportedDifference, ReportedMean
from pipeline.report.run_scores import RunScores
from pipeline.report.section_records import ReportedLeak


def leak_section(run: FinishedRun, scores: RunScores) -> ReportedLeak | None:
    """The leak ablation in bits per byte; None without one.

    `memory` is how much lower the finetuned loss would have been, paired by window: it looks like gain and is not.
    """
    if run.leak is None:
        return None
    leaky, bits = stacked(scores.files, run.leak.finetune.weights), scores.bits
    # What the run's own decontamination removed is what the ablation left in: one config key differs.
    removed = run.artifacts["corpus"].counts_as(CorpusCounts).contamination
    left_in_shards = run.by_name["leak.shards"].counts_as(ShardsCounts).val_ngrams_left_in_shards
    return ReportedLeak(
        documents_left_in=removed.documents_removed,
        bytes_left_in=removed.bytes_removed,
        val_ngrams_total=removed.val_ngrams_total,
        val_ngrams_left_in_shards=left_in_shards,
        learning_rate=run.leak.finetune.learning_rate,
        zero_shot=ReportedMean.of(bits.loss(scores.files[run.leak.pretrained])),
        finetune=ReportedMean.of(bits.loss(leaky)),
        gain=ReportedMean.of(bits.gain(scores.scratch, leaky)),
        # Before minus after, as everywhere: above zero, the leak made the loss lower.
        memory=ReportedDifference.of(bits.gain(scores.finetune, leaky)),
    )
