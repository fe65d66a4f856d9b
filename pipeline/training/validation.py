"""The loss on text that is not trained on: an exact sum over fixed windows, shared out over the ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from gpt.loss import IGNORED
from pipeline.errors import ConfigError
from pipeline.tokens.shard import TokenStream
from pipeline.tokens.windows import scoring_windows
from pipeline.training.engine import Engine


@dataclass(frozen=True)
class Windows:
    """Windows to score: inputs and targets (N, T) int64, the same on every rank."""

    inputs: np.ndarray
    targets: np.ndarray

    @classmethod
    def spread_over(cls, stream: TokenStream, *, num_tokens: int, context: int) -> Windows:
        """At most `num_tokens` targets, in whole windows that lie evenly in the stream: every source has its part.

        Raises ConfigError if the stream does not fill one window.
        """
        available = (len(stream) - 1) // context
        if available < 1:
            raise ConfigError(
                f"The corpus' validation part has {len(stream):,} tokens, less than one window of context {context}.",
                remedy="Raise corpus.validation or add text.",
            )
        chosen = np.linspace(0, available - 1, num=max(min(num_tokens // context, available), 1)).astype(np.int64)
        rows = np.stack([stream.window(int(index) * context, context + 1) for index in chosen]).astype(np.int64)
        return cls(rows[:, :-1], rows[:, 1:])

    @classmethod
    def covering(cls, stream: TokenStream, *, context: int) -> Windows:
        """All of a stream, each token scored once. Raises ConfigError if it has no token to predict."""
        if len(stream) < 2:
            raise ConfigError("The target's selection part is empty.", remedy="Raise target.selection.")
        return cls(*scoring_windows(stream.window(0, len(stream)), context))

    def micro_batches_of(self, rank: int, world_size: int, micro_batch: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """This rank's windows. Every rank gets equally many micro-batches, filled up with windows that do not count:
        under ZeRO 3 each forward gathers weights from all ranks.
        """
        unit = world_size * micro_batch
        missing = -len(self.inputs) % unit
        inputs = np.pad(self.inputs, ((0, missing), (0, 0)))
        targets = np.pad(self.targets, ((0, missing), (0, 0)), constant_values=IGNORED)
        return [
            (inputs[start : start + micro_batch], targets[start : start + micro_batch])
            for start in range(rank * micro_batch, len(inputs), unit)
        ]


def evaluate(engine: Engine, windows: Windows) -> float:
    """Nats per counted token over all windows. Collective."""
    world, micro_batch = engine.world, engine.settings.micro_batch
    sums = torch.zeros(2, dtype=torch.float64, device=engine.device)
    with engine.evaluating():
        for inputs, targets in windows.micro_batches_of(world.rank, world.world_size, micro_batch):
            nats, count = engine.loss(inputs, targets)
            sums += torch.stack((nats.double(), count.double()))
    dist.all_reduce(sums)
    nats_total, count_total = sums.tolist()
    return float(nats_total / count_total)
