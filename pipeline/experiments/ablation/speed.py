"""How fast variants of a training are beside each other: they take turns, so that what else runs slows all alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from gpt.model import GPT, GPTShape
from pipeline.config.schema import Config, TrainingSection
from pipeline.graph import forecast
from pipeline.runtime.progress import Progress
from pipeline.training.fit import prepare_model
from pipeline.training.optimizers import optimizer_of

TURNS = 12


def tokens_per_second(configs: Mapping[str, Config], stage: str, progress: Progress) -> dict[str, float]:
    """Tokens a second of each config's training step, its fastest of some turns taken one after the other.

    A step is one micro-batch forward and backward for every one in a batch, and an update, on random tokens in this
    process: what DeepSpeed and the exchange between ranks add is alike for all. On a CPU it is the time of one core
    that is measured, which hardly hangs on what else the machine does.
    """
    torch.set_num_threads(1)
    kinds = {name: kind_of_step(config, getattr(config, stage)) for name, config in configs.items()}
    steps = {kinds[name]: Step(config, getattr(config, stage)) for name, config in configs.items()}
    fastest = dict.fromkeys(steps, math.inf)
    with progress.task("timing the variants in turns", TURNS * len(steps), "steps") as task:
        for _ in range(TURNS):
            for kind, step in steps.items():
                fastest[kind] = min(fastest[kind], step.timed())
                task.advance()
    return {name: steps[kind].tokens / fastest[kind] for name, kind in kinds.items()}


def kind_of_step(config: Config, section: TrainingSection) -> str:
    """What decides how long a step takes: configs that agree in it are timed once."""
    shape = replace(shape_of(config), zero_init=False)
    how = "optimizer", "dtype", "batch_tokens", "micro_batch", "compile", "activation_checkpointing"
    return str((shape, [getattr(section, name) for name in how]))


def shape_of(config: Config) -> GPTShape:
    return config.model.shape(forecast.vocabulary(config.tokenizer))


class Step:
    """One training step of a config, ready to be repeated."""

    def __init__(self, config: Config, section: TrainingSection) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        kind = torch.bfloat16 if section.dtype == "bf16" else torch.float32
        shape = shape_of(config)
        self.model = GPT(shape).to(self.device, kind)
        prepare_model(self.model, section, self.device.type)
        self.optimizer = optimizer_of(self.model, section)
        samples = max(1, min(section.micro_batch, section.batch_tokens // shape.context))
        self.rounds = max(1, section.batch_tokens // (samples * shape.context))
        self.batch = torch.randint(shape.vocab_size, (samples, shape.context + 1), device=self.device)

    @property
    def tokens(self) -> int:
        return self.rounds * (self.batch.numel() - len(self.batch))

    def timed(self) -> float:
        """Seconds that one step takes, of processor time on a CPU."""
        clock = self._clock()
        started = clock()
        for _ in range(self.rounds):
            nats, count = self.model(self.batch[:, :-1], self.batch[:, 1:])
            (nats / count / self.rounds).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return clock() - started

    def _clock(self) -> Callable[[], float]:
        if self.device.type == "cpu":
            return time.process_time

        def finished() -> float:
            torch.cuda.synchronize()
            return time.perf_counter()

        return finished
