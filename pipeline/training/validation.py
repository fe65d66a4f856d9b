"""The loss on text that is not trained on: an exact sum over fixed windows, divided among the ranks."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist

from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.training.engine import Engine


def evaluate(engine: Engine, windows: ScoringWindows, stop: Callable[[], bool] = bool) -> float | None:
    """Nats per counted token over all windows, the same on every rank; None if any rank was asked to stop. Collective.

    All ranks look whether to stop before each of their micro-batches, of which they have equally many.
    """
    world, micro_batch = engine.world, engine.settings.micro_batch
    # In float64 sums of many thousand losses differ between numbers of ranks by far less than the losses' own rounding.
    sums = torch.zeros(2, dtype=torch.float64, device=engine.device)  # nats and count
    with engine.evaluating():
        for inputs, targets in windows.micro_batches_of(world.rank, world.world_size, micro_batch):
            asked = torch.tensor(float(stop()), device=engine.device)
            dist.all_reduce(asked)
            if asked:
                return None
            nats, count = engine.loss(inputs, targets)
            sums += torch.stack((nats.double(), count.double()))
    dist.all_reduce(sums)
    nats_total, count_total = sums.tolist()
    return float(nats_total / count_total)
