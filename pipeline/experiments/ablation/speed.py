"""How fast the training steps of several configs are, compared in turns, so that other load slows all of them alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from gpt.model import GPT
from pipeline.config.schema import Config
from pipeline.config.training_sections import TrainingSection
from pipeline.experiments.ablation.changed_configs import shape_of
from pipeline.runtime.precision import default_device
from pipeline.runtime.progress import Progress
from pipeline.training.fit import prepare_model
from pipeline.training.optimizers import optimizer_of

TURNS = 12


def tokens_per_second(configs: Mapping[str, Config], stage: str, progress: Progress) -> dict[str, float]:
    """Tokens a second of each config's training step, by the fastest of `TURNS` steps, taken in turns with the others.

    A step is the forward and backward of all micro-batches of a batch, and an update, on random tokens in this process.
    DeepSpeed and the exchange between ranks are left out: what they add is alike for all. On a CPU the processor time
    of one core is measured, so other load hardly matters.
    """
    torch.set_num_threads(1)
    keys = {name: timing_key(config, getattr(config, stage)) for name, config in configs.items()}
    steps = {keys[name]: TimedStep(config, getattr(config, stage)) for name, config in configs.items()}
    # The fastest and not the mean: interruptions only ever add to a time.
    fastest = dict.fromkeys(steps, math.inf)
    with progress.task("timing the changes in turns", TURNS * len(steps), "steps") as task:
        for _ in range(TURNS):
            for key, step in steps.items():
                fastest[key] = min(fastest[key], step.seconds())
                task.advance()
    return {name: steps[key].tokens / fastest[key] for name, key in keys.items()}


def timing_key(config: Config, section: TrainingSection) -> str:
    """Everything that a step's duration depends on. Configs with equal keys are timed once, and so equally fast."""
    shape = replace(shape_of(config), zero_init=False)  # other values in the same arithmetic
    names = "optimizer", "dtype", "batch_tokens", "micro_batch", "compile", "activation_checkpointing"
    return str((shape, [getattr(section, name) for name in names]))


class TimedStep:
    """One training step of a config on one device, to be repeated and timed."""

    def __init__(self, config: Config, section: TrainingSection) -> None:
        self.device = default_device()
        dtype = torch.bfloat16 if section.dtype == "bf16" else torch.float32
        shape = shape_of(config)
        self.model = GPT(shape).to(self.device, dtype)
        prepare_model(self.model, section, self.device.type)
        self.optimizer = optimizer_of(self.model, section)
        # As large a micro-batch as one rank would use: its size decides how well a step fills the hardware.
        samples = max(1, min(section.micro_batch, section.batch_tokens // shape.context))
        self.micro_batches = max(1, section.batch_tokens // (samples * shape.context))
        self.batch = torch.randint(shape.vocab_size, (samples, shape.context + 1), device=self.device)

    @property
    def tokens(self) -> int:
        """Tokens that one step trains on."""
        return self.micro_batches * (self.batch.numel() - len(self.batch))

    def seconds(self) -> float:
        """Do one step; the seconds that it took, of processor time on a CPU."""
        clock = self._clock()
        started = clock()
        for _ in range(self.micro_batches):
            nats, count = self.model(self.batch[:, :-1], self.batch[:, 1:])
            (nats / count / self.micro_batches).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return clock() - started

    def _clock(self) -> Callable[[], float]:
        if self.device.type == "cpu":
            return time.process_time

        def after_all_kernels() -> float:
            # A GPU's kernels run on while Python goes ahead: wait for them before reading the clock.
            torch.cuda.synchronize()
            return time.perf_counter()

        return after_all_kernels
