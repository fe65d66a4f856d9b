"""How much of the machine training keeps busy: Folio against a plain PyTorch loop, and two ranks against one.

    python tests/bench/bench_training.py            prints one JSON record per ratio two minutes on two free cores

Every contender is its own set of processes with the same model, dtype, batch and allocator settings. They take turns of
a few steps, so a busy machine slows all of them alike, and only ratios of medians are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # the driver starts without torch
    from pipeline.config.training_sections import PretrainSection
    from pipeline.distributed.world import World
    from pipeline.tokens.batches import Batches
    from pipeline.training.engine import Engine
    from pipeline.training.loop import Watch
    from pipeline.training.state import State
    from pipeline.training.training_plan import BatchGeometry

ROUNDS, STEPS_PER_TURN, WARMUP_STEPS = 15, 1, 2
SHAPE: dict[str, Any] = {"vocab_size": 4096, "layers": 6, "width": 256, "heads": 4, "kv_heads": 4, "context": 256}
SHAPE |= {"position": "rope", "norm": "rmsnorm", "activation": "relu2", "qk_norm": True, "bias": False}
MODEL = "{layers} x {width}, vocabulary {vocab_size}, context {context}".format_map(SHAPE)
BATCH_TOKENS, MICRO_BATCH = 8192, 16
NUM_TOKENS = 2_000_000
LOOPBACK = "127.0.0.1"
TARGET = 0.95


@dataclass(frozen=True)
class Contender:
    name: str
    ranks: int
    threads: int


PLAIN, ONE, TWO = Contender("plain", 1, 2), Contender("folio", 1, 2), Contender("folio", 2, 1)
RATIOS = [("one rank / plain PyTorch loop", ONE, PLAIN), ("two ranks / one rank with two threads", TWO, ONE)]


def main() -> None:
    """Measure and print one JSON record per ratio; above 1 the first one is faster."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--zero", type=int, default=1, help="ZeRO stage of Folio's ranks")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.worker:
        serve(options.worker, options.zero)
        return
    with tempfile.TemporaryDirectory() as folder:
        groups = {
            one: Group(one, Path(folder), options.zero, port) for port, one in enumerate((PLAIN, ONE, TWO), 29_610)
        }
        seconds: dict[Contender, list[float]] = {one: [] for one in groups}
        for turn in range(options.rounds + 1):
            for one, group in groups.items():
                elapsed = group.turn(WARMUP_STEPS if turn == 0 else STEPS_PER_TURN)
                seconds[one] += [elapsed] if turn else []
        for group in groups.values():
            group.end()
    for label, first, second in RATIOS:
        print(json.dumps(record(label, seconds[first], seconds[second], options.zero)), flush=True)


def record(label: str, first: list[float], second: list[float], zero: int) -> dict[str, Any]:
    rates = [STEPS_PER_TURN * BATCH_TOKENS / statistics.median(times) for times in (first, second)]
    return {
        "name": f"training, {label}",
        "value": round(rates[0] / rates[1], 3),
        "unit": "x",
        "target": TARGET,
        "tokens_per_second": [round(rate) for rate in rates],
        "turns": len(first),
        "zero": zero,
        "dtype": "fp32",
        "model": MODEL,
        "batch_tokens": BATCH_TOKENS,
    }


class Group:
    """The processes of one contender, which wait until they are asked for steps."""

    def __init__(self, one: Contender, folder: Path, zero: int, port: int) -> None:
        command = [sys.executable, __file__, "--worker", one.name, "--zero", str(zero)]
        shared = {
            "OMP_NUM_THREADS": one.threads,
            "DS_ACCELERATOR": "cpu",
            "FOLIO_BENCH": folder / f"{one.name}{one.ranks}",
        }
        shared |= {"WORLD_SIZE": one.ranks, "LOCAL_WORLD_SIZE": one.ranks, "MASTER_ADDR": LOOPBACK, "MASTER_PORT": port}
        self.processes = []
        for rank in range(one.ranks):
            environment = shared | {"RANK": rank, "LOCAL_RANK": rank, "PYTHONPATH": Path(__file__).parents[2]}
            self.processes.append(
                subprocess.Popen(
                    command,
                    env=os.environ | {name: str(value) for name, value in environment.items()},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )

    def turn(self, steps: int) -> float:
        """Seconds that the slowest process needed for so many steps."""
        for process in self.processes:
            assert process.stdin is not None, "opened as a pipe"
            process.stdin.write(f"{steps}\n")
            process.stdin.flush()
        return max(self._answer(process) for process in self.processes)

    def _answer(self, process: subprocess.Popen[str]) -> float:
        assert process.stdout is not None, "opened as a pipe"
        while not (line := process.stdout.readline()).startswith("seconds"):
            assert line, f"process {process.pid} ended early"
        return float(line.split()[1])

    def end(self) -> None:
        for process in self.processes:
            process.communicate()


def serve(kind: str, zero: int) -> None:
    """Do as many steps as each line on stdin says, and answer with their seconds."""
    from pipeline.runtime.memory import keep_freed_memory

    keep_freed_memory()
    take_steps = plain_loop() if kind == "plain" else folio_loop(zero)
    for line in sys.stdin:
        started = time.perf_counter()
        take_steps(int(line))
        print(f"seconds {time.perf_counter() - started}", flush=True)


def plain_loop() -> Callable[[int], None]:
    """What one would write without any of this: a loop as in nanoGPT."""
    import torch

    from gpt.model import GPT, GPTShape

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = GPT(GPTShape(**SHAPE))
    optimizer = torch.optim.AdamW(model.decay_groups(0.1), lr=1e-3, betas=(0.9, 0.95), fused=True)
    tokens, context, draw = corpus(), model.shape.context, np.random.default_rng(0)

    def take_steps(steps: int) -> None:
        for _ in range(steps):
            for _ in range(BATCH_TOKENS // (MICRO_BATCH * context)):
                starts = draw.integers(0, len(tokens) - context - 1, MICRO_BATCH)
                windows = torch.from_numpy(np.stack([tokens[at : at + context + 1] for at in starts]).astype(np.int64))
                nats, _ = model(windows[:, :-1], windows[:, 1:])
                (nats / BATCH_TOKENS).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return take_steps


def folio_loop(zero: int) -> Callable[[int], None]:
    """Folio's own loop and engine, with its metrics, on real shards."""
    import torch

    from pipeline.config.training_sections import PretrainSection
    from pipeline.distributed import rendezvous
    from pipeline.distributed.signals import stop
    from pipeline.distributed.world import World
    from pipeline.training.loop import Training
    from pipeline.training.state import State
    from pipeline.training.training_plan import BatchGeometry, TrainingPlan

    world = World.from_environment()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    rendezvous.join(world, startup_seconds=120)
    folder = Path(os.environ["FOLIO_BENCH"]) / str(world.rank)
    numbers = {"batch_tokens": BATCH_TOKENS, "micro_batch": MICRO_BATCH, "evaluate_every": 0, "save_every": 0}
    section = PretrainSection.model_validate(numbers | {"zero": zero})
    geometry = BatchGeometry.of("pretrain", section, context=SHAPE["context"], world_size=world.world_size)
    batches = batches_of(folder, geometry)
    engine = engine_of(section, geometry, world)
    state = State()
    watch = watch_of(folder, state, batches, world)

    def take_steps(steps: int) -> None:
        nonlocal state
        plan = TrainingPlan.of(section, steps=state.step + steps, peak=1e-3, seed=0, geometry=geometry)
        training = Training(
            engine,
            batches,
            plan,
            evaluate=None,
            keep_best=lambda state: None,
            checkpoints=Unsaved(),
            watch=watch,
            stop=stop,
        )
        state = training.train(state)

    return take_steps


class Unsaved:
    """Stands in for checkpoints where none are wanted."""

    def save(self, state: State) -> None: ...
    def written(self) -> bool:
        return False

    def commit(self) -> None: ...


def batches_of(folder: Path, geometry: BatchGeometry) -> Batches:
    """From a shard that this rank wrote for itself."""
    from pipeline.tokens.batches import Batches, Mixture
    from pipeline.tokens.shard import Rows, ShardInfo, TokenStream, write_shard

    tokens = corpus()
    info = ShardInfo("corpus/train-00000", "bench", "bench", SHAPE["vocab_size"], 0)
    path = folder / "corpus/train-00000.arrow"
    path.parent.mkdir(parents=True)
    write_shard(path, [Rows(tokens, np.array([0, len(tokens)]), ["all"])], info)
    mixture = Mixture([(TokenStream.open([path]), 1.0)], SHAPE["context"])
    return Batches(mixture, batch_samples=geometry.batch_samples, seed=0)


def engine_of(section: PretrainSection, geometry: BatchGeometry, world: World) -> Engine:
    from gpt.model import GPT, GPTShape
    from pipeline.training.deepspeed_config import EngineSettings
    from pipeline.training.engine import Engine
    from pipeline.training.optimizers import optimizer_of

    model = GPT(GPTShape(**SHAPE))
    return Engine(model, optimizer_of(model, section), EngineSettings.of(section, geometry, {}), world)


def watch_of(folder: Path, state: State, batches: Batches, world: World) -> Watch:
    from pipeline.runtime.progress import Progress
    from pipeline.training.metrics import Metrics, Unwatched

    if not world.leads:
        return Unwatched()
    with Progress("bench").task("bench", None, "steps") as task:
        return Metrics(folder, task, state, documents_of=batches.documents_of_step)


def corpus() -> np.ndarray:
    return np.random.default_rng(1).integers(0, SHAPE["vocab_size"], NUM_TOKENS).astype(np.uint16)


if __name__ == "__main__":
    main()
