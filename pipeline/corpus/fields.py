"""Which value of a record is its text: a key, or a path such as `data.text`; and which keys there are instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MISSING = object()
MAX_KEYS, MAX_DEPTH, MAX_KEY_CHARACTERS = 30, 4, 80


def value_at(record: Mapping[str, Any], field: str) -> Any:
    """The value under a key or a dotted path, else MISSING. A key that holds the dots itself comes before the path."""
    if field in record:
        return record[field]
    end = field.rfind(".")
    while end > 0:
        inner = record.get(field[:end])
        if isinstance(inner, Mapping):
            value = value_at(inner, field[end + 1 :])
            if value is not MISSING:
                return value
        end = field.rfind(".", 0, end)
    return MISSING


def outer_keys(field: str) -> set[str]:
    """Every key of a record under which the value may be found: the field itself, and where a path may begin."""
    parts = field.split(".")
    return {".".join(parts[: end + 1]) for end in range(len(parts))}


def text_keys(record: Mapping[str, Any], prefix: str = "", depth: int = 1) -> tuple[tuple[str, int], ...]:
    """Each key of a record, dotted where it is nested, with the characters of its text; 0 for what is not text."""
    keys: list[tuple[str, int]] = []
    for key, value in list(record.items())[:MAX_KEYS]:
        name = f"{prefix}{key}"[:MAX_KEY_CHARACTERS].encode("utf-8", "backslashreplace").decode()
        if isinstance(value, Mapping) and value and depth < MAX_DEPTH:
            keys.extend(text_keys(value, f"{name}.", depth + 1))
        else:
            keys.append((name, len(value) if isinstance(value, str) else 0))
    return tuple(keys[:MAX_KEYS])


def closest_key(field: str, keys: Mapping[str, int]) -> str | None:
    """The key that is likely meant: one that ends in the same name, else the one with the most text, if any has."""
    name = field.rpartition(".")[2]
    alike = [key for key in keys if key.rpartition(".")[2].casefold() == name.casefold()]
    return max(alike or [key for key in keys if keys[key]], key=lambda key: keys[key], default=None)
