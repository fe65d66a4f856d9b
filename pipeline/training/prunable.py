"""What a store keeps of trainings that nobody needs any more: halves of checkpoints, and what newer ones replaced."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.distributed.job import JOB
from pipeline.errors import DataError
from pipeline.graph.lock import held
from pipeline.graph.manifest import MANIFEST, Manifest, read_manifest
from pipeline.graph.stages import STAGES
from pipeline.runtime.files import DRAFT
from pipeline.saved_models.model_files import CHECKPOINTS
from pipeline.training.checkpoint_files import DELETED, RECEIPT, REPLACED

TRAININGS = tuple(stage.name for stage in STAGES if stage.trains)
CONVERSIONS = "checkpoints-of-*-ranks"  # where Folio put originals aside, before it read any number of ranks


@dataclass(frozen=True)
class Prunable:
    """A folder that can go."""

    folder: Path
    reason: str
    bytes: int

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def prunable(path: Path) -> list[Prunable]:
    """What can go below a store, or in one training's folder; what a running stage writes is left out.

    Raises DataError if the path is neither.
    """
    artifacts = [path] if (path / JOB).is_file() else sorted(folder.parent for folder in path.glob(f"*/{JOB}"))
    if not artifacts:
        raise DataError(f"{path} holds no trainings.", remedy="Give a store, or the folder of a training stage.")
    idle = [artifact for artifact in artifacts if not held(artifact)]
    replaced = {} if path in artifacts else dict(_replaced(path, idle))
    found = [Prunable(folder, reason, _size(folder)) for folder, reason in replaced.items()]
    for artifact in idle:
        if artifact not in replaced:
            found += [Prunable(folder, reason, _size(folder)) for folder, reason in _leftovers(artifact)]
    return found


def _leftovers(artifact: Path) -> Iterator[tuple[Path, str]]:
    for folder in sorted(artifact.rglob(f"{CHECKPOINTS}/step-*")):
        if folder.suffix in (DRAFT, DELETED):
            # A complete draft is a checkpoint that lacks its name: the next resume gives it one.
            if folder.suffix == DELETED or not (folder / RECEIPT).exists():
                yield folder, "left by a save that was killed"
        elif folder.suffix == REPLACED and folder.with_suffix("").exists():
            yield folder, "replaced by the one beside it"
    for folder in sorted(artifact.rglob(CONVERSIONS)):
        # Where it is all that is left, it is no leftover: resuming refuses to begin again, and names it.
        if any((folder.parent / CHECKPOINTS).glob("step-*")):
            yield folder, "the original of an old conversion"


def _replaced(store: Path, artifacts: list[Path]) -> Iterator[tuple[Path, str]]:
    """Finished trainings that the newest report of their run, or of any other, does not read."""
    reports: dict[str, Manifest] = {}
    for folder in store.glob("report-*"):
        manifest = _manifest(folder)
        if manifest and (manifest.run not in reports or manifest.finished > reports[manifest.run].finished):
            reports[manifest.run] = manifest
    read = {fingerprint for manifest in reports.values() for fingerprint in manifest.inputs.values()}
    for artifact in artifacts:
        manifest = _manifest(artifact)
        if manifest is None or manifest.stage not in TRAININGS or manifest.fingerprint in read:
            continue
        report = reports.get(manifest.run)
        # One that is newer than the report belongs to the next one, which is not there yet.
        if report is not None and report.finished > manifest.finished:
            yield artifact, f"the newest report of {manifest.run} is of another {manifest.stage}"


def _manifest(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder) if (folder / MANIFEST).exists() else None
    except DataError:
        return None


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
