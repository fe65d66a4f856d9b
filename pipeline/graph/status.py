"""`folio status`: the state of each stage, with the live progress of a running one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.graph.fingerprints import fingerprints
from pipeline.graph.lock import held
from pipeline.graph.runner import PROGRESS
from pipeline.graph.stages import Node, nodes_of
from pipeline.graph.store import Store
from pipeline.inputs.outside import Outside, look_outside
from pipeline.runtime.formatting import readable_seconds


@dataclass(frozen=True)
class StageState:
    """The state of one node.

    `state` is "done", "running", "interrupted" (begun, but no process works on it) or "waiting". `seconds` is what a
    finished stage took; `progress` the content of a running stage's progress.json, None between two of its tasks.
    """

    stage: str
    state: str
    folder: str
    seconds: float | None = None
    progress: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def states(config: Config, store: Store, outside: Outside | None = None) -> list[StageState]:
    """The state of every stage of the run, in order; a stage whose text is unknown is waiting for it."""
    digests = fingerprints(config, outside or look_outside(config))
    return [_state(node, digests[node.name], store) for node in nodes_of(config)]


def as_text(stages: list[StageState]) -> str:
    """One aligned line per stage."""
    width = max(len(state.stage) for state in stages)
    return "\n".join(f"{state.stage:>{width}}  {state.state:<11} {_detail(state)}".rstrip() for state in stages)


def _state(node: Node, fingerprint: str, store: Store) -> StageState:
    stage = node.name
    folder = store.folder(node.stage.name, fingerprint)
    artifact = store.finished(node.stage.name, fingerprint)
    if artifact is not None:
        return StageState(stage, "done", str(folder), artifact.manifest.seconds)
    if not folder.exists():
        return StageState(stage, "waiting", str(folder))
    if held(folder):
        return StageState(stage, "running", str(folder), progress=_live(folder / PROGRESS))
    return StageState(stage, "interrupted", str(folder))


def _live(path: Path) -> dict[str, Any] | None:
    """Progress of the running task; None between tasks."""
    try:
        progress: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return progress


def _detail(state: StageState) -> str:
    if state.seconds is not None:
        return f"{readable_seconds(state.seconds):>11}  {state.folder}"
    if state.progress is None:
        return ""
    left = state.progress["seconds_left"]
    done, total, unit = state.progress["done"], state.progress["total"], state.progress["unit"]
    parts = [state.progress["label"], f"{done:,.0f}" + (f"/{total:,.0f} {unit}" if total else f" {unit}")]
    parts += [f"{readable_seconds(left)} left" if left is not None else "", state.progress["info"]]
    return "  ".join(part for part in parts if part)
