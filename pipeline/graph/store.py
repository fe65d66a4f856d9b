"""The artifact store: `STORE/<stage>-<fingerprint[:12]>/`, shared by every run that agrees on a stage's inputs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError
from pipeline.graph.manifest import MANIFEST, Manifest, read_manifest
from pipeline.graph.work import Artifact


@dataclass(frozen=True)
class Store:
    """Finds artifacts below `root`. It keeps no index: the folders and their manifests are the whole state."""

    root: Path

    @classmethod
    def from_environment(cls) -> Store:
        """The folder in FOLIO_STORE, or `artifacts/`."""
        return cls(Path(os.environ.get("FOLIO_STORE") or "artifacts"))

    def folder(self, stage: str, fingerprint: str) -> Path:
        return self.root / f"{stage}-{fingerprint[:12]}"

    def finished(self, stage: str, fingerprint: str) -> Artifact | None:
        """The artifact if it is finished. Raises DataError if its manifest is damaged or belongs to another one."""
        # Folder names hold twelve digits of the fingerprint; the manifest holds all, and is compared below.
        folder = self.folder(stage, fingerprint)
        if not (folder / MANIFEST).exists():
            return None
        manifest = read_manifest(folder)
        if (manifest.stage, manifest.fingerprint) != (stage, fingerprint):
            raise DataError(
                f"{folder} holds the manifest of {manifest.stage} {manifest.fingerprint[:12]}.",
                remedy="Delete that folder; its stage will run again.",
            )
        return Artifact(stage, folder, manifest)

    def newest(self, stage: str, run: str) -> Artifact | None:
        """The most recently finished artifact of a stage of this run under any config, to explain what changed."""
        artifacts = [
            Artifact(stage, folder, manifest)
            for folder in self.root.glob(f"{stage}-*")
            if (manifest := _manifest_or_none(folder)) is not None and manifest.run == run
        ]
        return max(artifacts, key=lambda artifact: artifact.manifest.finished, default=None)


def _manifest_or_none(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except DataError:
        return None
