"""The kind of which every part of the config is, and how a field says what it means for fingerprints.

A field marked `not_fingerprinted` may differ without making an artifact stale: it changes how often things are saved
or shown, never what is computed. One marked `address` says where a text is; the text itself is fingerprinted, by what
it holds (`inputs/`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

CREDENTIAL = re.compile(r"(api_?key|access_?key|token|password|secret)$", re.IGNORECASE)


def not_fingerprinted(default: Any) -> Any:
    """A field that is left out of fingerprints: another value gives the same artifact."""
    return Field(default=default, json_schema_extra={"identity": False})


def counted_as_default(default: Any) -> Any:
    """A field that changes nothing of what is computed any more: fingerprinted as its default, whatever it is.

    Left out, it would make artifacts stale that were finished when it still counted.
    """
    return Field(default=default, json_schema_extra={"identity": "as default"})


def address(default: Any = None) -> Any:
    """A field that says where a text is found: manifests note it as it was written, fingerprints leave it out."""
    return Field(default=default, json_schema_extra={"identity": "address"})


def added_later(default: Any) -> Any:
    """A field added later: fingerprinted only when it differs from its default, so older artifacts stay valid."""
    return Field(default=default, json_schema_extra={"identity": "unless default"})


def refuse_repeated(name: str, values: Sequence[object]) -> None:
    """Raise ValueError if a value stands twice in the list `name`: the same training would be done twice."""
    repeated = [value for at, value in enumerate(values) if value in values[:at]]
    if repeated:
        raise ValueError(f"{name} has {repeated[0]} twice")


def refuse_credentials(block: Mapping[str, Any], name: str = "") -> None:
    """Raise ValueError for a key of a free block that is named like a credential: the block goes into artifacts."""
    for key, value in block.items():
        if CREDENTIAL.search(str(key)):
            raise ValueError(f"{name}{key} would be kept in artifacts; give it to its library in the environment")
        if isinstance(value, Mapping):
            refuse_credentials(value, f"{name}{key}.")


class Section(BaseModel):
    """A part of the config: frozen, and strict about keys, because a misspelt key would silently keep a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
