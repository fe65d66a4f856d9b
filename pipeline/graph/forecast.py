"""What a training stage will need: memory per rank by ZeRO stage, disk, tokens, and the speed of this machine.

Memory follows the ZeRO paper (Rajbhandari et al. 2020, section 3): weights, gradients and optimizer state per
parameter, of which stage 1 shards the optimizer, stage 2 also the gradients and stage 3 also the weights over the
ranks. Activations are those of one micro-batch. The speed is that of a few training steps timed on the spot.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean, median
from typing import NamedTuple

import torch

from gpt.counts import flops_per_token, num_hidden_parameters, num_parameters
from gpt.model import GPT
from gpt.shape import GPTShape
from pipeline.config.schema import Config
from pipeline.config.text_sections import TokenizerSection
from pipeline.config.training_sections import ArmSection, PretrainSection, TrainingSection
from pipeline.runtime.memory import keep_freed_memory
from pipeline.runtime.precision import autocast_for, has_bf16_units
from pipeline.runtime.processes import cores_of_a_rank, usable_cores
from pipeline.runtime.threads import fixed_threads

PROCESS_BYTES = 450_000_000  # Python with torch and deepspeed loaded, before a model
IMPORTED_VOCABULARY = 50_257  # GPT-2's
ENGLISH_CHARACTERS = 70  # letters of both cases, digits, punctuation
WEIGHT_BYTES = 4  # per parameter
CHECKPOINT_BYTES = 20  # per parameter: master weights, two moments, and the weights twice
EMULATION = 100  # times as slow as fp32 is bf16 on a processor without units for it, at worst
# Upper limits for timing one model: `folio plan` should answer at once, also while others use the cores.
TIMED_SECONDS, TIMED_FLOPS = 0.3, 2e10
TIMED_VOCABULARY, FEWEST_TIMED_TOKENS = 8192, 32  # of a model of which only a part is timed
MOST_TIMED_AT_ONCE = 8  # models, each with its memory
ZERO_STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class Need:
    """What one training stage needs, over all its trials. `memory_bytes[z]` is per rank under ZeRO stage z.

    `copy_bytes` come on top in main memory while a checkpoint is written; where that has no room, training waits.
    """

    tokens: int
    flops: float
    disk_bytes: int
    memory_bytes: tuple[int, ...]
    copy_bytes: int  # of rank 0, which copies most


def vocabulary(tokenizer: TokenizerSection) -> int:
    """Size of the vocabulary before the tokenizer is trained; for characters an estimate."""
    return tokenizer.vocab_size if tokenizer.kind == "bpe" else ENGLISH_CHARACTERS


def training_need(stage: str, config: Config, shape: GPTShape, ranks: int) -> Need:
    """Tokens, floating-point operations, disk and memory of pretrain, scratch or finetune."""
    section: TrainingSection = getattr(config, stage)
    steps = steps_of_trainings(stage, section, config).all
    tokens = sum(steps) * section.batch_tokens
    parameters = num_parameters(shape)
    kept = section.keep_checkpoints * CHECKPOINT_BYTES * parameters
    # Of each seed of an arm the weights of the best and of the last step stay; of pretraining the last ones.
    weights = WEIGHT_BYTES * parameters * (2 * len(section.seeds) if isinstance(section, ArmSection) else 1)
    return Need(
        tokens=tokens,
        flops=float(tokens) * flops_per_token(shape),
        disk_bytes=kept + weights + 2_000_000 * len(steps),
        memory_bytes=tuple(memory_bytes(shape, section, zero, ranks) for zero in ZERO_STAGES),
        copy_bytes=copy_bytes(shape, section, ranks),
    )


def memory_bytes(shape: GPTShape, section: TrainingSection, zero: int, ranks: int) -> int:
    """Bytes one rank needs: model state under a ZeRO stage, activations of a micro-batch, and the process itself."""
    weights, optimizer = _saved_bytes(shape, section, zero, ranks)
    gradients = _value_bytes(section) * num_parameters(shape) / (ranks if zero >= 2 else 1)
    return int(weights + gradients + optimizer) + _activation_bytes(shape, section) + PROCESS_BYTES


def copy_bytes(shape: GPTShape, section: TrainingSection, ranks: int) -> int:
    """Bytes of the copies from which rank 0 writes a checkpoint: its share of the state, and all weights in fp32."""
    return int(sum(_saved_bytes(shape, section, section.zero, ranks))) + WEIGHT_BYTES * num_parameters(shape)


def _saved_bytes(shape: GPTShape, section: TrainingSection, zero: int, ranks: int) -> tuple[float, float]:
    """Bytes of one rank's weights, and of its optimizer state."""
    parameters = num_parameters(shape)
    # AdamW keeps two fp32 moments, Muon one of the matrices that are its own.
    optimizer = 8 * parameters - (4 * num_hidden_parameters(shape) if section.optimizer == "muon" else 0)
    # DeepSpeed updates an fp32 copy of bf16 weights; from stage 1 on a copy also where they are fp32 themselves.
    optimizer += 4 * parameters if zero >= 1 or section.dtype == "bf16" else 0
    weights = _value_bytes(section) * parameters
    return weights / (ranks if zero >= 3 else 1), optimizer / (ranks if zero >= 1 else 1)


def _value_bytes(section: TrainingSection) -> int:
    """Bytes of one weight, and of its gradient; `mixed` keeps them in fp32."""
    return 2 if section.dtype == "bf16" else 4


def _activation_bytes(shape: GPTShape, section: TrainingSection) -> int:
    """Of one micro-batch: Korthikanti et al. 2022, equation 1, without dropout masks and with flash attention, plus the
    logits twice (themselves and their gradient).
    """
    positions = section.micro_batch * shape.context
    per_layer = 2 if section.activation_checkpointing else 15
    return positions * _value_bytes(section) * (shape.layers * per_layer * shape.width + 2 * shape.vocab_size)


class PlannedSteps(NamedTuple):
    """The planned steps of each training of a stage; refits are not evaluated on the way."""

    evaluated: tuple[int, ...]  # pretraining and its branches, or the trials of an arm
    refits: tuple[int, ...] = ()

    @property
    def all(self) -> tuple[int, ...]:
        return self.evaluated + self.refits


def steps_of_trainings(stage: str, section: TrainingSection, config: Config) -> PlannedSteps:
    """The planned steps of each training of pretrain, scratch or finetune."""
    branches = config.pretrain.branch_at if stage != "scratch" else ()
    if isinstance(section, ArmSection):
        # The grid on the first seed, then what is reported on every one; of each branch the same with one seed.
        rates, seeds = len(section.learning_rates), len(section.seeds)
        if not section.refit:
            return PlannedSteps((section.max_steps,) * (rates + seeds - 1 + rates * len(branches)))
        target = config.target
        longer = round(section.max_steps / (1 - target.selection / (1 - target.validation)))  # as many epochs of more
        return PlannedSteps((section.max_steps,) * rates * (1 + len(branches)), (longer,) * (seeds + len(branches)))
    assert isinstance(section, PretrainSection), "what is not an arm pretrains"
    # A branch shares the beginning of the whole pretraining and adds only its own decay.
    return PlannedSteps((section.steps, *(math.ceil(section.decay * step) for step in branches)))


@cache
def flops_per_second(shape: GPTShape, dtype: str, samples: int, device: str, ranks: int = 1) -> float:
    """Floating-point operations per second of training on one core of this machine ("cpu"), or on one GPU ("cuda").

    Timed are forwards and backwards of `samples` at a time. On a CPU it is processor time, with all cores at work for
    so many ranks: other work that runs now need not run as long as the training will. Of a large model a part is timed:
    narrower, on a CPU also fewer layers, samples, words and positions.
    """
    return speeds_in_turns([shape], dtype, samples, device, ranks)[0]


def speeds_in_turns(
    shapes: Sequence[GPTShape], dtype: str, samples: int, device: str, ranks: int = 1, seconds: float = TIMED_SECONDS
) -> list[float]:
    """`flops_per_second` of several models, which are compared: what slows a machine for a moment slows all of them.

    `seconds` go into the timing of each.
    """
    if dtype == "bf16" and not has_bf16_units(device):
        # A single emulated step of a large model takes minutes, and `folio plan` should answer in seconds.
        return [speed / EMULATION for speed in speeds_in_turns(shapes, "fp32", samples, device, ranks, seconds)]
    if device == "cuda" and len(shapes) > 1:  # its memory may not hold all of them
        return [flops_per_second(shape, dtype, samples, device, ranks) for shape in shapes]
    timed = [_timed_part(shape, samples, device) for shape in shapes]
    # Ranks train side by side and share caches and memory, so that is how they are timed.
    at_once = 1 if device == "cuda" else min(ranks, usable_cores(), MOST_TIMED_AT_ONCE)
    cores = 1 if device == "cuda" else cores_of_a_rank(ranks)
    if device == "cpu":
        keep_freed_memory()  # as training does
    with fixed_threads(cores):
        calls = [[_training_call(part, dtype, some, device) for part, some in timed] for _ in range(at_once)]
        taken = median_seconds(calls, device, seconds)
    return [
        flops_per_token(part) * some * part.context / (own * cores)
        for (part, some), own in zip(timed, taken, strict=True)
    ]


def _timed_part(shape: GPTShape, samples: int, device: str) -> tuple[GPTShape, int]:
    part = shape if shape.width <= 1024 else replace(shape, width=1024, heads=8, kv_heads=None, hidden=None)
    return affordable(part, samples) if device == "cpu" else (part, samples)


def _training_call(shape: GPTShape, dtype: str, samples: int, device: str) -> Callable[[], None]:
    """A forward and backward of a new model on random tokens."""
    model = GPT(shape).to(device, torch.bfloat16 if dtype == "bf16" else torch.float32)
    tokens = torch.randint(shape.vocab_size, (samples, shape.context + 1), device=device)

    def once() -> None:
        with autocast_for(dtype, device):
            nats, _ = model(tokens[:, :-1], tokens[:, 1:])
        nats.backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return once


def affordable(shape: GPTShape, samples: int) -> tuple[GPTShape, int]:
    """As much of a model as can be timed with about TIMED_FLOPS, and how many samples of it at a time."""
    if flops_per_token(shape) * shape.context > TIMED_FLOPS:
        # A part cannot be exact, so it need not be timed once for every dropout.
        share = TIMED_FLOPS / (flops_per_token(shape) * shape.context)
        layers, vocabulary = max(1, int(share * shape.layers)), min(shape.vocab_size, TIMED_VOCABULARY)
        shape = replace(shape, layers=layers, vocab_size=vocabulary, document_start=None, dropout=0.0)
    if flops_per_token(shape) * shape.context > TIMED_FLOPS:
        context = max(FEWEST_TIMED_TOKENS, int(TIMED_FLOPS / flops_per_token(shape)))
        shape = replace(shape, context=min(shape.context, context))
    return shape, max(1, min(samples, int(TIMED_FLOPS / (flops_per_token(shape) * shape.context))))


def median_seconds(
    calls: Sequence[Sequence[Callable[[], None]]], device: str, seconds: float = TIMED_SECONDS
) -> list[float]:
    """Each thread takes its calls in turns, for so many seconds of each and at least twice, after a first that does not
    count: the median of each call's seconds, as a mean over the threads, (calls of a thread,).
    """
    # A GPU's kernels cost no processor time. On cores other processes shall not count, so a thread's own time does.
    clock = time.perf_counter if device == "cuda" else time.thread_time

    def medians(own: Sequence[Callable[[], None]]) -> list[float]:
        for once in own:
            once()
        turns, end = list[list[float]](), clock() + seconds * len(own)
        while len(turns) < 2 or clock() < end:
            turns.append([_seconds_of(once, clock) for once in own])
        return [median(times) for times in zip(*turns, strict=True)]

    with ThreadPoolExecutor(len(calls)) as threads:
        return [fmean(times) for times in zip(*threads.map(medians, calls), strict=True)]


def _seconds_of(call: Callable[[], None], clock: Callable[[], float]) -> float:
    started = clock()
    call()
    return clock() - started
