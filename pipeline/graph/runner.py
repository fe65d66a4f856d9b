"""Brings a run to its report: does what is unfinished, in order, and writes each receipt last.

A stage works directly in its final folder, which only counts as finished once `manifest.json` is there; a killed stage
is simply called again and continues or starts over. Nothing is ever renamed under a reader.
"""

from __future__ import annotations

import errno
import os
import pkgutil
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.errors import DataError, EnvironmentFault
from pipeline.graph.config import Config
from pipeline.graph.lock import LOCK, exclusive
from pipeline.graph.manifest import Manifest, file_entries, installed_versions, write_manifest
from pipeline.graph.progress import Progress
from pipeline.graph.quantities import readable_bytes, readable_seconds
from pipeline.graph.stages import NAMES, Node, Stage, fingerprints, identity, nodes_of
from pipeline.graph.store import Store
from pipeline.graph.work import Artifact, Work

PROGRESS = "progress.json"
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
NO_ACCESS = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST)


@dataclass(frozen=True)
class Selection:
    """Which part of the chain to do; stages before `first` must be finished."""

    first: str = NAMES[0]
    last: str = NAMES[-1]

    def __contains__(self, node: Node) -> bool:
        return NAMES.index(self.first) <= node.position <= NAMES.index(self.last)


def run(config: Config, store: Store, selection: Selection = Selection()) -> dict[str, Artifact]:
    """Do everything unfinished in the selection. Returns the finished artifacts of the run so far, by node name.

    Raises a FolioError; whatever was finished before stays finished.
    """
    found = fingerprints(config)
    artifacts: dict[str, Artifact] = {}
    for node in nodes_of(config):
        artifact = store.finished(node.stage.name, found[node.name])
        if artifact is None and node in selection:
            artifact = execute(node, found[node.name], store, artifacts)
        if artifact is not None:
            artifacts[node.name] = artifact
    return artifacts


def finished(config: Config, store: Store) -> dict[str, Artifact]:
    """What is finished of a run, by node name."""
    found = fingerprints(config)
    artifacts = {node.name: store.finished(node.stage.name, found[node.name]) for node in nodes_of(config)}
    return {name: artifact for name, artifact in artifacts.items() if artifact is not None}


def unfinished(config: Config, store: Store, selection: Selection = Selection()) -> list[Stage]:
    """The stages of the selection that `run` would do."""
    found = fingerprints(config)
    ahead = [node for node in nodes_of(config) if node in selection]
    return [node.stage for node in ahead if not store.finished(node.stage.name, found[node.name])]


def execute(node: Node, fingerprint: str, store: Store, artifacts: Mapping[str, Artifact]) -> Artifact:
    """Do one stage and write its receipt. Raises DataError if one of its inputs is not finished."""
    stage, config = node.stage, node.config
    missing = [name for name in node.inputs.values() if name not in artifacts]
    if missing:
        raise DataError(
            f"Stage {node.name} needs {', '.join(missing)}, which is not finished.",
            remedy="`folio run` does the whole chain.",
        )
    folder = store.folder(stage.name, fingerprint)
    with environment_faults(folder), exclusive(folder):
        already = store.finished(stage.name, fingerprint)  # another process may have finished it while we waited
        if already is not None:
            return already
        inputs = {name: artifacts[other] for name, other in node.inputs.items()}
        manifest = _finish(stage, config, fingerprint, work_of(node, inputs, folder))
    return Artifact(stage.name, folder, manifest)


def work_of(node: Node, inputs: Mapping[str, Artifact], folder: Path) -> Work:
    """What the node's stage is given."""
    stage, config = node.stage, node.config
    return Work(
        stage=stage.name,
        slice={name: expanded(section) for name, section in stage.slice(config).items()},
        inputs=inputs,
        folder=folder,
        launch=config.launch,
        workers=config.launch.workers or len(os.sched_getaffinity(0)),
        progress=Progress(node.name, folder / PROGRESS),
    )


def _finish(stage: Stage, config: Config, fingerprint: str, work: Work) -> Manifest:
    started = time.monotonic()
    function = pkgutil.resolve_name(stage.function)
    counts = function(work)
    seconds = time.monotonic() - started
    manifest = Manifest(
        stage=stage.name,
        run=config.name,
        fingerprint=fingerprint,
        config=identity(stage.slice(config)),
        inputs={name: artifact.manifest.fingerprint for name, artifact in work.inputs.items()},
        files=file_entries(work.folder, ignored=(LOCK, PROGRESS)),
        counts=counts,
        seconds=round(seconds, 3),
        rank_seconds=round(seconds * counts.get("world_size", 1), 3),
        peak_memory_bytes=counts.get("peak_memory_bytes", _peak_memory_bytes()),
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions=installed_versions(),
        git_commit=git_commit(),
    )
    write_manifest(work.folder, manifest)
    size = readable_bytes(sum(entry.bytes for entry in manifest.files))
    work.progress.say(f"done in {readable_seconds(seconds)}, {size} in {work.folder}")
    return manifest


def expanded(value: Any) -> Any:
    """The same slice with ${VARIABLES} of the environment filled in; fingerprints use the unexpanded one."""
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: expanded(getattr(value, name)) for name in type(value).model_fields})
    if isinstance(value, str):
        return os.path.expandvars(value)
    return tuple(expanded(item) for item in value) if isinstance(value, tuple) else value


@contextmanager
def environment_faults(folder: Path, remedy: str = "Give a writable FOLIO_STORE.") -> Iterator[None]:
    """Say in one line what the machine refused, instead of a traceback."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        if error.errno in FULL_DISK:
            free = readable_bytes(shutil.disk_usage(_existing(folder)).free)
            raise EnvironmentFault(
                f"No space left for {where} ({free} free).", remedy="Make room, run again."
            ) from error
        if error.errno in NO_ACCESS:
            raise EnvironmentFault(f"{where}: {error.strerror}.", remedy=remedy) from error
        raise


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _peak_memory_bytes() -> int:
    """Of this process or its largest finished child, whichever is larger (kernel counts in KiB)."""
    kinds: Sequence[int] = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return 1024 * max(resource.getrusage(kind).ru_maxrss for kind in kinds)


def git_commit() -> str:
    """Commit of the checkout the code runs from, marked when it has local changes; "unknown" outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
