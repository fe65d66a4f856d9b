"""A checkpoint on the disk: its receipt, its name, and how it comes and goes as a whole.

    checkpoints/step-00001000/             DeepSpeed's files, model.safetensors, and checkpoint.json, the receipt
    checkpoints/step-00001000.tmp/         a draft; complete once it holds its receipt
    checkpoints/step-00001000.replaced/    stands in for the one that is just being replaced
    checkpoints/step-00001000.deleted/     what is left of one that was being deleted

Only the first name is a checkpoint's. What a killed process left under the others is sorted out by `settle`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import DataError, ResumeError
from pipeline.graph.manifest import FileEntry
from pipeline.runtime.files import DRAFT, sync, write_text
from pipeline.saved_models.model_files import BRANCHES, TRIALS

RECEIPT = "checkpoint.json"
FORMAT = 2
NAME = re.compile(r"step-\d{8,}")
REPLACED, DELETED = ".replaced", ".deleted"


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
    ranks: int  # how many wrote it, and at which ZeRO stage; any number at any stage may go on from it
    zero: int
    files: tuple[FileEntry, ...]
    sha256: str = ""

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude={"sha256"}).encode()).hexdigest()

    def sealed(self) -> CheckpointReceipt:
        return self.model_copy(update={"sha256": self.digest})

    @property
    def is_best(self) -> bool:
        """Whether the lowest loss on held-out text so far is that of this step."""
        return self.state.get("best_step") == self.step


def step_name(step: int) -> str:
    """Name of the checkpoint of a step; names sort as steps do."""
    return f"step-{step:08d}"


def checkpoints_in(folder: Path) -> list[Path]:
    """Committed checkpoints, oldest first. Their files may be damaged all the same: see `read_receipt`."""
    return sorted(path for path in folder.glob("step-*") if NAME.fullmatch(path.name) and path.is_dir())


def read_receipt(folder: Path) -> CheckpointReceipt:
    """The receipt of a checkpoint. Raises DataError if it is missing, damaged or names files outside the folder."""
    receipt, reason = receipt_or_reason(folder)
    if receipt is None or reason:
        raise DataError(f"{folder}: {reason}.", remedy="Use another checkpoint of this training.")
    return receipt


def receipt_or_reason(folder: Path) -> tuple[CheckpointReceipt | None, str]:
    """The receipt of a checkpoint if it can be read, and why the checkpoint cannot be used; empty if it can.

    Hashes of the files are not compared here.
    """
    receipt, reason = _parsed(folder)
    return receipt, reason or (_fault(folder, receipt) if receipt else "")


def _parsed(folder: Path) -> tuple[CheckpointReceipt | None, str]:
    try:
        values = json.loads((folder / RECEIPT).read_bytes())
        # Before the fields: those of another format are others.
        if (number := values.get("format", FORMAT)) != FORMAT:
            return None, f"{RECEIPT} has format {number}, this Folio reads {FORMAT}"
        receipt = CheckpointReceipt.model_validate(values)
    except FileNotFoundError:
        return None, f"{RECEIPT} is missing"
    except (OSError, ValueError, AttributeError, ValidationError):
        return None, f"{RECEIPT} is damaged"
    if receipt.sha256 != receipt.digest:
        return None, f"{RECEIPT} has another sha256"
    return receipt, ""


def _fault(folder: Path, receipt: CheckpointReceipt) -> str:
    """What does not agree between a receipt and the folder that it lies in; empty if all does."""
    # The name decides which one is the newest, so a renamed folder would stand in the way of all that follow.
    if NAME.fullmatch(folder.name) and folder.name != step_name(receipt.step):
        return f"{RECEIPT} is that of step {receipt.step:,}"
    # A receipt may come from somewhere else with its checkpoint; hashing what it names must not leave the folder.
    for entry in receipt.files:
        if not (folder / entry.path).resolve().is_relative_to(folder.resolve()):
            return f"{RECEIPT} names {entry.path}, which lies outside"
    # Every file with state in it is read, so one that nobody hashed must not lie among them.
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    surplus = present - {entry.path for entry in receipt.files} - {RECEIPT}
    return "".join(f"{name} is not part of it" for name in sorted(surplus)[:1])


def publish(draft: Path, final: Path, receipt: CheckpointReceipt) -> None:
    """Make a checkpoint of a folder whose files are written and synced, in the place of what stood there."""
    write_text(draft / RECEIPT, receipt.sealed().model_dump_json(indent=1) + "\n")
    replaced = final.with_name(final.name + REPLACED)
    if final.exists():
        final.rename(replaced)
    draft.rename(final)
    sync(final.parent)  # or a power cut could undo the rename after older checkpoints were deleted
    if replaced.exists():
        delete(replaced)


def settle(folder: Path) -> None:
    """Finish what a killed process had begun. Nobody else writes here: the artifact is locked while its stage runs."""
    for replaced in folder.glob(f"step-*{REPLACED}"):
        final = replaced.with_suffix("")
        if final.exists():
            delete(replaced)
        else:
            replaced.rename(final)
    # A draft with a receipt only lacked its name.
    for draft in folder.glob(f"step-*{DRAFT}"):
        receipt, reason = receipt_or_reason(draft)
        final = draft.with_suffix("")
        if receipt is not None and not reason and final.name == step_name(receipt.step) and not final.exists():
            draft.rename(final)


def remove_leftovers(folder: Path) -> None:
    """Delete drafts and halves of checkpoints; call `settle` before."""
    for suffix in (DRAFT, DELETED):
        for leftover in folder.glob(f"*{suffix}"):
            shutil.rmtree(leftover)


def delete(folder: Path) -> None:
    """Delete a checkpoint."""
    # Renamed first: a deletion that is cut short leaves a leftover, not a checkpoint with missing files.
    doomed = folder.with_name(folder.name.removesuffix(REPLACED) + DELETED)
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def superseded(folder: Path, *, keep: int, keep_every: int, pinned: Collection[int]) -> list[Path]:
    """Checkpoints that are not needed any more, oldest first.

    Needed are the newest `keep`, those of every `keep_every`-th step (0: none), the pinned steps, and the one with the
    lowest loss on held-out text. One that cannot be read is left to whoever damaged or renamed it, and counts for none.
    """
    examined = [(path, *receipt_or_reason(path)) for path in checkpoints_in(folder)]
    readable = [(path, receipt) for path, receipt, reason in examined if receipt is not None and not reason]
    best = max((receipt.step for _, receipt in readable if receipt.is_best), default=None)
    return [
        path
        for path, receipt in readable[:-keep]
        if not (receipt.step in (*pinned, best) or (keep_every and receipt.step % keep_every == 0))
    ]


def stray_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints that resuming does not see: outside of `folder`, but in the folder of its training."""
    training = folder.parent
    others = (path.parent for path in training.rglob(RECEIPT) if folder not in path.parents)
    # Trials and branches are trainings of their own.
    return sorted(path for path in others if path.relative_to(training).parts[0] not in (TRIALS, BRANCHES))


def link_checkpoint(checkpoint: Path, folder: Path) -> None:
    """Put a committed checkpoint into another training's folder as its first, without copying its files.

    Each of the two may delete its own: the files stay until nobody names them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Under a draft's name first: a copy that is cut short must not pass for a checkpoint.
    draft = folder / (checkpoint.name + DRAFT)
    shutil.rmtree(draft, ignore_errors=True)
    # The receipt last, for it makes a draft complete.
    shutil.copytree(checkpoint, draft, copy_function=_link, ignore=shutil.ignore_patterns(RECEIPT))
    _link(str(checkpoint / RECEIPT), str(draft / RECEIPT))
    draft.rename(folder / checkpoint.name)


def _link(source: str, target: str) -> str:
    """Give a file a second name, or copy it where a file system cannot: a checkpoint's files never change."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def refuse_other_training(folder: Path, saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raise ResumeError naming every value, old -> new, in which the checkpoint and this training differ."""
    changed = [key for key in sorted(saved.keys() | current.keys()) if saved.get(key) != current.get(key)]
    if not changed:
        return
    differences = ", ".join(f"{key} {saved.get(key)} -> {current.get(key)}" for key in changed)
    raise ResumeError(
        f"{folder} belongs to a different training: {differences}.",
        remedy="Change it back, or delete the checkpoints to train from the beginning.",
    )
