"""Why a stage would run again: what changed since the newest artifact of it under this run's name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.graph.fingerprints import identity
from pipeline.graph.manifest import OUTSIDE
from pipeline.graph.stages import Node
from pipeline.graph.store import Store
from pipeline.graph.work import Artifact
from pipeline.inputs.outside import Outside
from pipeline.inputs.outside_changes import changes

OLDER_KIND = "an artifact of an older kind"  # a reason that a note of the plan explains, once
TEXT_UNKNOWN = "its text is unknown"
ADDRESS_KEYS = ("path", "url", "hub", "revision")


def why_stale(node: Node, store: Store, digests: Mapping[str, str], outside: Outside) -> str:
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
    return ", ".join(what) or (node.stage.news if node.stage.outside not in outside.faults else TEXT_UNKNOWN)


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
