"""Sharded checkpoints that are either complete or not there, written while training goes on.

All ranks write into `step-….tmp`, from copies of their state, and each hashes what it wrote. When all are through,
which they learn with the loss of a step, they exchange the hashes, and only then does rank 0 write the receipt, sync
and rename. A reader therefore finds a whole checkpoint or none. Files are compared with the receipt's hashes before
anything in them is read. Why so careful: docs/decisions/training.md.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.distributed import fault_injection
from pipeline.distributed.collectives import all_gather, broadcast
from pipeline.errors import DataError, Diverged, EnvironmentFault
from pipeline.graph.forecast import CHECKPOINT_BYTES
from pipeline.graph.manifest import damaged_files
from pipeline.runtime.files import DRAFT, inodes_left
from pipeline.runtime.formatting import counted, readable_bytes
from pipeline.training.checkpoint_files import (
    CheckpointReceipt,
    checkpoints_in,
    delete,
    publish,
    receipt_or_reason,
    refuse_other_training,
    remove_leftovers,
    settle,
    step_name,
    stray_checkpoints,
    superseded,
)
from pipeline.training.engine import Engine
from pipeline.training.file_writing import FileWriting
from pipeline.training.state import State


@dataclass(frozen=True)
class Draft:
    """A checkpoint that is being written."""

    state: State
    folder: Path
    writing: FileWriting  # of this rank


class Checkpoints:
    """The checkpoints of one training. Every method but `written` is collective."""

    def __init__(
        self,
        folder: Path,
        engine: Engine,
        *,
        keep: int,
        identity: Mapping[str, Any],
        keep_every: int = 0,
        pinned: Collection[int] = (),
    ) -> None:
        self.folder = folder
        self.engine = engine
        self.kept = {"keep": max(keep, 1), "keep_every": keep_every}  # with none left no training could be resumed
        self.pinned = frozenset(pinned)  # steps, never deleted here
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))  # as a receipt gives it back
        self.newest: int | None = None  # step of the newest one that this process saved or loaded
        self._draft: Draft | None = None

    def save(self, state: State) -> None:
        """Begin a checkpoint of now; at most one is under way, so this waits for the one before.

        Raises, on every rank, EnvironmentFault if there is no room or a rank cannot write, and Diverged if a weight is
        not finite; older checkpoints stay intact.
        """
        self.commit()
        # Weights that are lost would replace good ones as the newest, and every resume would fail the same way.
        if not all(all_gather(self.engine.is_finite())):
            raise Diverged(
                f"Training diverged: at step {state.step:,} some weights are not finite, so no checkpoint was written.",
                remedy="Lower the learning rate; earlier checkpoints are intact.",
            )
        draft = self.folder / (step_name(state.step) + DRAFT)
        self._together(draft, lambda: self._prepare(draft))
        self._draft = Draft(state, draft, self.engine.save(draft, state.step))
        self.newest = state.step

    def written(self) -> bool:
        """Whether this rank has written its part of the checkpoint that is under way."""
        return self._draft is not None and self._draft.writing.is_done

    def commit(self) -> None:
        """Finish the checkpoint that is under way, if any, then delete those that are not needed any more.

        Waits for this rank's writing. Raises EnvironmentFault on every rank if any could not write.
        """
        if self._draft is None:
            return
        draft, self._draft = self._draft, None
        # Every rank hashes its own files right after writing them; to rank 0 they may be on a file system far away.
        own = self._together(draft.folder, draft.writing.entries)
        files = sorted((entry for entries in all_gather(own) for entry in entries), key=lambda entry: entry.path)
        receipt = CheckpointReceipt(
            step=draft.state.step,
            tokens=draft.state.tokens,
            nats_per_token=draft.state.nats_per_token,
            state=draft.state.to_json(),
            identity=self.identity,
            ranks=self.engine.world.world_size,
            zero=self.engine.settings.zero,
            files=tuple(files),
        )
        self._together(draft.folder, lambda: self._publish(draft.folder, receipt))
        fault_injection.inject("after_commit", rank=self.engine.world.rank, step=receipt.step)

    def resume(self, say: Callable[[str], None]) -> State:
        """Load the newest valid checkpoint; a new state if there is none.

        `say` is told which ones were passed over and why, and if it is cut for another number of ranks. Raises
        DataError if all of them are damaged, ResumeError if the newest valid one does not fit this training.
        """
        if self.engine.world.leads:
            settle(self.folder)
        # Rank 0 looks for all: a file system that two hosts share may show a new folder to one of them later.
        names = broadcast([path.name for path in checkpoints_in(self.folder)])
        damage = ""
        for name in reversed(names):
            receipt, damage = self._examine(self.folder / name)
            if receipt is not None and not damage:
                self._load(self.folder / name, receipt)
                say(f"resuming at step {receipt.step:,}{self._divided_anew(receipt)}")
                return State.from_json(receipt.state)
            say(f"checkpoint {name} is not used: {damage}")
        self._refuse_to_begin_again(len(names), damage)
        return State()

    def _load(self, folder: Path, receipt: CheckpointReceipt) -> None:
        refuse_other_training(folder, receipt.identity, self.identity)
        self.engine.load([folder / entry.path for entry in receipt.files])
        self.newest = receipt.step

    def _divided_anew(self, receipt: CheckpointReceipt) -> str:
        """What is said where the state lies on the ranks in another way than it was saved."""
        ranks, zero = self.engine.world.world_size, self.engine.settings.zero
        changes = [f"{receipt.ranks} -> {counted(ranks, 'rank')}"] if receipt.ranks != ranks else []
        changes += [f"ZeRO {receipt.zero} -> {zero}"] if receipt.zero != zero else []
        return f"; its state is divided anew ({', '.join(changes)})" if changes else ""

    def _refuse_to_begin_again(self, num: int, damage: str) -> None:
        """Raise DataError if there are checkpoints that are damaged, or lie where resuming does not look for them."""
        # Starting over in silence would throw away days, and delete the damaged ones that a backup could mend.
        if num:
            raise DataError(
                f"None of the {num} checkpoints in {self.folder} is valid; the oldest: {damage}.",
                remedy="Restore one from a backup, or delete the folder to train from the beginning.",
            )
        if strays := broadcast(stray_checkpoints(self.folder)):
            raise DataError(
                f"There is no checkpoint in {self.folder}, but one in {strays[-1]}.",
                remedy="Move it there to go on from it, or delete it to train from the beginning.",
            )

    def _examine(self, folder: Path) -> tuple[CheckpointReceipt | None, str]:
        """The receipt and what is wrong with its files; the ranks share the hashing."""
        receipt, damage = broadcast(receipt_or_reason(folder))
        share = receipt.files[self.engine.world.rank :: self.engine.world.world_size] if receipt else ()
        by_rank = all_gather([damage, *damaged_files(folder, share)])
        # Each reason once: the receipt's own damage is reported by every rank.
        return receipt, "; ".join(dict.fromkeys(reason for reasons in by_rank for reason in reasons if reason))

    def _prepare(self, draft: Path) -> None:
        if not self.engine.world.leads:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        # Asked before anything is written: on a disk that is full to the last byte, ranks cannot leave notes either.
        if shutil.disk_usage(self.folder).free < self._needed_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # Two files of each rank, the weights, the receipt with its draft, and their folder.
        if (files := inodes_left(self.folder)) < 2 * self.engine.world.world_size + 4:
            raise OSError(errno.ENOSPC, f"only {files} more files fit on the disk (its inodes are used up)")
        draft.mkdir()

    @property
    def _needed_bytes(self) -> int:
        return CHECKPOINT_BYTES * self.engine.num_parameters

    def _publish(self, draft: Path, receipt: CheckpointReceipt) -> None:
        fault_injection.inject("commit", rank=self.engine.world.rank, step=receipt.step)
        if not self.engine.world.leads:
            return
        publish(draft, self.folder / step_name(receipt.step), receipt)
        # Only after the new one is in its place, so that at every moment one complete checkpoint exists.
        for old in superseded(self.folder, **self.kept, pinned=self.pinned):
            delete(old)

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
        free = shutil.disk_usage(self.folder).free if self.folder.exists() else 0
        raise EnvironmentFault(
            f"Checkpoint {self.folder / draft.stem} was not written ({'; '.join(problems)}): "
            f"it needs {readable_bytes(self._needed_bytes)}, {readable_bytes(free)} are free.",
            remedy="Make room and run the same command: earlier checkpoints are intact.",
        )
