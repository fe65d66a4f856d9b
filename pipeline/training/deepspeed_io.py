"""How DeepSpeed's files are written here, and read: from a copy, while training goes on, and without running pickles.

Apart from the other modules that know DeepSpeed (see `engine.py`), because the import takes seconds.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import psutil
import torch
from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from pipeline.distributed import fault_injection
from pipeline.errors import DataError
from pipeline.training.file_writing import FileWriting, bytes_of, copied_to_host
from pipeline.training.saved_state import Contents

CONTENTS = "folio"  # their key in the file that holds the optimizer's state
# What DeepSpeed 0.19.8 puts into its files beside tensors and plain values. None of them runs code when it is made.
TRUSTED = (LossScaler, ZeroStageEnum, fragment_address)
MOST_SHOWN = 160  # characters of what torch says
COPY_SHARE = 0.5  # of the memory that is free on this host: more is not taken for copies


class RankFiles(TorchCheckpointEngine):  # type: ignore[misc]
    """Stands in for DeepSpeed's own file layer on one rank.

    The file that holds the optimizer's state gets `contents` beside what DeepSpeed puts into it. Those tensors are the
    same, so they take no room; but they say which parameter each belongs to, at every ZeRO stage in the same way.
    """

    def __init__(self, rank: int, ranks_here: int) -> None:
        super().__init__()
        self.rank, self.ranks_here = rank, ranks_here
        self.step = 0
        self.contents: Contents = []
        self.writing = FileWriting()

    def begin(self, step: int, contents: Contents) -> FileWriting:
        """Before DeepSpeed saves: what follows goes into this writing, which has not started."""
        self.step, self.contents, self.writing = step, contents, FileWriting()
        return self.writing

    def save(self, state_dict: Any, path: str) -> None:
        if "optimizer_state_dict" in state_dict or state_dict.get("optimizer") is not None:
            # Once: what stood in two files would be read twice.
            state_dict, self.contents = {**state_dict, CONTENTS: self.contents}, []
        # All ranks of this host copy at the same time.
        room = psutil.virtual_memory().available * COPY_SHARE / self.ranks_here
        if bytes_of(state_dict) > room:
            self.writing.write_now(Path(path), lambda path: self._write(state_dict, path))
            return
        copy = copied_to_host(state_dict)
        self.writing.add(Path(path), lambda path: self._write(copy, path))

    def _write(self, state: Any, path: Path) -> None:
        fault_injection.inject("save", rank=self.rank, step=self.step)
        with path.open("wb") as file:
            torch.save(state, file)


def contents_in(path: Path) -> Contents:
    """What a rank's file says it holds; nothing if it holds no state. Mapped: only what is used comes from the disk.

    Tensors, plain values and the trusted classes are accepted, and nothing else: a pickle may name any function and
    have it called. Raises DataError for any other file.
    """
    try:
        with torch.serialization.safe_globals(list(TRUSTED)):
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        contents: Contents = state.get(CONTENTS, [])
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, AttributeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{path} is not what a rank wrote ({first[:MOST_SHOWN]}).",
            remedy="Use another checkpoint of this training.",
        ) from None
    return contents
