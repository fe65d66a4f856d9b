"""Makes DeepSpeed's engine, and keeps DeepSpeed (0.19.8) from what it does beside that."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from gpt.model import GPT
from pipeline.distributed.world import World
from pipeline.training.deepspeed_config import EngineSettings, deepspeed_config


def deepspeed_engine(model: GPT, optimizer: torch.optim.Optimizer, settings: EngineSettings, world: World) -> Any:
    """DeepSpeed's engine over the model and the optimizer, with our layer of files. Collective."""
    # torch 2.13 renamed collectives that DeepSpeed 0.19.8 still calls by their old names.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    os.environ.setdefault("LOCAL_RANK", str(world.local_rank))  # DeepSpeed insists on the variable
    with _quiet():
        import deepspeed  # here, because importing it takes seconds and prints

        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        _join_process_group(deepspeed)
        config = deepspeed_config(settings)
        with _no_step(optimizer):
            engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        from pipeline.training.deepspeed_io import RankFiles  # imports deepspeed, too

        # After the engine was built: DeepSpeed chooses its file layer by name and has no way to hand it an object.
        engine.checkpoint_engine = RankFiles(world.rank, world.local_world_size)
    _warn_into_log()
    return engine


def _warn_into_log() -> None:
    """Have DeepSpeed's warnings go where this process's output goes, which is the rank's log.

    Its logger took the standard output of the moment it was imported in, which was closed on purpose.
    """
    for handler in logging.getLogger("DeepSpeed").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.stream = sys.stdout  # `setStream` would flush the closed one first


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
def _no_step(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let the optimizer's steps do nothing while the block runs.

    DeepSpeed (0.19.8) has it make its state for bf16 at stage 0 by a step with zero gradients, which decays the weights
    and halves the real first step of Adam. The state is made anew where it is missing.
    """
    optimizer.step = lambda closure=None: None  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        del optimizer.step
