"""Brings a run to its report: does what is unfinished, in order, and writes each manifest last.

A stage works directly in its final folder, which only counts as finished once `manifest.json` is there; a killed stage
is simply called again and continues or starts over. Nothing is ever renamed under a reader.
"""

from __future__ import annotations

import os
import pkgutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.config.schema import Config
from pipeline.errors import DataError
from pipeline.graph.fingerprints import fingerprints, identity
from pipeline.graph.lock import LOCK, exclusive
from pipeline.graph.manifest import Manifest, file_entries, write_manifest
from pipeline.graph.stage_counts import StageCounts
from pipeline.graph.stages import NAMES, Node, Stage, nodes_of
from pipeline.graph.store import Store
from pipeline.graph.variants import Variant
from pipeline.graph.work import Artifact, RankPool, Work
from pipeline.runtime.files import environment_faults
from pipeline.runtime.formatting import readable_bytes, readable_seconds
from pipeline.runtime.memory import peak_memory_bytes
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
    config: Config, store: Store, selection: Selection = Selection(), ranks: RankPool | None = None
) -> dict[str, Artifact]:
    """Do everything unfinished in the selection. Returns the finished artifacts of the run so far, by node name.

    Training stages run on `ranks` if somebody else started them, else on ranks that they start themselves.
    Raises a FolioError; whatever was finished before stays finished.
    """
    digests = fingerprints(config)
    artifacts: dict[str, Artifact] = {}
    # Looked up one by one, not all at once: a stage may take hours, and another run may finish a later one meanwhile.
    for node in nodes_of(config):
        artifact = store.finished(node.stage.name, digests[node.name])
        if artifact is None and node in selection:
            artifact = finish_node(node, digests[node.name], store, artifacts, ranks)
        if artifact is not None:
            artifacts[node.name] = artifact
    return artifacts


def finished(config: Config, store: Store) -> dict[str, Artifact]:
    """What is finished of a run, by node name."""
    digests = fingerprints(config)
    artifacts = {node.name: store.finished(node.stage.name, digests[node.name]) for node in nodes_of(config)}
    return {name: artifact for name, artifact in artifacts.items() if artifact is not None}


def unfinished(config: Config, store: Store, selection: Selection = Selection()) -> list[Stage]:
    """The stages of the selection that `run_nodes` would do."""
    digests = fingerprints(config)
    ahead = [node for node in nodes_of(config) if node in selection]
    return [node.stage for node in ahead if not store.finished(node.stage.name, digests[node.name])]


def finish_node(
    node: Node, fingerprint: str, store: Store, artifacts: Mapping[str, Artifact], ranks: RankPool | None = None
) -> Artifact:
    """Do one stage and write its manifest. Raises DataError if one of its inputs is not finished."""
    refuse_unfinished(node, artifacts)
    folder = store.folder(node.stage.name, fingerprint)
    with environment_faults(folder), exclusive(folder):
        already = store.finished(node.stage.name, fingerprint)  # another process may have finished it while we waited
        if already is not None:
            return already
        manifest = _do_stage(node, fingerprint, work_of(node, artifacts, folder, ranks))
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


def work_of(node: Node, artifacts: Mapping[str, Artifact], folder: Path, ranks: RankPool | None = None) -> Work:
    """What the node's stage is given. `artifacts` holds, by node name, those that it reads."""
    variants: dict[Variant, dict[str, Artifact]] = {}
    for other in node.compared:
        assert other.variant is not None, "the report compares the run with its variants"
        variants.setdefault(other.variant, {})[other.stage.name] = artifacts[other.name]
    launch = node.config.launch
    return Work(
        stage=node.stage.name,
        slice={name: expanded(section) for name, section in node.stage.slice(node.config).items()},
        inputs={name: artifacts[other.name] for name, other in node.inputs.items()},
        folder=folder,
        launch=launch,
        workers=launch.workers or len(os.sched_getaffinity(0)),
        progress=Progress(node.name, folder / PROGRESS),
        variants=variants,
        ranks=ranks,
    )


def _do_stage(node: Node, fingerprint: str, work: Work) -> Manifest:
    """Call the stage's function, and turn what it counted into the manifest, written last."""
    started = time.monotonic()
    counts: StageCounts = pkgutil.resolve_name(node.stage.function)(work)
    seconds = time.monotonic() - started
    manifest = Manifest(
        stage=node.stage.name,
        run=node.config.name,
        fingerprint=fingerprint,
        config=identity(node.stage.slice(node.config)),
        inputs={name: artifact.manifest.fingerprint for name, artifact in work.reads.items()},
        files=file_entries(work.folder, ignored=(LOCK, PROGRESS)),
        counts=counts.model_dump(mode="json"),
        seconds=round(seconds, 3),
        rank_seconds=round(seconds * counts.world_size, 3),
        peak_memory_bytes=counts.peak_memory_bytes or peak_memory_bytes(children=True),
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions=installed_versions(),
        git_commit=git_commit(),
    )
    write_manifest(work.folder, manifest)
    size = readable_bytes(sum(entry.bytes for entry in manifest.files))
    work.progress.say(f"done in {readable_seconds(seconds)}, {size} in {work.folder}")
    return manifest


def expanded(value: Any) -> Any:
    """The same slice with ${VARIABLES} of the environment filled in.

    Fingerprints use the unexpanded one, so that the same data in another folder is the same run.
    """
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: expanded(getattr(value, name)) for name in type(value).model_fields})
    if isinstance(value, str):
        return os.path.expandvars(value)
    return tuple(expanded(item) for item in value) if isinstance(value, tuple) else value
