"""The fingerprint of each artifact: a digest of everything that decides what is in it.

Of the texts that a stage reads from outside the store their content, never their place: a moved folder is the same
text, and another text in the same place is not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from pipeline.addresses import without_secrets
from pipeline.config.schema import Config
from pipeline.graph.stages import nodes_of
from pipeline.inputs.outside import Outside, look_outside


def fingerprints(config: Config, outside: Outside | None = None) -> dict[str, str]:
    """Node name -> hex digest of its stage's format version, its slice of the config, the outside texts that it reads
    and its inputs' fingerprints.

    Looks at the texts itself unless `outside` has them, and then raises why one is missing. In a given `outside` texts
    may be unknown; the fingerprints of what depends on them belong to no artifact.
    """
    if outside is None:
        outside = look_outside(config)
        outside.refuse_unknown()
    digests: dict[str, str] = {}
    for node in nodes_of(config):
        inputs = {name: digests[other.name] for name, other in node.reads.items()}
        seen = identity(node.stage.slice(node.config))
        texts = [outside.identity(node.stage.outside)] if node.stage.outside else []
        # Never change this text: every finished artifact would become stale. A golden test holds it.
        text = json.dumps([node.stage.name, node.stage.version, seen, inputs, *texts], sort_keys=True)
        digests[node.name] = hashlib.sha256(text.encode()).hexdigest()
    return digests


def identity(value: Any, *, with_addresses: bool = False) -> Any:
    """Plain JSON of a slice, without the fields that never change what is computed (see `config/section.py`).

    `with_addresses`: with those that say where a text was found, as the config writes them, for people to read.
    """
    if isinstance(value, BaseModel):
        values = {
            name: field.default if _mark(field) == "as default" else getattr(value, name)
            for name, field in type(value).model_fields.items()
        }
        shown = {
            name: without_secrets(str(values[name])) if _mark(field) == "address" else values[name]
            for name, field in type(value).model_fields.items()
            if _is_identity(field, values[name]) or (with_addresses and _is_written_address(field, values[name]))
        }
        return {name: identity(item, with_addresses=with_addresses) for name, item in shown.items()}
    if isinstance(value, Mapping):
        return {str(name): identity(item, with_addresses=with_addresses) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [identity(item, with_addresses=with_addresses) for item in value]
    return value


def _is_identity(field: Any, value: Any) -> bool:
    mark = _mark(field)
    return bool(value != field.default) if mark == "unless default" else mark in (True, "as default")


def _is_written_address(field: Any, value: Any) -> bool:
    return _mark(field) == "address" and bool(value != field.default)


def _mark(field: Any) -> Any:
    extra = field.json_schema_extra
    return extra.get("identity", True) if isinstance(extra, dict) else True
