"""Brings a run to its report: does what is unfinished, in order, and writes each manifest last.

A stage works directly in its final folder, which only counts as finished once `manifest.json` is there; a killed stage
is simply called again and continues or starts over. Nothing is ever renamed under a reader.
"""

from __future__ import annotations

import json
import pkgutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType

from pipeline.config.schema import Config
from pipeline.errors import DataError
from pipeline.graph.fingerprints import fingerprints, identity
from pipeline.graph.lock import LOCK, exclusive
from pipeline.graph.manifest import OUTSIDE, Manifest, file_entries, write_manifest
from pipeline.graph.stage_counts import StageCounts
from pipeline.graph.stages import NAMES, Node, Stage, nodes_of
from pipeline.graph.store import Store
from pipeline.graph.variants import Variant
from pipeline.graph.work import Artifact, RankPool, Work
from pipeline.inputs.outside import Outside, Texts, look_outside
from pipeline.runtime.files import environment_faults, write_text
from pipeline.runtime.formatting import readable_bytes, readable_seconds
from pipeline.runtime.memory import peak_memory_bytes
from pipeline.runtime.processes import usable_cores
from pipeline.runtime.progress import Progress
from pipeline.runtime.versions import git_commit, installed_versions

PROGRESS = "progress.json"


@dataclass(frozen=True)
class Selection:
    """Which part of the chain to do; stages before `first` must be finished. Variants are done with the report."""

    first: str = NAMES[0]
    last: str = NAMES[-1]

    def __contains__(self, node: Node) -> bool:
        if node.variant is not None:  # only the report reads it, and `--only report` expects it to be finished
            return self.last == "report" != self.first
        return NAMES.index(self.first) <= NAMES.index(node.stage.name) <= NAMES.index(self.last)


def run_nodes(
    config: Config,
    store: Store,
    selection: Selection = Selection(),
    ranks: RankPool | None = None,
    outside: Outside | None = None,
) -> dict[str, Artifact]:
    """Do everything unfinished in the selection. Returns the finished artifacts of the run so far, by node name.

    Training stages run on `ranks` if somebody else started them, else on ranks that they start themselves. `outside`
    saves a second look at the texts to a caller that had one.
    Raises a FolioError; whatever was finished before stays finished.
    """
    outside = outside or look_outside(config)
    outside.refuse_unknown()
    digests = fingerprints(config, outside)
    artifacts: dict[str, Artifact] = {}
    # Looked up one by one, not all at once: a stage may take hours, and another run may finish a later one meanwhile.
    for node in nodes_of(config):
        artifact = store.finished(node.stage.name, digests[node.name])
        if artifact is None and node in selection:
            texts = outside.texts.get(node.stage.outside, {})
            artifact = finish_node(node, digests[node.name], store, artifacts, ranks, texts)
        if artifact is not None:
            artifacts[node.name] = artifact
    return artifacts


def finished(config: Config, store: Store, outside: Outside | None = None) -> dict[str, Artifact]:
    """What is finished of a run, by node name.

    Without an `outside` of the caller it looks at the texts itself, and raises why one is unknown.
    """
    digests = fingerprints(config, outside)
    artifacts = {node.name: store.finished(node.stage.name, digests[node.name]) for node in nodes_of(config)}
    return {name: artifact for name, artifact in artifacts.items() if artifact is not None}


def unfinished(
    config: Config, store: Store, selection: Selection = Selection(), outside: Outside | None = None
) -> list[Stage]:
    """The stages of the selection that `run_nodes` would do, if it finds the texts that are unknown now."""
    digests = fingerprints(config, outside or look_outside(config))
    ahead = [node for node in nodes_of(config) if node in selection]
    return [node.stage for node in ahead if not store.finished(node.stage.name, digests[node.name])]


def finish_node(
    node: Node,
    fingerprint: str,
    store: Store,
    artifacts: Mapping[str, Artifact],
    ranks: RankPool | None = None,
    texts: Texts = MappingProxyType({}),
) -> Artifact:
    """Do one stage and write its manifest. Raises DataError if one of its inputs is not finished."""
    refuse_unfinished(node, artifacts)
    folder = store.folder(node.stage.name, fingerprint)
    with environment_faults(folder), exclusive(folder):
        already = store.finished(node.stage.name, fingerprint)  # another process may have finished it while we waited
        if already is not None:
            return already
        manifest = _do_stage(node, fingerprint, work_of(node, artifacts, folder, ranks, texts))
    return Artifact(node.stage.name, folder, manifest)


def refuse_unfinished(node: Node, artifacts: Mapping[str, Artifact]) -> None:
    """Raise DataError if the node reads one that is not among the finished artifacts."""
    missing = [other for other in node.reads.values() if other.name not in artifacts]
    if not missing:
        return
    names, verb = ", ".join(other.name for other in missing), "is" if len(missing) == 1 else "are"
    # A variant's stages are done with the report, so no `--until` brings them.
    until = "" if any(other.variant for other in missing) else f" --until {missing[-1].stage.name}"
    raise DataError(
        f"Stage {node.name} needs {names}, which {verb} not finished.", remedy=f"Run `folio run CONFIG{until}` first."
    )


def work_of(
    node: Node,
    artifacts: Mapping[str, Artifact],
    folder: Path,
    ranks: RankPool | None = None,
    texts: Texts = MappingProxyType({}),
) -> Work:
    """What the node's stage is given. `artifacts` holds, by node name, those it reads; `texts` are from outside."""
    variants: dict[Variant, dict[str, Artifact]] = {}
    for other in node.compared:
        assert other.variant is not None, "the report compares the run with its variants"
        variants.setdefault(other.variant, {})[other.stage.name] = artifacts[other.name]
    launch = node.config.launch
    return Work(
        stage=node.stage.name,
        slice=node.stage.slice(node.config),
        inputs={name: artifacts[other.name] for name, other in node.inputs.items()},
        folder=folder,
        launch=launch,
        workers=launch.workers or usable_cores(),
        progress=Progress(node.name, folder / PROGRESS),
        variants=variants,
        ranks=ranks,
        outside=texts,
    )


def _do_stage(node: Node, fingerprint: str, work: Work) -> Manifest:
    """Call the stage's function, and turn what it counted into the manifest, written last."""
    started = time.monotonic()
    counts: StageCounts = pkgutil.resolve_name(node.stage.function)(work)
    seconds = time.monotonic() - started
    if node.stage.outside:
        records = {name: text.record() for name, text in work.outside.items()}
        write_text(work.folder / OUTSIDE, json.dumps(records, indent=1) + "\n")
    manifest = Manifest(
        stage=node.stage.name,
        run=node.config.name,
        fingerprint=fingerprint,
        config=identity(node.stage.slice(node.config), with_addresses=True),
        inputs={name: artifact.manifest.fingerprint for name, artifact in work.reads.items()},
        files=file_entries(work.folder, ignored=(LOCK, PROGRESS)),
        counts=counts.model_dump(mode="json"),
        seconds=round(seconds, 3),
        rank_seconds=round(seconds * counts.world_size, 3),
        peak_memory_bytes=counts.peak_memory_bytes or peak_memory_bytes(children=True),
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions=installed_versions(),
        git_commit=git_commit(),
        outside={name: text.digest for name, text in work.outside.items()} if node.stage.outside else None,
    )
    write_manifest(work.folder, manifest)
    size = readable_bytes(sum(entry.bytes for entry in manifest.files))
    work.progress.say(f"done in {readable_seconds(seconds)}, {size} in {work.folder}")
    return manifest
