"""`folio plan`: what a run would do and why, and whether it fits. Reads the store and the machine; writes nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from gpt.counts import num_parameters
from gpt.shape import GPTShape
from pipeline.config.schema import Config
from pipeline.config.training_sections import ArmSection, TrainingSection
from pipeline.graph import forecast
from pipeline.graph.fingerprints import fingerprints, identity
from pipeline.graph.manifest import OUTSIDE
from pipeline.graph.stage_counts import TokenizerCounts
from pipeline.graph.stages import Node, nodes_of
from pipeline.graph.store import Store
from pipeline.graph.work import Artifact
from pipeline.inputs.outside import Outside, look_outside
from pipeline.inputs.outside_changes import changes
from pipeline.runtime.files import existing_parent
from pipeline.runtime.formatting import counted, readable_bytes, readable_count, readable_seconds
from pipeline.runtime.precision import default_device, has_bf16_units

OLDER_KIND = "an artifact of an older kind"  # a reason that its note explains, once
TEXT_UNKNOWN = "its text is unknown"
ADDRESS_KEYS = ("path", "url", "hub", "revision")

# Of the stages that read text, on two cores; docs/results/bench.md has the measurements.
TEXT_BYTES_PER_SECOND = {"corpus": 15e6, "tokenizer": 8e6, "shards": 20e6}


@dataclass(frozen=True)
class StagePlan:
    """One node of the run. `state` is "done", "will run" or "stale"; `reason` says what changed.

    Seconds, bytes and tokens are forecasts, or of a finished stage what it took; None where nothing can be said.
    """

    stage: str
    state: str
    reason: str
    folder: str
    seconds: float | None
    disk_bytes: int | None
    tokens: int | None = None
    memory_bytes_per_rank: tuple[int, ...] | None = None  # by ZeRO stage 0 to 3
    zero: int | None = None


@dataclass(frozen=True)
class RunPlan:
    """The plan of a run: `obstacles` says what does not fit on this machine, `notes` what else to know beforehand."""

    run: str
    ranks: int
    stages: tuple[StagePlan, ...]
    parameters: int
    obstacles: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        head = f"{self.run}: {readable_count(self.parameters)} parameters, {counted(self.ranks, 'rank')}"
        width = max(len(stage.stage) for stage in self.stages)
        lines = [head, *(_line(stage, width) for stage in self.stages), *_memory_table(self, width)]
        ahead = [stage for stage in self.stages if stage.state != "done"]
        if not ahead:
            return "\n".join([*lines, "Nothing to do."])
        verdict = [f"DOES NOT FIT: {obstacle}" for obstacle in self.obstacles] or ["It fits on this machine."]
        return "\n".join([*lines, _total(ahead), *self.notes, *verdict])


def plan(config: Config, store: Store, ranks: int = 1, outside: Outside | None = None) -> RunPlan:
    """What `folio run` would do now on this many ranks.

    `outside` saves a second look at the texts to a caller that had one.
    Raises ConfigError if a variant of the report is not understood, DataError for a damaged manifest.
    """
    outside = outside or look_outside(config)
    digests = fingerprints(config, outside)
    shape = _shape(config, store, digests["tokenizer"])
    stages = tuple(_stage_plan(node, store, digests, ranks, outside) for node in nodes_of(config))
    obstacles = _obstacles(stages, ranks, store.root)
    notes = (*_notes(config, stages), *_notes_on_texts(outside, stages))
    return RunPlan(config.name, ranks, stages, num_parameters(shape), obstacles, notes)


def _shape(config: Config, store: Store, tokenizer_fingerprint: str) -> GPTShape:
    """The model's shape, with the vocabulary of the finished tokenizer or, before there is one, the expected size."""
    tokenizer = store.finished("tokenizer", tokenizer_fingerprint)
    if tokenizer:
        return config.model.shape(tokenizer.counts_as(TokenizerCounts).vocab_size)
    return config.model.shape(
        forecast.IMPORTED_VOCABULARY if config.pretrained else forecast.vocabulary(config.tokenizer)
    )


def _flops_per_second(section: TrainingSection, shape: GPTShape, ranks: int) -> float:
    """What training will reach on all ranks: each has a GPU of its own, or all share the cores of this machine."""
    dropout = section.dropout if isinstance(section, ArmSection) and section.dropout is not None else shape.dropout
    unit = forecast.flops_per_second(replace(shape, dropout=dropout), section.dtype, section.micro_batch)
    return unit * forecast.EFFICIENCY * (ranks if torch.cuda.is_available() else os.cpu_count() or 1)


def _stage_plan(node: Node, store: Store, digests: Mapping[str, str], ranks: int, outside: Outside) -> StagePlan:
    stage, config = node.stage, node.config
    folder = str(store.folder(stage.name, digests[node.name]))
    artifact = store.finished(stage.name, digests[node.name])
    if artifact is not None:
        size = sum(entry.bytes for entry in artifact.manifest.files)
        return StagePlan(node.name, "done", "", folder, artifact.manifest.seconds, size)
    reason = _why(node, store, digests, outside)
    state = "stale" if reason else "will run"
    shape = _shape(config, store, _tokenizer_fingerprint(node, digests))
    # Imported weights stand in for pretraining: no rank trains, but a model is written.
    if not stage.trains and stage.name == "pretrain":
        size = forecast.WEIGHT_BYTES * num_parameters(shape)
        return StagePlan(node.name, state, reason, folder, forecast.IMPORT_SECONDS, size)
    if not stage.trains:
        seconds, disk = _text_need(stage.name, config)
        return StagePlan(node.name, state, reason, folder, seconds, disk)
    need = forecast.training_need(stage.name, config, shape, ranks)
    section: TrainingSection = getattr(config, stage.name)
    seconds = need.flops / _flops_per_second(section, shape, ranks)
    return StagePlan(
        node.name, state, reason, folder, seconds, need.disk_bytes, need.tokens, need.memory_bytes, section.zero
    )


def _tokenizer_fingerprint(node: Node, digests: Mapping[str, str]) -> str:
    """Fingerprint of the tokenizer that the node reads, or of the run's own if it reads none."""
    return digests[node.inputs["tokenizer"].name if "tokenizer" in node.inputs else "tokenizer"]


def _text_need(stage: str, config: Config) -> tuple[float | None, int | None]:
    """Seconds and disk of a stage that reads text; None where only the network knows the size."""
    if stage in ("target", "report"):
        return (2.0, 2_500_000) if stage == "target" else (20.0, 2_000_000)
    size = forecast.corpus_bytes(config)
    if size is None:
        return None, None
    read = min(size, config.tokenizer.sample_bytes) if stage == "tokenizer" else size
    width = 2 if config.tokenizer.vocab_size <= 2**16 else 4
    disk = {"corpus": 0.4 * size, "tokenizer": 500_000, "shards": width * size / forecast.BYTES_PER_TEXT_TOKEN}
    return read / TEXT_BYTES_PER_SECOND[stage], int(disk[stage])


def _why(node: Node, store: Store, digests: Mapping[str, str], outside: Outside) -> str:
    """What changed since the newest artifact of this stage under this run's name; empty if there is none."""
    newest = store.newest(node.stage.name, node.config.name)
    if newest is None:
        return ""
    manifest = newest.manifest
    reads_texts = node.stage.outside and manifest.outside is not None
    what = [] if node.stage.outside in outside.faults or not reads_texts else _text_changes(node, newest, outside)
    what += differences(_without_addresses(manifest.config), identity(node.stage.slice(node.config)))
    inputs = [name for name, other in node.reads.items() if manifest.inputs.get(name) != digests[other.name]]
    what += [f"{name} changes" for name in inputs]
    if node.stage.outside and manifest.outside is None:
        return OLDER_KIND
    return ", ".join(what) or ("its format changed" if node.stage.outside not in outside.faults else TEXT_UNKNOWN)


def _text_changes(node: Node, newest: Artifact, outside: Outside) -> list[str]:
    """What became of the outside texts of a stage since an artifact was made from them."""
    texts = outside.texts[node.stage.outside]
    if newest.manifest.outside == {name: text.digest for name, text in texts.items()}:
        return []
    try:
        old = json.loads((newest.folder / OUTSIDE).read_bytes())
        return changes(old, {name: text.record() for name, text in texts.items()})
    except (OSError, ValueError, KeyError, TypeError):  # damaged: `folio verify` says so
        return ["its text changed"]


def _without_addresses(written: Any) -> Any:
    """The noted config of a stage without where its texts were found, which makes nothing stale."""
    if isinstance(written, dict):
        return {key: _without_addresses(value) for key, value in written.items() if key not in ADDRESS_KEYS}
    return [_without_addresses(value) for value in written] if isinstance(written, list) else written


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


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Dotted keys whose value differs, as "pretrain.learning_rate 0.001 -> 0.002"."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        missing = "(unset)"
        pairs = [(f"{name}.{key}" if name else key, old.get(key, missing), new.get(key, missing)) for key in keys]
        return [change for key, before, after in pairs for change in differences(before, after, key)]
    return [] if old == new else [f"{name} {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _obstacles(stages: tuple[StagePlan, ...], ranks: int, root: Path) -> tuple[str, ...]:
    ahead = [stage for stage in stages if stage.state != "done"]
    obstacles = []
    disk = sum(stage.disk_bytes or 0 for stage in ahead)
    free = shutil.disk_usage(existing_parent(root)).free
    if disk > free:
        obstacles.append(f"{readable_bytes(disk)} of disk in {root}, {readable_bytes(free)} free.")
    memory = _memory_bytes()
    for stage in ahead:
        if stage.memory_bytes_per_rank is not None and stage.zero is not None:
            # All local ranks share the machine's memory on a CPU machine; each has a GPU's to itself on others.
            need = stage.memory_bytes_per_rank[stage.zero] * min(ranks, _ranks_per_memory())
            if need > memory:
                where = f"{stage.stage} with ZeRO {stage.zero} on {counted(ranks, 'rank')}"
                obstacles.append(f"{where} needs {readable_bytes(need)}, {readable_bytes(memory)} available.")
    return tuple(obstacles)


def _notes(config: Config, stages: tuple[StagePlan, ...]) -> tuple[str, ...]:
    """What the dtype of a training means on hardware without bf16 units."""
    if has_bf16_units(default_device().type):
        return ()
    dtypes = {
        stage.stage: getattr(config, stage.stage).dtype
        for stage in stages
        if stage.state != "done" and stage.tokens and hasattr(config, stage.stage)
    }
    meaning = {
        "bf16": "is emulated by this processor and takes up to a hundred times as long; mixed or fp32 would not",
        "mixed": "computes in fp32 on this processor, which has no units for bf16",
    }
    return tuple(
        f"{', '.join(names)}: dtype {dtype} {text}."
        for dtype, text in meaning.items()
        if (names := [name for name, chosen in dtypes.items() if chosen == dtype])
    )


def _memory_bytes() -> int:
    """Memory that training may use: one GPU's, or what is available on this machine now."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return int(psutil.virtual_memory().available)


def _ranks_per_memory() -> int:
    """How many local ranks share the memory above: one per GPU, all of them on a CPU machine."""
    return 1 if torch.cuda.is_available() else os.cpu_count() or 1


def _line(stage: StagePlan, width: int) -> str:
    columns = [f"{stage.stage:>{width}}  {stage.state:<8}"]
    columns.append(f"{readable_seconds(stage.seconds):>11}" if stage.seconds is not None else f"{'?':>11}")
    columns.append(f"{readable_bytes(stage.disk_bytes):>9}" if stage.disk_bytes is not None else f"{'?':>9}")
    columns.append(f"{readable_count(stage.tokens)} tokens" if stage.tokens else "")
    columns.append(f"because {stage.reason}" if stage.reason else "")
    return "  ".join(column for column in columns if column).rstrip()


def _memory_table(run_plan: RunPlan, width: int) -> list[str]:
    rows = [stage for stage in run_plan.stages if stage.memory_bytes_per_rank is not None]
    if not rows:
        return []
    heading = "memory per rank"
    width = max(width, len(heading))
    lines = [f"{heading:>{width}}" + "".join(f"{f'ZeRO {zero}':>10}" for zero in forecast.ZERO_STAGES)]
    for stage in rows:
        sizes = "".join(f"{readable_bytes(size):>10}" for size in stage.memory_bytes_per_rank or ())
        lines.append(f"{stage.stage:>{width}}{sizes}   (this run: ZeRO {stage.zero})")
    return lines


def _total(ahead: Sequence[StagePlan]) -> str:
    seconds = sum(stage.seconds or 0 for stage in ahead)
    disk = sum(stage.disk_bytes or 0 for stage in ahead)
    return f"to do: {counted(len(ahead), 'stage')}, about {readable_seconds(seconds)} and {readable_bytes(disk)}"
