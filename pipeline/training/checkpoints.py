"""Sharded checkpoints that are either complete or not there.

    checkpoints/step-00001000/     DeepSpeed's files and checkpoint.json, the receipt

All ranks write into `step-….tmp`, each hashes what it wrote, all exchange whether that succeeded, and only then does
rank 0 write the receipt, sync and rename. A reader therefore finds a whole checkpoint or none. Files are compared with
the receipt's hashes before anything in them is read. Why so careful: docs/decisions/training.md.
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
from pipeline.graph.forecast import CHECKPOINT_BYTES
from pipeline.graph.manifest import FileEntry, damaged_files
from pipeline.runtime.files import sha256_of, sync, write_text
from pipeline.runtime.formatting import counted, readable_bytes
from pipeline.training.engine import Engine
from pipeline.training.state import State

RECEIPT = "checkpoint.json"
FORMAT = 1


class CheckpointReceipt(BaseModel):
    """What a checkpoint holds. A training may go on from it only if `identity` equals its own.

    `sha256` is that of everything else in the receipt: it vouches for the files, so it has to vouch for itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = FORMAT
    step: int
    tokens: int
    nats_per_token: float | None
    state: dict[str, Any]
    identity: dict[str, Any]
    files: tuple[FileEntry, ...]
    universal: bool = False  # joined from what the ranks wrote, and split again by whoever loads it
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
        self.keep = max(keep, 1)  # with none left a training could not be resumed
        self.pinned = {step_name(step) for step in pinned}  # never deleted here
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))  # as a receipt gives it back
        self.newest: int | None = None  # step of the newest one that this process saved or loaded

    def save(self, state: State) -> None:
        """Commit one checkpoint, then delete all but the pinned ones and the newest `keep` of the others.

        Raises, on every rank, EnvironmentFault if there is no room or a rank cannot write, and Diverged if a weight is
        not finite; older checkpoints stay intact.
        """
        # Weights that are lost would replace good ones as the newest, and every resume would fail the same way.
        if not all(all_gather(self.engine.is_finite())):
            raise Diverged(
                f"Training diverged: at step {state.step:,} some weights are not finite, so no checkpoint was written.",
                remedy="Lower the learning rate; earlier checkpoints are intact.",
            )
        final = self.folder / step_name(state.step)
        draft = final.with_name(final.name + ".tmp")
        self._together(draft, lambda: self._prepare(draft))
        own = self._together(draft, lambda: self._write(draft, state.step))
        # Every rank hashes its own files right after writing them; to rank 0 they may be on a file system far away.
        files = [entry for entries in all_gather(own) for entry in entries]
        self._together(draft, lambda: self._commit(draft, final, state, files))
        self.newest = state.step
        fault_injection.inject("after_commit", rank=self.engine.world.rank, step=state.step)

    def resume(self, say: Callable[[str], None]) -> State:
        """Load the newest valid checkpoint; a new state if there is none.

        `say` is told which ones were passed over and why. Raises DataError if all of them are damaged, ResumeError if
        the newest valid one does not fit this training.
        """
        # Rank 0 looks for all: a file system that two hosts share may show a new folder to one of them later.
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
        # Starting over in silence would throw away days, and delete the damaged ones that a backup could mend.
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
        by_rank = all_gather([damage, *damaged_files(folder, share)])
        # Each reason once: the receipt's own damage is reported by every rank.
        return receipt, "; ".join(dict.fromkeys(reason for reasons in by_rank for reason in reasons if reason))

    def _prepare(self, draft: Path) -> None:
        if not self.engine.world.leads:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        # What a killed save left. Nobody else writes here: the artifact's folder is locked while its stage runs.
        for leftover in self.folder.glob("*.tmp"):
            shutil.rmtree(leftover)
        needed = CHECKPOINT_BYTES * self.engine.num_parameters
        # Asked before anything is written: on a disk that is full to the last byte, ranks cannot leave notes either.
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
        # Only after the new one is in its place, so that at every moment one complete checkpoint exists.
        unpinned = [path for path in checkpoints_in(self.folder) if path.name not in self.pinned]
        for old in unpinned[: -self.keep]:
            _delete(old)

    def _together(self, draft: Path, action: Callable[[], Any]) -> Any:
        """Do one phase of a save on every rank, and go on only if no rank failed. Returns what the action did here.

        A rank that raised by itself would leave the others waiting in the next phase, so all of them learn of it and
        raise together.
        """
        result, problem = None, ""
        try:
            result = action()
        except OSError as error:
            problem = f"rank {self.engine.world.rank}: {error.strerror or error}"
        problems = [reason for reason in all_gather(problem) if reason]
        if not problems:
            return result
        if self.engine.world.leads:
            shutil.rmtree(draft, ignore_errors=True)
        needed = CHECKPOINT_BYTES * self.engine.num_parameters
        free = shutil.disk_usage(self.folder).free if self.folder.exists() else 0
        raise EnvironmentFault(
            f"Checkpoint {self.folder / draft.stem} was not written ({'; '.join(problems)}): "
            f"it needs {readable_bytes(needed)}, {readable_bytes(free)} are free.",
            remedy="Make room and run the same command: earlier checkpoints are intact.",
        )


def publish(draft: Path, final: Path, receipt: CheckpointReceipt, *, aside: Path | None = None) -> None:
    """Make a checkpoint of a folder whose files are written and synced.

    What stood in its place is moved to `aside`, or deleted if that is not given.
    """
    write_text(draft / RECEIPT, receipt.sealed().model_dump_json(indent=1) + "\n")
    if aside is not None:
        aside.parent.mkdir(exist_ok=True)
        final.rename(aside)
    elif final.exists():  # a damaged one that resuming passed over
        _delete(final)
    draft.rename(final)
    sync(final.parent)  # or a power cut could undo the rename after older checkpoints were deleted


def step_name(step: int) -> str:
    """Name of the checkpoint of a step; names sort as steps do."""
    return f"step-{step:08d}"


def link_checkpoint(checkpoint: Path, folder: Path) -> None:
    """Put a committed checkpoint into another training's folder as its first, without copying its files."""
    folder.mkdir(parents=True, exist_ok=True)
    # Under a draft's name first: a copy that is cut short must not pass for a checkpoint.
    draft = folder / (checkpoint.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(checkpoint, draft, copy_function=_link)
    draft.rename(folder / checkpoint.name)


def _link(source: str, target: str) -> str:
    """Give a file a second name, or copy it where a file system cannot: a checkpoint's files never change."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def checkpoints_in(folder: Path) -> list[Path]:
    """Committed checkpoints, oldest first. Their files may be damaged all the same: see `read_receipt`."""
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
    # The one difference that can be converted: it changes how the state is cut into files, not what is in it.
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
    # The format after the hash: a number that a damaged disk made up would ask for another version of Folio.
    if receipt.sha256 != receipt.digest:
        return None, f"{RECEIPT} has another sha256"
    if receipt.format != FORMAT:
        return None, f"{RECEIPT} has format {receipt.format}, this Folio reads {FORMAT}"
    # A receipt may come from somewhere else with its checkpoint; hashing what it names must not leave the folder.
    for entry in receipt.files:
        if not (folder / entry.path).resolve().is_relative_to(folder.resolve()):
            return None, f"{RECEIPT} names {entry.path}, which lies outside"
    # DeepSpeed finds its files by pattern, so one that nobody hashed must not lie among them.
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    surplus = present - {entry.path for entry in receipt.files} - {RECEIPT}
    return receipt, "".join(f"{name} is not part of it" for name in sorted(surplus)[:1])


def _delete(folder: Path) -> None:
    # Renamed first: a deletion that is cut short leaves a leftover, not a checkpoint with missing files.
    doomed = folder.with_name(folder.name + ".old.tmp")
    folder.rename(doomed)
    shutil.rmtree(doomed)
