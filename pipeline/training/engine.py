"""A model under DeepSpeed, at any number of ranks: gradients, updates, gathered weights, sharded files.

The only module that knows DeepSpeed. One step is

    engine.begin(batch, learning_rate)
    for inputs, targets in batch:
        engine.backward(inputs, targets)
    outcome = engine.step()

and its gradient is that of the mean over all counted targets of all ranks and micro-batches.
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
IMPLAUSIBLE = 10.0


class Engine:
    """Owns the model from now on: its weights are read through `weights()`."""

    def __init__(self, model: GPT, optimizer: torch.optim.Optimizer, settings: EngineSettings, world: World) -> None:
        self.world = world
        self.settings = settings
        self.device = torch.device(world.device)
        self._highest = IMPLAUSIBLE * math.log(model.shape.vocab_size)
        self._optimizer = optimizer
        self._deepspeed = _initialize(model, optimizer, settings, world)
        self._sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # nats and count of this rank's step
        self._step = 0

    def begin(self, batch: Sequence[MicroBatch], learning_rate: float, *, step: int = 0) -> None:
        """Start a step on this rank's micro-batches. Collective: the ranks learn how many targets the step has."""
        for group in self._deepspeed.optimizer.param_groups:
            group["lr"] = learning_rate
        self._step = step
        self._sums.zero_()
        self._left = len(batch)
        counted = sum(int((targets != IGNORED).sum()) for _, targets in batch)
        self._count = torch.tensor(counted, dtype=torch.float32, device=self.device)
        self._counting = dist.all_reduce(self._count, async_op=True)  # hidden behind the first forward

    def backward(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        """Add one micro-batch's gradients; the last one of a step reduces them over the ranks."""
        self._left -= 1
        self._deepspeed.set_gradient_accumulation_boundary(self._left == 0)
        nats, count = self._forward(inputs, targets)
        nats = nats * fault_injection.inject("backward", rank=self.world.rank, step=self._step)
        self._counting.wait()
        with torch.no_grad():
            self._sums[0] += nats
            self._sums[1] += count
            plausible = nats <= self._highest * count  # false for nan, too
            # DeepSpeed averages over ranks: undo that, the mean is over tokens. A bad loss becomes nan, so that it
            # reaches the gradient norm that all ranks look at before the update.
            scale = torch.where(plausible, self.world.world_size / self._count, math.nan)
        self._deepspeed.backward(nats * scale, scale_wrt_gas=False)

    def step(self, stop: bool = False) -> StepResult:
        """Update the weights, unless the loss or gradient of any rank is not finite: then no rank does. Collective."""
        sums = torch.cat((self._sums, self._sums.new_tensor([stop])))
        dist.all_reduce(sums)
        norm = self._update()
        nats, count, stops = sums.tolist()
        return StepResult(nats / count, int(count), norm, skipped=not math.isfinite(norm), stop=stops > 0)

    def _update(self) -> float:
        own_norm = None if checks_gradients(self.settings) else self._clip()
        if own_norm is not None and not math.isfinite(own_norm):
            self._deepspeed.zero_grad()  # without gradients the update changes nothing
        self._deepspeed.step()
        return float(self._deepspeed.get_global_grad_norm()) if own_norm is None else own_norm

    def _clip(self) -> float:
        """Clip as DeepSpeed would; the norm before."""
        limit = self.settings.clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self._deepspeed.module.parameters(), limit)
        return float(norm)

    def loss(self, inputs: np.ndarray, targets: np.ndarray) -> LossSum:
        """Loss without gradients. With ZeRO 3 every rank must call this equally often."""
        with torch.no_grad():
            return self._forward(inputs, targets)

    def _forward(self, inputs: np.ndarray, targets: np.ndarray) -> LossSum:
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
        found: dict[str, Tensor] = {}
        for name, parameter in self._deepspeed.module.named_parameters():
            with _whole(parameter, self.settings.zero):
                if self.world.leads:
                    found[name] = parameter.detach().to("cpu", copy=True)
        return found

    def is_finite(self) -> bool:
        """Whether every weight that this rank holds is a finite number."""
        held = (getattr(parameter, "ds_tensor", parameter) for parameter in self._deepspeed.module.parameters())
        return all(bool(tensor.isfinite().all()) for tensor in held)

    def save(self, folder: Path, step: int) -> list[Path]:
        """Write this rank's part of the state into `folder`, which exists; the files it wrote. Collective.

        Raises OSError if this rank could not write, after all ranks are through.
        """
        files = self._deepspeed.checkpoint_engine
        files.begin(step)
        # Without the key DeepSpeed cannot convert the checkpoint to another number of ranks.
        notes: dict[str, Any] = {"universal_checkpoint_info": {}}
        self._deepspeed.save_checkpoint(str(folder.parent), tag=folder.name, client_state=notes, save_latest=False)
        if files.failure is not None:
            raise files.failure
        return list(files.written)

    def load(self, folder: Path, *, universal: bool = False) -> None:
        """Take over the state that ranks of the same ZeRO stage and dtype wrote, as many as now unless it is universal.

        Trusts what it reads: compare hashes first. Collective.
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
        del self._deepspeed
        gc.collect()


def _initialize(model: GPT, optimizer: torch.optim.Optimizer, settings: EngineSettings, world: World) -> Any:
    # torch 2.13 renamed collectives that DeepSpeed 0.19.8 still calls by their old names.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    os.environ.setdefault("LOCAL_RANK", str(world.local_rank))  # DeepSpeed insists on the variable
    with _quiet():
        import deepspeed

        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        _join_process_group(deepspeed)
        config = deepspeed_config(settings)
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        from pipeline.training.deepspeed_io import RankFiles

        engine.checkpoint_engine = RankFiles(world.rank)
    # DeepSpeed (0.19.8) prepares bf16 stage 0 by a first Adam step on zero gradients, which would halve the real first
    # one. The state is made anew where it is missing.
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
    """DeepSpeed reports its every choice on stdout and in its log; an operator needs its warnings only."""
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

    It gives all groups the first one's settings, so that norms would decay like matrices, and all parameters the same
    tensor as their step, which each of them would then count up.
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
