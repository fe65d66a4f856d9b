"""What a stage will need before it runs: memory per rank by ZeRO stage, disk, tokens and seconds.

Memory follows the ZeRO paper (Rajbhandari et al. 2020, section 3): weights, gradients and optimizer state per
parameter, of which stage 1 shards the optimizer, stage 2 also the gradients and stage 3 also the weights over the
ranks. Activations are counted for one micro-batch. Seconds follow from a matrix product timed on the spot.
"""

from __future__ import annotations

import glob
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from gpt.counts import flops_per_token, num_parameters
from gpt.model import GPT
from gpt.shape import GPTShape
from pipeline.config.schema import ArmSection, Config, PretrainSection, TokenizerSection, TrainingSection
from pipeline.runtime.memory import keep_freed_memory
from pipeline.runtime.precision import autocast_for

PROCESS_BYTES = 450_000_000  # Python with torch and deepspeed loaded, before a model
BYTES_PER_TEXT_TOKEN = 3.5  # English under a byte-level BPE of a few thousand entries
IMPORTED_VOCABULARY = 50_257  # of GPT-2
IMPORT_SECONDS = 120.0  # mostly for the comparison with `transformers`
ENGLISH_CHARACTERS = 70  # letters of both cases, digits, punctuation
WEIGHT_BYTES = 4  # per parameter
CHECKPOINT_BYTES = 16  # per parameter, with optimizer state
EFFICIENCY = 0.8  # what updates, evaluations and the exchange between ranks leave of the arithmetic's speed
TIMED_SECONDS, TIMED_FLOPS = 0.3, 2e10  # at most, spent on timing one model
ZERO_STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class Need:
    """What one training stage needs. `memory_bytes[z]` is per rank under ZeRO stage z; `steps` over all trials."""

    parameters: int
    tokens: int
    steps: int
    flops: float
    disk_bytes: int
    memory_bytes: tuple[int, ...]


def vocabulary(tokenizer: TokenizerSection) -> int:
    """Size of the vocabulary before it is made; of characters a guess."""
    return tokenizer.vocab_size if tokenizer.kind == "bpe" else ENGLISH_CHARACTERS


def training_need(stage: str, config: Config, shape: GPTShape, ranks: int) -> Need:
    """Tokens, steps, floating-point operations, disk and memory of pretrain, scratch or finetune."""
    settings: TrainingSection = getattr(config, stage)
    tokens, trials = _tokens(settings)
    branches = config.pretrain.branch_at
    if isinstance(settings, PretrainSection):
        tokens += sum(math.ceil(settings.decay * step) for step in branches) * settings.batch_tokens
    elif stage == "finetune" and branches:
        more = len(branches) * len(config.finetune.learning_rates)
        tokens, trials = tokens * (trials + more) // trials, trials + more
    parameters = num_parameters(shape)
    kept = settings.keep_checkpoints * CHECKPOINT_BYTES * parameters
    weights = WEIGHT_BYTES * parameters * (2 * len(settings.seeds) if isinstance(settings, ArmSection) else 1)
    return Need(
        parameters=parameters,
        tokens=tokens,
        steps=tokens // settings.batch_tokens,
        flops=float(tokens) * flops_per_token(shape),
        disk_bytes=kept + weights + 2_000_000 * trials,
        memory_bytes=tuple(memory_bytes(shape, settings, zero, ranks) for zero in ZERO_STAGES),
    )


def memory_bytes(shape: GPTShape, settings: TrainingSection, zero: int, ranks: int) -> int:
    """Bytes one rank needs: model state under a ZeRO stage, activations of a micro-batch, and the process itself."""
    parameters = num_parameters(shape)
    wide = settings.dtype != "bf16"
    weights, gradients, optimizer = (4, 4, 8) if wide else (2, 2, 12)
    state = optimizer / (ranks if zero >= 1 else 1) + gradients / (ranks if zero >= 2 else 1)
    state += weights / (ranks if zero >= 3 else 1)
    return int(parameters * state) + _activation_bytes(shape, settings) + PROCESS_BYTES


def _activation_bytes(shape: GPTShape, settings: TrainingSection) -> int:
    """Korthikanti et al. 2022, equation 1, without dropout masks and with flash attention, plus the logits twice."""
    values = 2 if settings.dtype == "bf16" else 4  # mixed keeps its stream and its loss in fp32
    positions = settings.micro_batch * shape.context
    per_layer = 2 if settings.activation_checkpointing else 15
    return positions * values * (shape.layers * per_layer * shape.width + 2 * shape.vocab_size)


def _tokens(settings: TrainingSection) -> tuple[int, int]:
    """Tokens trained on, over all trials, and the number of trials."""
    if isinstance(settings, ArmSection):
        trials = len(settings.learning_rates) + len(settings.seeds) - 1
        return trials * settings.max_steps * settings.batch_tokens, trials
    assert isinstance(settings, PretrainSection), "what is not an arm pretrains"
    return settings.steps * settings.batch_tokens, 1


def corpus_bytes(config: Config) -> int | None:
    """Upper bound of the text the corpus keeps, or None where only the network knows."""
    sizes = [_source_bytes(source.path, source.max_bytes) for source in config.corpus.sources]
    known = None if any(size is None for size in sizes) else sum(size for size in sizes if size is not None)
    limits = [limit for limit in (known, config.corpus.max_bytes) if limit is not None]
    return min(limits) if limits else None


def _source_bytes(pattern: str | None, limit: int | None) -> int | None:
    paths = glob.glob(os.path.expandvars(pattern)) if pattern else []
    packed = (".zst", ".gz", ".parquet")
    found = sum(Path(path).stat().st_size * (3.7 if path.endswith(packed) else 1) for path in paths)
    limits = [size for size in (int(found) if paths else None, limit) if size is not None]
    return min(limits) if limits else None


@cache
def flops_per_second(shape: GPTShape, dtype: str, samples: int) -> float:
    """Arithmetic of training such a model on one core of this machine, or one GPU, with so many samples at a time.

    The fastest of a few forwards and backwards in processor time, because what else runs now need not run for as long
    as the training does. What is large is timed on a part: a narrower model, on a CPU also fewer layers and samples.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    part = shape if shape.width <= 1024 else replace(shape, width=1024, heads=8, kv_heads=None, hidden=None)
    if device == "cpu":
        keep_freed_memory()  # as training does
        affordable = TIMED_FLOPS / (flops_per_token(part) * part.context)  # samples
        part = replace(part, layers=max(1, min(part.layers, int(affordable * part.layers))))
        samples = max(1, min(samples, int(affordable)))
    model = GPT(part).to(device, torch.bfloat16 if dtype == "bf16" else torch.float32)
    tokens = torch.randint(part.vocab_size, (samples, part.context + 1), device=device)

    def once() -> None:
        with autocast_for(dtype, device):
            nats, _ = model(tokens[:, :-1], tokens[:, 1:])
        nats.backward()
        if device == "cuda":
            torch.cuda.synchronize()

    with one_thread():
        return flops_per_token(part) * samples * part.context / fastest(once, TIMED_SECONDS)


@contextmanager
def one_thread() -> Iterator[None]:
    """Threads that wait for each other would count as work where cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fastest(once: Callable[[], None], seconds: float) -> float:
    """The least processor time of calls that go on for so many seconds, of two at least."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    times, end = list[float](), clock() + seconds
    while len(times) < 2 or clock() < end:
        started = clock()
        once()
        times.append(clock() - started)
    return min(times)
