"""What a training stage will need: memory per rank by ZeRO stage, disk, tokens, and the speed to expect.

Memory follows the ZeRO paper (Rajbhandari et al. 2020, section 3): weights, gradients and optimizer state per
parameter, of which stage 1 shards the optimizer, stage 2 also the gradients and stage 3 also the weights over the
ranks. Activations are those of one micro-batch. The speed is that of a few training steps timed on the spot.
"""

from __future__ import annotations

import math
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
from pipeline.config.schema import Config
from pipeline.config.text_sections import TokenizerSection
from pipeline.config.training_sections import ArmSection, PretrainSection, TrainingSection
from pipeline.errors import ConfigError
from pipeline.inputs.local_files import local_files
from pipeline.runtime.memory import keep_freed_memory
from pipeline.runtime.precision import autocast_for, default_device, has_bf16_units

PROCESS_BYTES = 450_000_000  # Python with torch and deepspeed loaded, before a model
BYTES_PER_TEXT_TOKEN = 3.5  # English under a byte-level BPE of a few thousand entries
IMPORTED_VOCABULARY = 50_257  # GPT-2's
IMPORT_SECONDS = 120.0  # mostly for the comparison with `transformers`
ENGLISH_CHARACTERS = 70  # letters of both cases, digits, punctuation
WEIGHT_BYTES = 4  # per parameter
CHECKPOINT_BYTES = 16  # per parameter, with optimizer state
EFFICIENCY = 0.8  # share of the timed speed that is left after updates, evaluations and communication
EMULATION = 100  # times as slow as fp32 is bf16 on a processor without units for it, at worst
TIMED_SECONDS, TIMED_FLOPS = 0.3, 2e10  # upper limits for timing one model: `folio plan` should answer at once
ZERO_STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class Need:
    """What one training stage needs, over all its trials. `memory_bytes[z]` is per rank under ZeRO stage z."""

    tokens: int
    flops: float
    disk_bytes: int
    memory_bytes: tuple[int, ...]


def vocabulary(tokenizer: TokenizerSection) -> int:
    """Size of the vocabulary before the tokenizer is trained; for characters an estimate."""
    return tokenizer.vocab_size if tokenizer.kind == "bpe" else ENGLISH_CHARACTERS


def training_need(stage: str, config: Config, shape: GPTShape, ranks: int) -> Need:
    """Tokens, floating-point operations, disk and memory of pretrain, scratch or finetune."""
    section: TrainingSection = getattr(config, stage)
    tokens, trials = _tokens(section)
    branches = config.pretrain.branch_at
    if isinstance(section, PretrainSection):
        # A branch shares the beginning of the whole pretraining and adds only its own decay.
        tokens += sum(math.ceil(section.decay * step) for step in branches) * section.batch_tokens
    elif stage == "finetune" and branches:
        # Each branch is finetuned with the whole grid on one seed.
        more = len(branches) * len(config.finetune.learning_rates)
        tokens, trials = tokens * (trials + more) // trials, trials + more
    parameters = num_parameters(shape)
    kept = section.keep_checkpoints * CHECKPOINT_BYTES * parameters
    # Of each seed of an arm the weights of the best and of the last step stay; of pretraining the last ones.
    weights = WEIGHT_BYTES * parameters * (2 * len(section.seeds) if isinstance(section, ArmSection) else 1)
    return Need(
        tokens=tokens,
        flops=float(tokens) * flops_per_token(shape),
        disk_bytes=kept + weights + 2_000_000 * trials,
        memory_bytes=tuple(memory_bytes(shape, section, zero, ranks) for zero in ZERO_STAGES),
    )


def memory_bytes(shape: GPTShape, section: TrainingSection, zero: int, ranks: int) -> int:
    """Bytes one rank needs: model state under a ZeRO stage, activations of a micro-batch, and the process itself."""
    parameters = num_parameters(shape)
    # Bytes per parameter. AdamW keeps two fp32 moments; under bf16 its fp32 copy of the weights comes on top.
    weights, gradients, optimizer = (2, 2, 12) if section.dtype == "bf16" else (4, 4, 8)
    state = optimizer / (ranks if zero >= 1 else 1) + gradients / (ranks if zero >= 2 else 1)
    state += weights / (ranks if zero >= 3 else 1)
    return int(parameters * state) + _activation_bytes(shape, section) + PROCESS_BYTES


def _activation_bytes(shape: GPTShape, section: TrainingSection) -> int:
    """Of one micro-batch: Korthikanti et al. 2022, equation 1, without dropout masks and with flash attention, plus the
    logits twice (themselves and their gradient).
    """
    value_bytes = 2 if section.dtype == "bf16" else 4  # mixed keeps the residual stream and the loss in fp32
    positions = section.micro_batch * shape.context
    per_layer = 2 if section.activation_checkpointing else 15
    return positions * value_bytes * (shape.layers * per_layer * shape.width + 2 * shape.vocab_size)


def _tokens(section: TrainingSection) -> tuple[int, int]:
    """Tokens trained on, over all trials, and the number of trials."""
    if isinstance(section, ArmSection):
        # The grid on the first seed, then the best rate on the others.
        trials = len(section.learning_rates) + len(section.seeds) - 1
        return trials * section.max_steps * section.batch_tokens, trials
    assert isinstance(section, PretrainSection), "what is not an arm pretrains"
    return section.steps * section.batch_tokens, 1


def corpus_bytes(config: Config) -> int | None:
    """Upper bound of the text that the corpus keeps, UTF-8; None if a source is not on this machine."""
    sizes = [_source_bytes(source.path, config.folder, source.max_bytes) for source in config.corpus.sources]
    known = None if any(size is None for size in sizes) else sum(size for size in sizes if size is not None)
    limits = [limit for limit in (known, config.corpus.max_bytes) if limit is not None]
    return min(limits) if limits else None


def _source_bytes(pattern: str | None, folder: Path, limit: int | None) -> int | None:
    try:
        files = local_files(pattern, folder).files if pattern else ()
    except ConfigError:  # the plan has a note of its own about a missing text
        files = ()
    packed = (".zst", ".gz", ".parquet")
    # English text compresses by about 3.7 with zstd's default level.
    text = sum(file.bytes * (3.7 if file.name.endswith(packed) else 1) for file in files)
    limits = [size for size in (int(text) if files else None, limit) if size is not None]
    return min(limits) if limits else None


@cache
def flops_per_second(shape: GPTShape, dtype: str, samples: int) -> float:
    """Floating-point operations per second of training on one core of this machine, or one GPU, `samples` at a time.

    The fastest of a few forwards and backwards. On a CPU it is processor time, because other work that runs now need
    not run as long as the training will. Of a large model a part is timed: narrower, on a CPU also fewer layers and
    samples.
    """
    device = default_device().type
    if dtype == "bf16" and not has_bf16_units(device):
        # A single emulated step of a large model takes minutes, and `folio plan` should answer in seconds.
        return flops_per_second(shape, "fp32", samples) / EMULATION
    timed = shape if shape.width <= 1024 else replace(shape, width=1024, heads=8, kv_heads=None, hidden=None)
    if device == "cpu":
        keep_freed_memory()  # as training does
        affordable = TIMED_FLOPS / (flops_per_token(timed) * timed.context)  # samples; below 1 for a large model
        timed = replace(timed, layers=max(1, min(timed.layers, int(affordable * timed.layers))))
        samples = max(1, min(samples, int(affordable)))
    model = GPT(timed).to(device, torch.bfloat16 if dtype == "bf16" else torch.float32)
    tokens = torch.randint(timed.vocab_size, (samples, timed.context + 1), device=device)

    def once() -> None:
        with autocast_for(dtype, device):
            nats, _ = model(tokens[:, :-1], tokens[:, 1:])
        nats.backward()
        if device == "cuda":
            torch.cuda.synchronize()

    with one_thread():
        return flops_per_token(timed) * samples * timed.context / fastest(once, TIMED_SECONDS)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread in the block: threads that wait for each other would count as processor time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fastest(once: Callable[[], None], seconds: float) -> float:
    """The least time that one call took, in seconds, of calls repeated for `seconds` and at least twice."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    # The fastest call is the one that other work disturbed least.
    times, end = list[float](), clock() + seconds
    while len(times) < 2 or clock() < end:
        started = clock()
        once()
        times.append(clock() - started)
    return min(times)
