"""How DeepSpeed writes and reads its files here: down to the disk, and without running their pickles.

The third module that knows DeepSpeed (see `engine.py`), apart from it because the import takes seconds.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from pipeline.distributed import fault_injection


class RankFiles(TorchCheckpointEngine):  # type: ignore[misc]
    """Stands in for DeepSpeed's own file layer on one rank, and remembers what the last save wrote.

    A failed write is kept, not raised: DeepSpeed's save has barriers, in which the other ranks would wait for this one.
    Reading accepts tensors, plain values and the three classes below, and nothing else: a pickle may name any function
    and have it called.
    """

    # What DeepSpeed 0.19.8 puts into its files beside tensors and plain values. None of them runs code when it is made.
    TRUSTED = (LossScaler, ZeroStageEnum, fragment_address)

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.step = 0
        self.written: list[Path] = []
        self.failure: OSError | None = None

    def save(self, state_dict: Any, path: str) -> None:
        # The checkpoint is lost with its first file; go on to the barriers without filling the disk further.
        if self.failure is not None:
            return
        try:
            fault_injection.inject("save", rank=self.rank, step=self.step)
            with Path(path).open("wb") as file:
                torch.save(state_dict, file)
                file.flush()
                # Before the checkpoint is renamed into place, or a power cut could leave a whole name on empty files.
                os.fsync(file.fileno())
        except OSError as error:
            self.failure = error
        except RuntimeError as error:  # torch's archive writer wraps what the disk said
            self.failure = OSError(errno.EIO, str(error))
        self.written.append(Path(path))

    def load(self, path: str, map_location: Any = None) -> Any:
        with torch.serialization.safe_globals(list(self.TRUSTED)):
            return torch.load(path, map_location=map_location, weights_only=True)

    def begin(self, step: int) -> None:
        """Forget the last save; the next is that of `step`."""
        self.step, self.written, self.failure = step, [], None
