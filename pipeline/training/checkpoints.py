"""Sharded checkpoints that are either complete or not there.

    checkpoints/step-00001000/     DeepSpeed's files and checkpoint.json, the receipt

All ranks write into `step-….tmp`, each hashes what it wrote, all exchange whether that succeeded, and only then does
rank 0 write the receipt, sync and rename. A reader therefore finds a whole checkpoint or none. Files are compared with
the receipt's hashes before anything in them is read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.distributed import fault_injection
from pipeline.distributed.collectives import all_gather, broadcast
from pipeline.errors import DataError, Diverged, EnvironmentFault, ResumeError
from pipeline.graph.manifest import FileEntry, damaged_files
from pipeline.runtime.files import sha256_of, sync, write_text
from pipeline.runtime.formatting import counted, readable_bytes
from pipeline.training.engine import Engine
from pipeline.training.state import State

RECEIPT = "checkpoint.json"
FORMAT = 1
BYTES_PER_PARAMETER = 16  # float32 weights, their master copy and Adam's two moments


class CheckpointReceipt(BaseModel):
    """What a checkpoint is. `identity` holds what must be equal for training to go on from it.

    `sha256` is that of everything else in it: the receipt vouches for the files, and has to vouch for itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = FORMAT
    step: int
    tokens: int
    nats_per_token: float | None
    state: dict[str, Any]
    identity: dict[str, Any]
    files: tuple[FileEntry, ...]
    universal: bool = False  # joined from the ranks that wrote it, to be split among others
    sha256: str = ""

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude={"sha256"}).encode()).hexdigest()

    def sealed(self) -> CheckpointReceipt:
        return self.model_copy(update={"sha256": self.digest})


class Checkpoints:
    """The checkpoints of one training. Every method is collective."""

    def __init__(
        self,
        folder: Path,
        engine: Engine,
        *,
        keep: int,
        identity: Mapping[str, Any],
        pinned: Collection[int] = (),
    ) -> None:
        self.folder = folder
        self.engine = engine
        self.keep = max(keep, 1)
        self.pinned = {step_name(step) for step in pinned}  # never deleted here
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))  # as a receipt gives it back
        self.newest: int | None = None  # step of the newest one that this process saved or loaded

    def save(self, state: State) -> None:
        """Commit one checkpoint, then delete all but the newest `keep` and the pinned ones.

        Raises, on every rank, EnvironmentFault if there is no room or a rank cannot write, and Diverged if a weight is
        not finite; older checkpoints stay intact.
        """
        if not all(all_gather(self.engine.is_finite())):
            raise Diverged(
                f"Training diverged: at step {state.step:,} some weights are not finite, so no checkpoint was written.",
                remedy="Lower the learning rate; earlier checkpoints are intact.",
            )
        final = self.folder / step_name(state.step)
        draft = final.with_name(final.name + ".tmp")
        self._together(draft, lambda: self._prepare(draft))
        own = self._together(draft, lambda: self._write(draft, state.step))
        files = [entry for entries in all_gather(own) for entry in entries]
        self._together(draft, lambda: self._commit(draft, final, state, files))
        self.newest = state.step
        fault_injection.inject("after_commit", rank=self.engine.world.rank, step=state.step)

    def resume(self, say: Callable[[str], None]) -> State:
        """Load the newest valid checkpoint; a new state if there is none.

        `say` is told which ones were passed over and why. Raises DataError if all of them are damaged, ResumeError if
        the newest valid one does not fit this training.
        """
        names = broadcast([path.name for path in checkpoints_in(self.folder)])
        damage = ""
        for name in reversed(names):
            receipt, damage = self._examine(self.folder / name)
            if receipt is not None and not damage:
                refuse_other_training(self.folder / name, receipt.identity, self.identity)
                self.engine.load(self.folder / name, universal=receipt.universal)
                self.newest = receipt.step
                say(f"resuming at step {receipt.step:,}")
                return State.from_json(receipt.state)
            say(f"checkpoint {name} is not used: {damage}")
        if names:
            raise DataError(
                f"None of the {len(names)} checkpoints in {self.folder} is valid; the oldest: {damage}.",
                remedy="Restore one from a backup, or delete the folder to train from the beginning.",
            )
        return State()

    def _examine(self, folder: Path) -> tuple[CheckpointReceipt | None, str]:
        """The receipt and what is wrong with its files; the ranks share the hashing."""
        receipt, damage = broadcast(_receipt_or_reason(folder))
        share = receipt.files[self.engine.world.rank :: self.engine.world.world_size] if receipt else ()
        found = all_gather([damage, *damaged_files(folder, share)])
        return receipt, "; ".join(dict.fromkeys(reason for reasons in found for reason in reasons if reason))

    def _prepare(self, draft: Path) -> None:
        if not self.engine.world.leads:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob("*.tmp"):
            shutil.rmtree(leftover)
        needed = BYTES_PER_PARAMETER * self.engine.num_parameters
        if shutil.disk_usage(self.folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        draft.mkdir()

    def _write(self, draft: Path, step: int) -> list[FileEntry]:
        paths = self.engine.save(draft, step)
        return [FileEntry(path=path.name, bytes=path.stat().st_size, sha256=sha256_of(path)) for path in paths]

    def _commit(self, draft: Path, final: Path, state: State, files: Sequence[FileEntry]) -> None:
        fault_injection.inject("commit", rank=self.engine.world.rank, step=state.step)
        if not self.engine.world.leads:
            return
        receipt = CheckpointReceipt(
            step=state.step,
            tokens=state.tokens,
            nats_per_token=state.nats_per_token,
            state=state.to_json(),
            identity=self.identity,
            files=tuple(sorted(files, key=lambda entry: entry.path)),
        )
        publish(draft, final, receipt)
        passing = [path for path in checkpoints_in(self.folder) if path.name not in self.pinned]
        for old in passing[: -self.keep]:
            _delete(old)

    def _together(self, draft: Path, action: Callable[[], Any]) -> Any:
        """Do a part of a save on every rank, and go on only if no rank failed: an exception on one would leave the
        others waiting.
        """
        result, problem = None, ""
        try:
            result = action()
        except OSError as error:
            problem = f"rank {self.engine.world.rank}: {error.strerror or error}"
        problems = [one for one in all_gather(problem) if one]
        if not problems:
            return result
        if self.engine.world.leads:
            shutil.rmtree(draft, ignore_errors=True)
        needed = BYTES_PER_PARAMETER * self.engine.num_parameters
        free = shutil.disk_usage(self.folder).free if self.folder.exists() else 0
        raise EnvironmentFault(
            f"Checkpoint {self.folder / draft.stem} was not written ({'; '.join(problems)}): "
            f"it needs {readable_bytes(needed)}, {readable_bytes(free)} are free.",
            remedy="Make room and run the same command: earlier checkpoints are intact.",
        )


def publish(draft: Path, final: Path, receipt: CheckpointReceipt, *, aside: Path | None = None) -> None:
    """Make a checkpoint of a folder whose files are written and synced; what stood in its place moves aside or goes."""
    write_text(draft / RECEIPT, receipt.sealed().model_dump_json(indent=1) + "\n")
    if aside is not None:
        aside.parent.mkdir(exist_ok=True)
        final.rename(aside)
    elif final.exists():  # a damaged one that resuming passed over
        _delete(final)
    draft.rename(final)
    sync(final.parent)


def step_name(step: int) -> str:
    """Name of the checkpoint of a step; names sort as steps do."""
    return f"step-{step:08d}"


def link_checkpoint(checkpoint: Path, folder: Path) -> None:
    """Put a committed checkpoint into another training's folder as its first, without copying its files."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / (checkpoint.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(checkpoint, draft, copy_function=_link)
    draft.rename(folder / checkpoint.name)


def _link(source: str, target: str) -> str:
    """Checkpoints are never written again, so both names may mean one file; copied where a file system cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def checkpoints_in(folder: Path) -> list[Path]:
    """Committed checkpoints, oldest first; whether their files are intact is another question."""
    return sorted(path for path in folder.glob("step-*") if path.suffix != ".tmp" and path.is_dir())


def read_receipt(folder: Path) -> CheckpointReceipt:
    """The receipt of a checkpoint. Raises DataError if it is missing, damaged or names files outside the folder."""
    receipt, reason = _receipt_or_reason(folder)
    if receipt is None or reason:
        raise DataError(f"{folder}: {reason}.", remedy="Use another checkpoint of this training.")
    return receipt


def refuse_other_training(folder: Path, saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raise ResumeError naming every value, old -> new, in which the checkpoint and this training differ."""
    changed = [key for key in sorted(saved.keys() | current.keys()) if saved.get(key) != current.get(key)]
    if not changed:
        return
    differences = ", ".join(f"{key} {saved.get(key)} -> {current.get(key)}" for key in changed)
    remedy = "Change it back, or delete the checkpoints to train from the beginning."
    if changed == ["world_size"]:
        command = f"folio checkpoint convert {folder} --ranks {current.get('world_size')}"
        remedy = f"Use {counted(saved['world_size'], 'rank')}, or run: {command}"
    raise ResumeError(f"{folder} belongs to a different training: {differences}.", remedy=remedy)


def _receipt_or_reason(folder: Path) -> tuple[CheckpointReceipt | None, str]:
    try:
        receipt = CheckpointReceipt.model_validate(json.loads((folder / RECEIPT).read_bytes()))
    except FileNotFoundError:
        return None, f"{RECEIPT} is missing"
    except (OSError, ValueError, ValidationError):
        return None, f"{RECEIPT} is damaged"
    if receipt.sha256 != receipt.digest:
        return None, f"{RECEIPT} has another sha256"
    if receipt.format != FORMAT:
        return None, f"{RECEIPT} has format {receipt.format}, this Folio reads {FORMAT}"
    for entry in receipt.files:
        if not (folder / entry.path).resolve().is_relative_to(folder.resolve()):
            return None, f"{RECEIPT} names {entry.path}, which lies outside"
    # DeepSpeed finds its files by pattern, so one that nobody hashed must not lie among them.
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    surplus = present - {entry.path for entry in receipt.files} - {RECEIPT}
    return receipt, "".join(f"{name} is not part of it" for name in sorted(surplus)[:1])


def _delete(folder: Path) -> None:
    """Rename first: a deletion that is cut short leaves a leftover, not a checkpoint with missing files."""
    doomed = folder.with_name(folder.name + ".old.tmp")
    folder.rename(doomed)
    shutil.rmtree(doomed)
