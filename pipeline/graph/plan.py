"""`folio plan`: what a run would do and why, and whether it fits. Reads the store and the machine; writes nothing."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpt.counts import num_parameters
from gpt.shape import GPTShape
from pipeline.config.schema import Config
from pipeline.graph import forecast
from pipeline.graph.advice import held_out_advice, training_advice
from pipeline.graph.durations import node_seconds
from pipeline.graph.expected_texts import ExpectedTexts, bytes_per_token
from pipeline.graph.fingerprints import fingerprints
from pipeline.graph.machines import Machine, dtype_notes, this_machine
from pipeline.graph.planned_training import PlannedTraining
from pipeline.graph.run_plan import DONE, RunPlan, StagePlan
from pipeline.graph.stage_counts import ShardsCounts, TokenizerCounts
from pipeline.graph.stages import Node, nodes_of
from pipeline.graph.stale_reasons import OLDER_KIND, why_stale
from pipeline.graph.store import Store
from pipeline.inputs.outside import Outside, look_outside
from pipeline.runtime.files import existing_parent
from pipeline.runtime.formatting import counted, readable_bytes


def plan(
    config: Config, store: Store, ranks: int = 1, outside: Outside | None = None, machine: Machine | None = None
) -> RunPlan:
    """What `folio run` would do now on this many ranks, here or on another machine.

    `outside` saves a second look at the texts to a caller that had one.
    Raises ConfigError if a variant of the report is not understood, DataError for a damaged manifest.
    """
    outside, machine = outside or look_outside(config), machine or this_machine()
    digests = fingerprints(config, outside)
    planner = Planner(store, digests, outside, machine, ranks)
    nodes = nodes_of(config)
    stages = tuple(planner.stage_plan(node) for node in nodes)
    notes = (*dtype_notes(machine, _dtypes(config, stages)), *_notes_on_texts(outside, stages))
    ahead = [node for node, stage in zip(nodes, stages, strict=True) if stage.ahead and node.variant is None]
    notes += (*planner.advice(ahead), *_other_machine(config, machine, stages))
    return RunPlan(
        run=config.name,
        ranks=ranks,
        stages=stages,
        parameters=num_parameters(_shape(config, store, digests["tokenizer"])),
        obstacles=_obstacles(stages, ranks, store.root, machine),
        notes=notes,
        machine=machine.name,
        speed=machine.described,
    )


def _shape(config: Config, store: Store, tokenizer_fingerprint: str) -> GPTShape:
    """The model's shape, with the vocabulary of the finished tokenizer or, before there is one, the expected size."""
    tokenizer = store.finished("tokenizer", tokenizer_fingerprint)
    if tokenizer:
        return config.model.shape(tokenizer.counts_as(TokenizerCounts).vocab_size)
    return config.model.shape(
        forecast.IMPORTED_VOCABULARY if config.pretrained else forecast.vocabulary(config.tokenizer)
    )


@dataclass(frozen=True)
class Planner:
    """What the plans of all stages have in common."""

    store: Store
    digests: Mapping[str, str]
    outside: Outside
    machine: Machine
    ranks: int

    def stage_plan(self, node: Node) -> StagePlan:
        """The plan of one node, whether it is finished or not."""
        stage, shape, texts = node.stage, self.shape(node), self.texts(node)
        training = PlannedTraining.of(node, shape, texts, self.ranks) if stage.trains else None
        plan = StagePlan(node.name, DONE, "", str(self.store.folder(stage.name, self.digests[node.name])), None, None)
        if training is not None:
            ratio = training.tokens_per_parameter
            plan = replace(plan, training_tokens=training.tokens, epochs=training.epochs, tokens_per_parameter=ratio)
        artifact = self.store.finished(stage.name, self.digests[node.name])
        if artifact is not None:
            size = sum(entry.bytes for entry in artifact.manifest.files)
            return replace(plan, seconds=artifact.manifest.seconds, disk_bytes=size)
        reason = why_stale(node, self.store, self.digests, self.outside)
        seconds = node_seconds(node, texts, self.machine, self.ranks, shape)
        plan = replace(plan, state="stale" if reason else "will run", reason=reason, seconds=seconds)
        if training is None:
            return replace(plan, disk_bytes=_disk_bytes(node, shape, texts))
        fitted = node.config.model_copy(update={stage.name: training.section})
        need = forecast.training_need(stage.name, fitted, shape, self.ranks)
        return replace(
            plan,
            disk_bytes=need.disk_bytes,
            tokens=need.tokens,
            memory_bytes_per_rank=need.memory_bytes,
            zero=training.section.zero,
            copy_bytes_per_rank=need.copy_bytes,
        )

    def advice(self, nodes: Sequence[Node]) -> list[str]:
        """What makes no sense in these stages, the first of which is told about the texts that are scored."""
        trainings = [
            (node, PlannedTraining.of(node, self.shape(node), self.texts(node), self.ranks))
            for node in nodes
            if node.stage.trains
        ]
        lines = [line for node, training in trainings for line in training_advice(node.name, training)]
        return lines + (list(held_out_advice(nodes[0].config, self.texts(nodes[0]))) if trainings else [])

    def shape(self, node: Node) -> GPTShape:
        """The model's shape with the tokenizer that the node reads, or with the run's own if it reads none."""
        tokenizer = node.inputs["tokenizer"].name if "tokenizer" in node.inputs else "tokenizer"
        return _shape(node.config, self.store, self.digests[tokenizer])

    def texts(self, node: Node) -> ExpectedTexts:
        """The texts that the node reads, counted if its shards are finished."""
        shards = node.inputs["shards"].name if "shards" in node.inputs else "shards"
        artifact = self.store.finished("shards", self.digests[shards])
        if artifact is None:
            return ExpectedTexts.of(node.config, self.outside)
        return ExpectedTexts(artifact.counts_as(ShardsCounts), counted=True)


def _disk_bytes(node: Node, shape: GPTShape, texts: ExpectedTexts) -> int | None:
    """Disk of a stage in which nothing is trained; None where only the network knows the size of its text."""
    stage, tokenizer = node.stage.name, node.config.tokenizer
    # Imported weights stand in for pretraining: no rank trains, but a model is written.
    fixed = {"target": 2_500_000, "report": 2_000_000, "pretrain": forecast.WEIGHT_BYTES * num_parameters(shape)}
    if stage in fixed or texts.corpus_bytes is None:
        return fixed.get(stage)
    width = 2 if tokenizer.vocab_size <= 2**16 else 4
    tokens = texts.corpus_bytes / bytes_per_token(tokenizer)
    return int({"corpus": 0.4 * texts.corpus_bytes, "tokenizer": 500_000, "shards": width * tokens}.get(stage, 0))


def _notes_on_texts(outside: Outside, stages: tuple[StagePlan, ...]) -> tuple[str, ...]:
    """Why a text is unknown, what was taken on trust of a silent server, and what an older artifact means."""
    notes = [f"{key}: {fault}" for key, fault in outside.faults.items()]
    notes += outside.notes
    if any(stage.reason == OLDER_KIND for stage in stages):
        notes.append(
            "Artifacts of this run were made before texts were identified by content: nothing says which text is in "
            "them, so their stages run again."
        )
    return tuple(notes)


def _obstacles(stages: tuple[StagePlan, ...], ranks: int, root: Path, machine: Machine) -> tuple[str, ...]:
    ahead = [stage for stage in stages if stage.ahead]
    obstacles = []
    disk = sum(stage.disk_bytes or 0 for stage in ahead)
    # Nothing is known of another machine's disks.
    free = shutil.disk_usage(existing_parent(root)).free if machine.here else math.inf
    if disk > free:
        obstacles.append(f"{readable_bytes(disk)} of disk in {root}, {readable_bytes(free)} free.")
    for stage in ahead:
        if stage.memory_bytes_per_rank is not None and stage.zero is not None:
            need = stage.memory_bytes_per_rank[stage.zero] * machine.ranks_per_memory(ranks)
            if need > machine.memory_bytes:
                where = f"{stage.stage} with ZeRO {stage.zero} on {counted(ranks, 'rank')}"
                available = f"{readable_bytes(machine.memory_bytes)} available"
                obstacles.append(f"{where} needs {readable_bytes(need)}, {available}.")
    return tuple(obstacles)


def _dtypes(config: Config, stages: tuple[StagePlan, ...]) -> dict[str, str]:
    """Training stage of the run that is still to do -> its dtype."""
    ahead = [stage.stage for stage in stages if stage.ahead and stage.tokens and hasattr(config, stage.stage)]
    return {stage: getattr(config, stage).dtype for stage in ahead}


def _other_machine(config: Config, machine: Machine, stages: tuple[StagePlan, ...]) -> list[str]:
    """For a config that is sized for GPUs, planned where there is none: how to plan it for some."""
    if not machine.here or machine.gpu or "bf16" not in _dtypes(config, stages).values():
        return []
    return [f"To plan it for GPUs that are not here, add for example --on h100x{config.launch.ranks or 1}."]
