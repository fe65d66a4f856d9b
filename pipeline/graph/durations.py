"""How long each stage of a run will take.

A training is arithmetic, at a speed that is timed on the spot or taken from published figures (`machines.py`), and all
that is not: starting ranks, updates, the exchange of gradients, evaluations, checkpoints. Early stopping is left out:
an arm whose patience ends takes less.

The seconds below are processor time on two cores of an AMD EPYC on 2026-11-27, by differences between trainings of a
model of one layer that did more or less of one thing. Faster processors take half of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpt.counts import flops_per_token, num_parameters
from gpt.shape import GPTShape
from pipeline.config.schema import Config
from pipeline.config.training_sections import ArmSection, PretrainSection, TrainingSection
from pipeline.graph.expected_texts import ExpectedTexts
from pipeline.graph.forecast import steps_of_trainings, vocabulary
from pipeline.graph.machines import Machine
from pipeline.graph.planned_training import PlannedTraining
from pipeline.graph.stages import Node, nodes_of

RANKS_SECONDS = 8.5  # a rank imports torch and DeepSpeed, finds the others, opens its inputs, and ends
TRIAL_SECONDS = 0.7  # an engine is built, and the weights of the best and of the last step are written
SAVE_SECONDS = 0.5  # a checkpoint of a small model, written and hashed
EVALUATION_SECONDS = 0.02  # beside the arithmetic
MICRO_BATCH_SECONDS = 0.005  # of DeepSpeed and Python for each micro-batch
DISK_BYTES_PER_SECOND = 4e8  # of a checkpoint, with hashing
# Between ranks on cores, which gloo joins: the sums of one step wait for processes that are busy, whatever their size.
EXCHANGE_SECONDS, EXCHANGE_BYTES_PER_SECOND = 0.02, 1e9
START_SECONDS = {"target": 0.5, "corpus": 2.5, "tokenizer": 2.5, "shards": 2.0, "report": 8.0}
# Of the stages that read text, on two cores; a tokenizer is trained on its sample.
TEXT_BYTES_PER_SECOND = {"corpus": 15e6, "tokenizer": 2.5e6, "shards": 20e6}
SAMPLED_TOKEN_SECONDS = 0.0015  # of the report's texts, for each layer
IMPORT_SECONDS = 120.0  # mostly for the comparison with `transformers`
MUON_ITERATIONS = 5
# Of the time that a token takes in training: a forward is a third of the arithmetic, and less well used.
SCORED_SHARE = 0.42


def stage_seconds(
    config: Config, texts: ExpectedTexts, machine: Machine, ranks: int, shape: GPTShape | None = None
) -> dict[str, float | None]:
    """Seconds of every stage of a run by name, an upper bound where patience may end an arm; None for unknown texts.

    `shape` is the model's where its tokenizer is finished.
    """
    return {node.name: node_seconds(node, texts, machine, ranks, shape) for node in nodes_of(config)}


def node_seconds(
    node: Node, texts: ExpectedTexts, machine: Machine, ranks: int, shape: GPTShape | None = None
) -> float | None:
    """Seconds of one stage, of the run itself or of a variant."""
    stage, config = node.stage, node.config
    shape = shape or config.model.shape(vocabulary(config.tokenizer))
    if stage.trains:
        return _training_seconds(node, shape, texts, machine, ranks)
    if stage.name == "pretrain":  # imported weights
        return IMPORT_SECONDS
    start = START_SECONDS[stage.name]
    if stage.name == "report":
        return start + _scoring_seconds(config, shape, texts, machine)
    size = {"target": 0, "tokenizer": _least(texts.corpus_bytes, config.tokenizer.sample_bytes)}.get(
        stage.name, texts.corpus_bytes
    )
    return None if size is None else start + size / TEXT_BYTES_PER_SECOND.get(stage.name, math.inf)


@dataclass(frozen=True)
class _Pace:
    """What the parts of one training take, in seconds."""

    step: float
    token_forward: float  # one token scored, on all ranks together
    save: float


def _training_seconds(node: Node, shape: GPTShape, texts: ExpectedTexts, machine: Machine, ranks: int) -> float:
    """Of pretrain, scratch or finetune with all trials and branches, up to the end of their steps."""
    planned = PlannedTraining.of(node, shape, texts, ranks)
    stage, section, config = planned.stage, planned.section, node.config
    steps, pace = steps_of_trainings(stage, section, config), _pace(section, shape, machine, ranks)
    evaluations = _times(steps.evaluated, section.evaluate_every)
    evaluated = planned.text.held_out_tokens
    if isinstance(section, PretrainSection):
        evaluated = min(section.evaluate_tokens, evaluated)
    return (
        RANKS_SECONDS
        + TRIAL_SECONDS * len(steps.all)
        + EVALUATION_SECONDS * evaluations
        + pace.step * sum(steps.all)
        + pace.token_forward * evaluated * evaluations
        + pace.save * _times(steps.all, section.save_every)
    )


def _pace(section: TrainingSection, shape: GPTShape, machine: Machine, ranks: int) -> _Pace:
    dropout = section.dropout if isinstance(section, ArmSection) and section.dropout is not None else shape.dropout
    share = max(section.batch_tokens // (ranks * shape.context), 1)  # samples of one rank in a step
    micro = min(max(section.micro_batch, 1), share)
    speed = machine.flops_per_second(replace(shape, dropout=dropout), section.dtype, micro, ranks)
    micro_batches = -(-share // micro)
    arithmetic = section.batch_tokens * flops_per_token(shape) / speed
    launches = micro_batches * shape.layers * machine.launch_seconds
    # Muon's matrices are shared out, and each is the work of one rank.
    update = _update_flops(section, shape) * -(-shape.layers // ranks) / shape.layers / (speed / ranks)
    exchange = _exchange_seconds(section, shape) if ranks > 1 and not machine.gpu else 0.0
    overhead = MICRO_BATCH_SECONDS * micro_batches
    save = SAVE_SECONDS + 16 * num_parameters(shape) / DISK_BYTES_PER_SECOND
    return _Pace(
        step=max(arithmetic, launches) + update + exchange + overhead,
        token_forward=SCORED_SHARE * flops_per_token(shape) / speed,
        save=save,
    )


def _exchange_seconds(section: TrainingSection, shape: GPTShape) -> float:
    """Of one step: the gradients, and the updates that Muon's ranks made for each other."""
    sent = 2 if section.optimizer == "muon" else 1
    return EXCHANGE_SECONDS + sent * 4 * num_parameters(shape) / EXCHANGE_BYTES_PER_SECOND


def _update_flops(section: TrainingSection, shape: GPTShape) -> float:
    """Of one update: AdamW's is nothing beside the rest, Muon multiplies every matrix of the blocks."""
    if section.optimizer != "muon":
        return 0.0
    width, hidden = shape.width, shape.hidden_width
    qkv = width + 2 * shape.key_value_heads * shape.head_width
    matrices = [qkv, width, *[hidden] * (3 if shape.activation == "swiglu" else 2)]
    # Newton-Schulz on (n, m), n <= m: X X^T and B X take 2 n n m each, A A takes 2 n n n.
    sides = [(min(width, other), max(width, other)) for other in matrices]
    return shape.layers * MUON_ITERATIONS * float(sum(4 * n * n * m + 2 * n**3 for n, m in sides))


def _scoring_seconds(config: Config, shape: GPTShape, texts: ExpectedTexts, machine: Machine) -> float:
    """Of the report: every file of weights scored on the validation text, the gap, and the texts that models write."""
    section = config.scratch
    speed = machine.flops_per_second(replace(shape, dropout=0.0), "fp32", section.micro_batch, 1)
    arms = config.scratch, config.finetune
    of_arms = sum(len(arm.seeds) * (1 if arm.refit else 2) for arm in arms)
    files = 1 + of_arms + 2 * len(config.pretrain.branch_at)
    scored = texts.shards.target_validation.tokens * files + 2 * config.pretrain.evaluate_tokens
    written = 2 * config.report.sample_tokens * shape.layers * SAMPLED_TOKEN_SECONDS
    return SCORED_SHARE * scored * flops_per_token(shape) / speed + written


def _times(steps: Sequence[int], every: int) -> int:
    """How often something happens at every so many steps of each training, or never for 0, and at its end."""
    return sum(-(-own // every) if every else 1 for own in steps)


def _least(size: int | None, limit: int) -> int | None:
    return None if size is None else min(size, limit)
