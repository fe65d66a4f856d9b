"""The sections that are read from manifests: target, contamination, imported, cost and provenance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.graph.fingerprints import identity
from pipeline.graph.stage_counts import CorpusCounts, ShardsCounts, StageCounts, TargetCounts
from pipeline.graph.work import Artifact
from pipeline.report.finished_run import FinishedRun
from pipeline.report.section_records import (
    ReportedContamination,
    ReportedCost,
    ReportedImport,
    ReportedProvenance,
    ReportedSource,
    ReportedTarget,
)
from pipeline.runtime.versions import installed_versions
from pipeline.saved_models.model_files import BRANCHES, METRICS


def target_section(run: FinishedRun) -> ReportedTarget:
    """The text: what it is, how it was split, and how much of it is scored."""
    counts = run.artifacts["target"].counts_as(TargetCounts)
    return ReportedTarget(
        name=counts.name,
        sha256=counts.sha256,
        origin=counts.origin,
        characters=counts.characters,
        train_characters=counts.train_characters,
        selection_characters=counts.selection_characters,
        validation_characters=counts.validation_characters,
        val_bytes=counts.validation_bytes,
        val_tokens=run.windows.num_tokens,
        selection_stretches=counts.selection_stretches,
        documents=counts.documents,
    )


def contamination_section(run: FinishedRun) -> ReportedContamination | None:
    """What was removed from the corpus for the target's sake, and what is left; None without a corpus."""
    if "corpus" not in run.artifacts:
        return None
    corpus = run.artifacts["corpus"].counts_as(CorpusCounts)
    return ReportedContamination(
        # What was left in the parts is not reported: the shards are what training reads, and are counted by decoding.
        **corpus.contamination.model_dump(exclude={"val_ngrams_left"}),
        val_ngrams_left_in_shards=run.artifacts["shards"].counts_as(ShardsCounts).val_ngrams_left_in_shards,
        corpus_origin=corpus.origin,
    )


def imported_section(run: FinishedRun) -> ReportedImport | None:
    """Where imported weights came from; None if the run's own pretraining made them, or nothing did."""
    return None if run.imported_files is None else ReportedImport(files=run.imported_files)


def cost_section(run: FinishedRun) -> dict[str, ReportedCost]:
    """What each stage took, from its manifest, those of variants as well; ranks are those of its last start."""
    return {name: _cost(artifact) for name, artifact in run.by_name.items()}


def _cost(artifact: Artifact) -> ReportedCost:
    manifest, counts = artifact.manifest, artifact.counts_as(StageCounts)
    return ReportedCost(
        seconds=manifest.seconds,
        branch_seconds=_branch_seconds(artifact.folder),
        tokens_per_second=counts.tokens_per_second,
        ranks=counts.world_size,
        rank_seconds=manifest.rank_seconds,
        peak_memory_bytes=manifest.peak_memory_bytes,
    )


def _branch_seconds(folder: Path) -> float:
    """The part of a stage's time that went into the steps of branches, which only the curve needs."""
    # Files of every branch, of pretraining or finetuning; lines of evaluations have no seconds.
    files = sorted(folder.glob(f"{BRANCHES}/*/{METRICS}"))
    lines = (json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines())
    return float(sum(line.get("seconds", 0.0) for line in lines))


def provenance_section(run: FinishedRun) -> ReportedProvenance:
    """What made these numbers: config, fingerprints, versions, code, sources. Variables in paths stay unexpanded."""
    manifests = {name: artifact.manifest for name, artifact in run.by_name.items()}
    # The commit is that of the input that was finished last: earlier ones may have been shared from other runs.
    newest = max(manifests.values(), key=lambda manifest: manifest.finished)
    return ReportedProvenance(
        config=_config(run),
        fingerprints={name: manifest.fingerprint for name, manifest in manifests.items()},
        versions=installed_versions(),
        git_commit=newest.git_commit,
        sources=_sources(run),
    )


def _config(run: FinishedRun) -> dict[str, Any]:
    """The run's config, put together from the slices that its stages saw."""
    config: dict[str, Any] = {"name": run.artifacts["scratch"].manifest.run}
    slices = [artifact.manifest.config for artifact in run.artifacts.values()]
    for config_slice in (*slices, identity(run.config_slice)):
        # `weights` is not a section: pretraining's slice repeats them from the corpus' sources.
        config |= {name: section for name, section in config_slice.items() if name != "weights"}
    return config


def _sources(run: FinishedRun) -> tuple[ReportedSource, ...]:
    if "corpus" not in run.artifacts:
        return ()
    sources = run.artifacts["corpus"].counts_as(CorpusCounts).sources
    return tuple(ReportedSource(**source.model_dump(include=set(ReportedSource.model_fields))) for source in sources)
