"""A model under DeepSpeed, at any number of ranks: gradients, updates, gathered weights, sharded files.

DeepSpeed is known to three modules: this one drives it, `deepspeed_config.py` derives its settings, `deepspeed_io.py`
replaces how it writes and reads files. Two more start one of its command lines: `reshard.py` and
`distributed/launch_hosts.py`. One step is

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
import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from gpt.loss import IGNORED, LossSum
from gpt.model import GPT
from pipeline.distributed import fault_injection
from pipeline.distributed.world import World
from pipeline.training.deepspeed_config import EngineSettings, checks_gradients, deepspeed_config
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
        self._highest_loss = IMPLAUSIBLE * math.log(model.shape.vocab_size)
        self._optimizer = optimizer
        self._deepspeed = _initialize(model, optimizer, settings, world)
        self._sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # nats and count of this rank's step
        self._step = 0  # for fault injection only: the optimizer counts its own steps

    def begin(self, batch: Sequence[MicroBatch], learning_rate: float, *, step: int = 0) -> None:
        """Start a step on this rank's micro-batches. Collective: the ranks learn how many targets the step has."""
        # Set from outside before every step: a scheduler of DeepSpeed's would be one more state to save and restore.
        for group in self._deepspeed.optimizer.param_groups:
            group["lr"] = learning_rate
        self._step = step
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
            plausible = nats <= self._highest_loss * count  # false for nan, too
            # DeepSpeed averages over ranks: undo that, the mean is over tokens. A bad loss becomes nan, so that it
            # reaches the gradient norm that all ranks look at before the update. `where` and not `if`: reading the loss
            # would make the CPU wait for the GPU in every micro-batch.
            scale = torch.where(plausible, self.world.world_size / self._count, math.nan)
        # Without scale_wrt_gas=False it would also divide by the number of micro-batches.
        self._deepspeed.backward(nats * scale, scale_wrt_gas=False)

    def step(self, stop: bool = False) -> StepResult:
        """Update the weights, unless the loss or gradient of any rank is not finite: then no rank does. Collective."""
        # A wish to stop travels with the loss, so that all ranks stop at the same step without another collective.
        sums = torch.cat((self._sums, self._sums.new_tensor([stop])))
        dist.all_reduce(sums)
        norm = self._update()
        nats, count, stops = sums.tolist()
        return StepResult(nats / count, int(count), norm, skipped=not math.isfinite(norm), stop=stops > 0)

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

    def save(self, folder: Path, step: int) -> list[Path]:
        """Write this rank's share of the state into `folder`, which exists; the files it wrote. Collective.

        Raises OSError if this rank could not write, after all ranks are through.
        """
        files = self._deepspeed.checkpoint_engine
        files.begin(step)
        # Without the key DeepSpeed (0.19.8) cannot convert the checkpoint to another number of ranks.
        notes: dict[str, Any] = {"universal_checkpoint_info": {}}
        self._deepspeed.save_checkpoint(str(folder.parent), tag=folder.name, client_state=notes, save_latest=False)
        if files.failure is not None:
            raise files.failure
        return list(files.written)

    def load(self, folder: Path, *, universal: bool = False) -> None:
        """Take over the state that ranks of the same ZeRO stage and dtype wrote.

        They must have been as many as now, unless `universal`: then `reshard.py` has joined what they wrote.
        Trusts what it reads, so the caller compares hashes first. Collective.
        """
        config = self._deepspeed._config
        config.load_universal_checkpoint = universal  # left on, it would break later saves (DeepSpeed #7546)
        try:
            with _quiet(), _own_groups(self._optimizer):
                self._deepspeed.load_checkpoint(str(folder.parent), tag=folder.name)
        finally:
            config.load_universal_checkpoint = False

    @property
    def num_parameters(self) -> int:
        return sum(getattr(p, "ds_numel", p.numel()) for p in self._deepspeed.module.parameters())

    def close(self) -> None:
        """Free the memory before another engine is built."""
        self._deepspeed.destroy()
        # DeepSpeed's objects refer to each other in circles, which keep the weights until the collector runs.
        del self._deepspeed
        gc.collect()


def _initialize(model: GPT, optimizer: torch.optim.Optimizer, settings: EngineSettings, world: World) -> Any:
    # torch 2.13 renamed collectives that DeepSpeed 0.19.8 still calls by their old names.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    os.environ.setdefault("LOCAL_RANK", str(world.local_rank))  # DeepSpeed insists on the variable
    with _quiet():
        import deepspeed  # here, because importing it takes seconds and prints

        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        _join_process_group(deepspeed)
        config = deepspeed_config(settings)
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        from pipeline.training.deepspeed_io import RankFiles  # imports deepspeed, too

        # After the engine was built: DeepSpeed chooses its file layer by name and has no way to hand it an object.
        engine.checkpoint_engine = RankFiles(world.rank)
    # DeepSpeed (0.19.8) prepares bf16 stage 0 by a first Adam step on zero gradients, which would halve the real first
    # one. The optimizer makes its state anew where it is missing.
    if settings.zero == 0:
        optimizer.state.clear()
    return engine


def _join_process_group(deepspeed: Any) -> None:
    """Have DeepSpeed use the process group that the ranks formed; it does nothing from the second engine on."""
    # On a CPU, DeepSpeed 0.19.8 compiles a shared-memory all-reduce when it starts: over a minute, a compiler on every
    # node, and a lock file that blocks every later start if the compilation is killed. Only its inference would use it.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend=dist.get_backend(), auto_mpi_discovery=False, verbose=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop what DeepSpeed prints while the block runs: it reports every choice, an operator needs its warnings."""
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@contextlib.contextmanager
def _own_groups(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Undo what DeepSpeed (0.19.8) does to the optimizer when stage 3 loads a universal checkpoint in the block.

    It gives all groups the first one's settings, so that norms would decay like matrices. And it gives all parameters
    the same tensor as their step, so that each of them would count up the others'.
    """
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    yield
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
    for state in optimizer.state.values():
        if "step" in state:
            state["step"] = state["step"].clone()


@contextlib.contextmanager
def _whole(parameter: Tensor, zero: int) -> Iterator[None]:
    """The parameter gathered from all ranks while the block runs."""
    if zero < 3:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter]):
        yield
