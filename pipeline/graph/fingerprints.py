"""The fingerprint of each artifact: a digest of everything that decides what is in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from pipeline.config.schema import Config
from pipeline.graph.stages import nodes_of


def fingerprints(config: Config) -> dict[str, str]:
    """Node name -> hex digest of its stage's format version, its slice of the config and its inputs' fingerprints."""
    digests: dict[str, str] = {}
    for node in nodes_of(config):
        inputs = {name: digests[other.name] for name, other in node.reads.items()}
        seen = identity(node.stage.slice(node.config))
        # Never change this text: every finished artifact would become stale. A golden test holds it.
        text = json.dumps([node.stage.name, node.stage.version, seen, inputs], sort_keys=True)
        digests[node.name] = hashlib.sha256(text.encode()).hexdigest()
    return digests


def identity(value: Any) -> Any:
    """Plain JSON of a slice, without the fields that never change what is computed (see `config/section.py`)."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        values = {name: getattr(value, name) for name in fields}
        return {name: identity(values[name]) for name, field in fields.items() if _is_identity(field, values[name])}
    if isinstance(value, Mapping):
        return {str(name): identity(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [identity(item) for item in value]
    return value


def _is_identity(field: Any, value: Any) -> bool:
    extra = field.json_schema_extra
    marked = extra.get("identity", True) if isinstance(extra, dict) else True
    return value != field.default if marked == "unless default" else bool(marked)
