"""A model under DeepSpeed, at any number of ranks: gradients, updates, gathered weights, sharded files.

This module drives DeepSpeed. What else knows it has its name: `deepspeed_start.py` makes its engine,
`deepspeed_config.py` derives its settings, `deepspeed_partitions.py` finds where it keeps the weights, and
`deepspeed_io.py` replaces how it writes files. `distributed/launch_hosts.py` starts its launcher. One step is

    engine.begin(batch, learning_rate)
    for inputs, targets in batch:
        engine.backward(inputs, targets)
    result = engine.step()

and its gradient is that of the mean over all counted targets of all ranks and micro-batches. Why DeepSpeed, and what it
is trusted with: docs/decisions/training.md.
"""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from gpt.loss import IGNORED, LossSum
from gpt.model import GPT
from pipeline.distributed import fault_injection
from pipeline.distributed.collectives import all_gather
from pipeline.distributed.world import World
from pipeline.errors import DataError
from pipeline.saved_models.model_files import WEIGHTS
from pipeline.saved_models.weights import save_weights
from pipeline.training.deepspeed_config import EngineSettings, checks_gradients
from pipeline.training.deepspeed_partitions import partitions_of, show_updated_masters
from pipeline.training.deepspeed_start import deepspeed_engine
from pipeline.training.file_writing import FileWriting
from pipeline.training.muon import Muon
from pipeline.training.saved_state import WORD, checksum, contents_of, joined, restore
from pipeline.training.state import StepResult

MicroBatch = tuple[np.ndarray, np.ndarray]  # inputs and targets, int64 (samples, context)

# A uniform guess costs ln(V) nats. A loss ten times that comes from a broken model or a broken number, and following
# it would only spread the damage.
IMPLAUSIBLE = 10.0  # times ln(V)


class Engine:
    """Owns the model from now on: its weights are read through `weights()`.

    Collective methods must be called by every rank in the same order: a rank that left one out would leave the others
    waiting until they time out.
    """

    def __init__(self, model: GPT, optimizer: torch.optim.Optimizer, settings: EngineSettings, world: World) -> None:
        self.world = world
        self.settings = settings
        self.device = torch.device(world.device)
        self._implausible_above = IMPLAUSIBLE * math.log(model.shape.vocab_size)
        self._optimizer = optimizer
        self._deepspeed = deepspeed_engine(model, optimizer, settings, world)
        self._partitions = partitions_of(self._deepspeed.optimizer, self._deepspeed.module)
        if isinstance(optimizer, Muon):
            optimizer.lie_in(self._partitions)
        self._sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # nats and count of this rank's step
        self._step = 0  # for fault injection only: the optimizer counts its own steps

    def begin(
        self, batch: Sequence[MicroBatch], learning_rate: float, *, step: int = 0, highest_loss: float = math.inf
    ) -> None:
        """Start a step on this rank's micro-batches. Collective: the ranks learn how many targets the step has.

        It is skipped, like one whose loss is not finite, if its loss in nats per token is above `highest_loss`.
        """
        # Set from outside before every step: a scheduler of DeepSpeed's would be one more state to save and restore.
        for group in self._deepspeed.optimizer.param_groups:
            group["lr"] = learning_rate
        self._step, self._spike_above = step, highest_loss
        self._sums.zero_()
        self._left = len(batch)  # micro-batches whose backward is still to come
        counted = sum(int((targets != IGNORED).sum()) for _, targets in batch)
        # Every backward divides by the targets of all ranks, so the count must be known before the first one.
        self._count = torch.tensor(counted, dtype=torch.float32, device=self.device)
        self._counting = dist.all_reduce(self._count, async_op=True)  # hidden behind the first forward

    def backward(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        """Add one micro-batch's gradients; the last one of a step reduces them over the ranks."""
        self._left -= 1
        # At the boundary DeepSpeed reduces gradients and lets `step` update; before it, it only adds them up.
        self._deepspeed.set_gradient_accumulation_boundary(self._left == 0)
        nats, count = self._forward(inputs, targets)
        nats = nats * fault_injection.inject("backward", rank=self.world.rank, step=self._step)
        self._counting.wait()  # returns at once from the second micro-batch on
        with torch.no_grad():
            self._sums[0] += nats
            self._sums[1] += count
            plausible = nats <= self._implausible_above * count  # false for nan, too
            # DeepSpeed averages over ranks: undo that, the mean is over tokens. A bad loss becomes nan, so that it
            # reaches the gradient norm that all ranks look at before the update. `where` and not `if`: reading the loss
            # would make the CPU wait for the GPU in every micro-batch.
            scale = torch.where(plausible & ~self._is_spike(), self.world.world_size / self._count, math.nan)
        # Without scale_wrt_gas=False it would also divide by the number of micro-batches.
        self._deepspeed.backward(nats * scale, scale_wrt_gas=False)

    def _is_spike(self) -> Tensor:
        """Whether the batch has a higher loss than it may. Known before its last backward: false until then."""
        if self._left > 0 or math.isinf(self._spike_above):
            return torch.zeros((), dtype=torch.bool, device=self.device)
        sums = self._sums.clone()
        dist.all_reduce(sums)
        return sums[0] > self._spike_above * sums[1]

    def step(self, *, stop: bool = False, written: bool = False) -> StepResult:
        """Update the weights, unless the loss or gradient of any rank is not finite: then no rank does. Collective.

        `stop` and `written` are what this rank has to say; the result tells whether any rank, or every rank, said so.
        """
        # They travel with the loss, so that all ranks learn of it at the same step without another collective.
        sums = torch.cat((self._sums, self._sums.new_tensor([stop, written])))
        dist.all_reduce(sums)
        norm = self._update()
        nats, count, stops, written = sums.tolist()
        return StepResult(
            nats / count,
            int(count),
            norm,
            skipped=not math.isfinite(norm),
            stop=stops > 0,
            written=written == self.world.world_size,
            highest_loss=min(self._spike_above, self._implausible_above),
        )

    def _update(self) -> float:
        own_norm = None if checks_gradients(self.settings) else self._clip()
        # Gradients are reduced by now, so the norm is the same on every rank and all of them decide alike.
        if own_norm is not None and not math.isfinite(own_norm):
            self._deepspeed.zero_grad()  # without gradients the update changes nothing
        self._deepspeed.step()
        return float(self._deepspeed.get_global_grad_norm()) if own_norm is None else own_norm

    def _clip(self) -> float:
        """Clip the gradients as DeepSpeed would; their norm before that."""
        limit = self.settings.clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self._deepspeed.module.parameters(), limit)
        return float(norm)

    def loss(self, inputs: np.ndarray, targets: np.ndarray) -> LossSum:
        """Loss without gradients. With ZeRO 3 every rank must call this equally often."""
        with torch.no_grad():
            return self._forward(inputs, targets)

    def _forward(self, inputs: np.ndarray, targets: np.ndarray) -> LossSum:
        # The targets go along: the model returns the loss, so that logits never leave its forward.
        pair = (torch.from_numpy(array).to(self.device, non_blocking=True) for array in (inputs, targets))
        return cast(LossSum, self._deepspeed(*pair))

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Without dropout while the block runs."""
        self._deepspeed.eval()
        try:
            yield
        finally:
            self._deepspeed.train()

    def weights(self) -> dict[str, Tensor]:
        """Every weight by name on rank 0's CPU, in the dtype it computes in; empty on the others. Collective."""
        weights: dict[str, Tensor] = {}
        # One parameter at a time: under ZeRO 3 the whole model need not fit on any one device.
        for name, parameter in self._deepspeed.module.named_parameters():
            with _whole(parameter, self.settings.zero):
                if self.world.leads:
                    # A copy even on a CPU: the gathered parameter is freed when the block ends.
                    weights[name] = parameter.detach().to("cpu", copy=True)
        return weights

    def is_finite(self) -> bool:
        """Whether every weight that this rank holds is a finite number."""
        # Under ZeRO 3 a parameter is empty between forwards, and `ds_tensor` is this rank's share of it.
        held = (getattr(parameter, "ds_tensor", parameter) for parameter in self._deepspeed.module.parameters())
        return all(bool(tensor.isfinite().all()) for tensor in held)

    def save(self, folder: Path, step: int) -> FileWriting:
        """Begin to write this rank's share of the state into `folder`, which exists; rank 0 adds all weights.

        What is written is the state of now, whatever follows: it is copied where there is memory for that.
        Collective.
        """
        files = self._deepspeed.checkpoint_engine
        writing: FileWriting = files.begin(step, contents_of(self._partitions, self._optimizer))
        self._deepspeed.save_checkpoint(str(folder.parent), tag=folder.name, save_latest=False)
        weights = self.weights()
        if self.world.leads:
            writing.add(folder / WEIGHTS, lambda path: save_weights(path, weights, step=str(step)))
        writing.start()
        return writing

    def load(self, files: Sequence[Path]) -> None:
        """Take over the state in a checkpoint's files, whatever ranks at whatever ZeRO stage wrote them. Collective.

        Trusts what it reads, so the caller compares hashes first. Raises DataError if a part of the state is missing.
        """
        from pipeline.training.deepspeed_io import contents_in  # imports deepspeed, which takes seconds

        restore(joined(map(contents_in, files)), self._partitions, self._optimizer)
        show_updated_masters(self._deepspeed.optimizer)
        # Each rank adds up some of the files; and of what all ranks hold alike only one counts.
        own = contents_of(self._partitions, self._optimizer) if self.world.leads or self._is_cut else []
        read = joined(map(contents_in, files[self.world.rank :: self.world.world_size]))
        sums = [
            sum(column) % WORD for column in zip(*all_gather((checksum(read), checksum(joined([own])))), strict=True)
        ]
        if sums[0] != sums[1]:
            raise DataError(
                f"The state read from {files[0].parent} is not the one that was written (checksums {sums[0]:x} and "
                f"{sums[1]:x}).",
                remedy="Use another checkpoint of this training.",
            )

    @property
    def _is_cut(self) -> bool:
        """Whether each rank holds another part of the state; at stage 0 every rank holds all of it."""
        return self.settings.zero > 0

    @property
    def num_parameters(self) -> int:
        return sum(getattr(p, "ds_numel", p.numel()) for p in self._deepspeed.module.parameters())

    def close(self) -> None:
        """Free the memory before another engine is built."""
        self._deepspeed.destroy()
        # DeepSpeed's objects refer to each other in circles, which keep the weights until the collector runs.
        del self._deepspeed
        gc.collect()


@contextlib.contextmanager
def _whole(parameter: Tensor, zero: int) -> Iterator[None]:
    """The parameter gathered from all ranks while the block runs."""
    if zero < 3:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter]):
        yield
