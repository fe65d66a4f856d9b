"""How much time training loses to its checkpoints: blocks of steps that begin with one, between blocks that do not.

    python -m tests.bench.bench_saving            prints one JSON record; about six minutes on two free cores

Two ranks train the model of configs/shakespeare-cpu.yaml under ZeRO 1 with Muon and save at every other block. A block
that begins with a checkpoint contains all of it: the copy, during which training waits, and the writing beside it,
which is over long before the block ends.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.bench_training import MODEL, SHAPE, batches_of, engine_of

if TYPE_CHECKING:  # the driver starts without torch
    from pipeline.distributed.job import Job
    from pipeline.distributed.world import World
    from pipeline.runtime.progress import Progress
    from pipeline.training.state import State

BLOCK, BLOCKS = 20, 12  # steps, and pairs of blocks
MOST_LOST = 0.02
SECTION: dict[str, Any] = {
    "optimizer": "muon", "dtype": "mixed", "zero": 1, "batch_tokens": 4096, "micro_batch": 8, "evaluate_every": 0,
    "save_every": 2 * BLOCK,
}  # fmt: skip


def main() -> None:
    """Measure and print one JSON record."""
    from pipeline.config.schema import LaunchSection
    from pipeline.distributed.job import Job
    from pipeline.distributed.launch_local import run_local_ranks

    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory() as folder:
        launch = LaunchSection(ranks=2, threads=1)
        job = Job("pretrain", {}, {}, {}, folder, launch, entry_point="tests.bench.bench_saving:saving_on_rank")
        job.write()
        counts = run_local_ranks(job, 2)
    lost = [saving / plain - 1 for saving, plain in zip(counts["saving"], counts["plain"], strict=True)]
    record = {
        "name": f"training, time lost to a checkpoint every {BLOCK} steps",
        "value": round(statistics.median(lost), 4),
        "unit": "of the time",
        "target": MOST_LOST,
        "seconds_of_a_block": round(statistics.median(counts["plain"]), 3),
        "turns": len(lost),
        "ranks": 2,
        "zero": 1,
        "optimizer": "muon",
        "model": MODEL,
        "batch_tokens": SECTION["batch_tokens"],
    }
    print(json.dumps(record), flush=True)


def saving_on_rank(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """Train on this rank; on rank 0 the seconds of the blocks with a checkpoint and of those without."""
    from pipeline.config.training_sections import PretrainSection
    from pipeline.distributed.signals import stop
    from pipeline.training.checkpoints import Checkpoints
    from pipeline.training.loop import Training
    from pipeline.training.state import State
    from pipeline.training.training_plan import BatchGeometry, TrainingPlan

    section, folder = PretrainSection.model_validate(SECTION), Path(job.folder)
    geometry = BatchGeometry.of("pretrain", section, context=SHAPE["context"], world_size=world.world_size)
    engine = engine_of(section, geometry, world)
    clock = Clock()
    training = Training(
        engine,
        batches_of(folder / f"rank-{world.rank}", geometry),
        TrainingPlan.of(section, steps=2 * BLOCK * (BLOCKS + 1), peak=1e-3, seed=0, geometry=geometry),
        evaluate=None,
        keep_best=lambda state: None,
        checkpoints=Checkpoints(folder / "checkpoints", engine, keep=2, identity={}),
        watch=clock,
        stop=stop,
    )
    training.train(State())
    # The first pair warms up, and its first block begins without a checkpoint.
    marks = clock.times[2 * BLOCK - 1 :: BLOCK]
    blocks = [after - before for before, after in pairwise(marks)]
    return {"saving": blocks[0::2], "plain": blocks[1::2]} if world.leads else {}


class Clock:
    """When each step ended. The checkpoint of a step is begun after that."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def step(self, state: State, *_: Any) -> None:
        self.times.append(time.perf_counter())

    def evaluation(self, state: State, nats_per_token: float) -> None: ...


if __name__ == "__main__":
    main()
