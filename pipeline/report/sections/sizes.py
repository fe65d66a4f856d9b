"""Section `sizes`: the gain over model size, of smaller or larger models on the same text and windows."""

from __future__ import annotations

from gpt.counts import flops_per_token, num_parameters
from pipeline.report.finished_run import FinishedRun, ModelSize
from pipeline.report.report_records import ReportedMean
from pipeline.report.run_scores import RunScores
from pipeline.report.section_records import ReportedRates, ReportedSize
from pipeline.saved_models.weights import load_shape


def sizes_section(run: FinishedRun, scores: RunScores) -> tuple[ReportedSize, ...]:
    """Each size and the run's own, smallest first, on the first seed; empty without other sizes."""
    return tuple(sorted((_size(size, scores) for size in run.sizes), key=lambda size: size.params))


def _size(size: ModelSize, scores: RunScores) -> ReportedSize:
    # Other sizes have one seed; the run's own has more, of which only the first is comparable.
    scratch, pretrained, finetuned = (scores.files[file] for file in size.weights)
    shape, bits = load_shape(size.scratch.model_json), scores.bits
    return ReportedSize(
        name=size.name,
        params=num_parameters(shape),
        pretraining_flops=flops_per_token(shape) * size.pretraining_tokens,
        learning_rates=ReportedRates(scratch=size.scratch.learning_rate, finetune=size.tuned.finetune.learning_rate),
        scratch=ReportedMean.of(bits.loss(scratch)),
        zero_shot=ReportedMean.of(bits.loss(pretrained)),
        finetune=ReportedMean.of(bits.loss(finetuned)),
        gain=ReportedMean.of(bits.gain(scratch, finetuned)),
    )
