"""The parts of report.json that are read from receipts: target, contamination, cost, provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.graph.fingerprints import identity
from pipeline.graph.stages import NAMES
from pipeline.graph.work import Artifact
from pipeline.runtime.versions import installed_versions

Inputs = Mapping[str, Artifact]


def target_section(inputs: Inputs, val_tokens: int) -> dict[str, Any]:
    """The text: what it is, how it was cut, and how much of it is scored."""
    counts = inputs["target"].manifest.counts
    parts = {f"{part}_characters": counts[f"{part}_characters"] for part in ("train", "selection", "validation")}
    named = {name: counts[name] for name in ("name", "sha256", "origin", "characters")}
    return named | parts | {"val_bytes": counts["validation_bytes"], "val_tokens": val_tokens}


def contamination_section(inputs: Inputs) -> dict[str, Any] | None:
    """What was removed from the corpus for the target's sake, and what is left; None without a corpus."""
    if "corpus" not in inputs:
        return None
    corpus, shards = inputs["corpus"].manifest.counts, inputs["shards"].manifest.counts
    removed = {name: value for name, value in corpus["contamination"].items() if name != "val_ngrams_left"}
    return removed | {
        "val_ngrams_left_in_shards": shards.get("val_ngrams_left_in_shards"),
        "corpus_origin": corpus["origin"],
    }


def imported_section(inputs: Inputs) -> dict[str, Any] | None:
    """The sha256 of each file that the pretrained weights were read from; None if they were trained here, or not."""
    counts = inputs["pretrain"].manifest.counts if "pretrain" in inputs else {}
    return {"files": counts["imported_files"]} if "imported_files" in counts else None


def cost_section(inputs: Inputs) -> dict[str, Any]:
    """What each stage took, from its receipt; rank_seconds is wall time times ranks, ranks those of its last start.

    branch_seconds is the part of `seconds` that went into the steps of branches, which only the curve needs.
    """
    return {
        name: {
            "seconds": artifact.manifest.seconds,
            "branch_seconds": _branch_seconds(artifact.folder),
            "tokens_per_second": artifact.manifest.counts.get("tokens_per_second"),
            "ranks": artifact.manifest.counts.get("world_size", 1),
            "rank_seconds": artifact.manifest.rank_seconds,
            "peak_memory_bytes": artifact.manifest.peak_memory_bytes,
        }
        for name, artifact in inputs.items()
    }


def _branch_seconds(folder: Path) -> float:
    files = sorted(folder.glob("branches/*/metrics.jsonl"))
    lines = (json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines())
    return float(sum(line.get("seconds", 0.0) for line in lines))


def provenance_section(inputs: Inputs, own_slice: Mapping[str, Any]) -> dict[str, Any]:
    """What made these numbers: config, fingerprints, versions, code, sources. Variables in paths stay unexpanded.

    The commit is that of the input that was finished last: earlier ones may have been shared from other runs.
    """
    manifests = {name: artifact.manifest for name, artifact in inputs.items()}
    config: dict[str, Any] = {"name": manifests["scratch"].run}
    own = [manifest.config for name, manifest in manifests.items() if name in NAMES]
    for sections in (*own, identity(own_slice)):
        config |= {name: section for name, section in sections.items() if name != "weights"}
    corpus = manifests["corpus"].counts["sources"] if "corpus" in manifests else []
    fields = ("name", "license", "revision", "documents", "bytes")
    return {
        "config": config,
        "fingerprints": {name: manifest.fingerprint for name, manifest in manifests.items()},
        "versions": installed_versions(),
        "git_commit": max(manifests.values(), key=lambda manifest: manifest.finished).git_commit,
        "sources": [{field: source.get(field) for field in fields} for source in corpus],
    }
