"""Converts a sharded checkpoint to another number of ranks, by DeepSpeed's universal format.

Ranks under ZeRO each write their share of the optimizer's state. DeepSpeed's own tool joins the shares, and whoever
loads a universal checkpoint takes its share of the whole again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.errors import ConfigError, DataError
from pipeline.graph.manifest import damaged_files, file_entries
from pipeline.training.checkpoints import RECEIPT, CheckpointReceipt, publish, read_receipt


def convert(folder: Path, ranks: int) -> Path:
    """Put a checkpoint that `ranks` ranks can go on from in the place of `folder`; returns where the original went.

    No number in it changes. Raises DataError if the checkpoint is damaged, before anything in it is unpickled, and
    ConfigError if there would be no rank.
    """
    receipt = _intact(folder)
    if ranks < 1:
        raise ConfigError(f"{ranks} ranks cannot train.", remedy="Give at least 1.")
    draft = folder.with_name(folder.name + ".convert.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    # Under stage 0 every rank holds the whole state, and a universal checkpoint is joined already.
    whole = _zero_stage(receipt) == 0
    if whole or receipt.universal:
        shutil.copytree(folder, draft)
        (draft / RECEIPT).unlink()  # `publish` writes another one
    else:
        _run_deepspeed(folder, draft)
    # Outside the folder of checkpoints, where resuming would find it and refuse its number of ranks.
    aside = folder.parent.parent / f"checkpoints-of-{receipt.identity['world_size']}-ranks" / folder.name
    changed = {
        "identity": receipt.identity | {"world_size": ranks},
        "universal": not whole,
        "files": file_entries(draft, ignored=(RECEIPT,)),
    }
    os.sync()  # DeepSpeed's tool does not sync what it writes
    publish(draft, folder, receipt.model_copy(update=changed), aside=aside)
    return aside


def _intact(folder: Path) -> CheckpointReceipt:
    receipt = read_receipt(folder)
    if damaged := damaged_files(folder, receipt.files):
        raise DataError(f"{folder}: {'; '.join(damaged)}.", remedy="Convert another checkpoint.")
    return receipt


def _zero_stage(receipt: CheckpointReceipt) -> int:
    # Under "pretrain.zero", "scratch.zero" or "finetune.zero": see `TrainingInputs.identity`.
    return next(int(value) for key, value in receipt.identity.items() if key.endswith(".zero"))


def _run_deepspeed(folder: Path, draft: Path) -> None:
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal"]
    command += ["--input_folder", str(folder.resolve()), "--output_folder", str(draft.resolve())]
    # More workers hold more of the optimizer's state in memory at once.
    command += ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    # Not where the command was given: `-m` imports from the folder that it is called in.
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise DataError(f"DeepSpeed could not convert {folder}: {last[0]}.", remedy="Convert another checkpoint.")
