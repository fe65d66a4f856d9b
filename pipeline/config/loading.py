"""Reads a run's YAML: strictly, safely, and with errors that name the file, the line and the remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config.quantities import shown
from pipeline.config.schema import Config
from pipeline.config.section import Section
from pipeline.config.strict_yaml import MAX_DEPTH, UNWRITABLE, plain_value, read_yaml
from pipeline.errors import ConfigError

Location = tuple[str | int, ...]
Kind = TypeVar("Kind", bound=Section)
KEYS = "pipeline/config/schema.py lists every key with its default."
SHOWN_CHARACTERS = 100  # of a key in a message
# What pydantic says about a value of the wrong kind, in plain words.
KINDS = {
    "string_type": "is not text; put it in quotes",
    "tuple_type": "is not a list",
    "dict_type": "is not a section of keys",
    "model_type": "is not a section of keys",
    "bool_type": "is neither true nor false",
    "bool_parsing": "is neither true nor false",
}


def load_config(path: Path, settings: Sequence[str] = ()) -> Config:
    """The checked config of a YAML file with `settings` ("pretrain.tokens=1M") laid over it.

    Relative paths of data start at the file's folder, also those that a setting gives.

    Raises ConfigError naming file, line and key for anything that is not understood.
    """
    return load_section(path, Config, settings).based_in(path.parent.absolute())


def load_section(path: Path, kind: type[Kind], settings: Sequence[str] = ()) -> Kind:
    """As `load_config`, for a file that holds another kind of named section; its name defaults to the file's."""
    node, values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no keys.", remedy="Start from configs/demo.yaml.")
    for setting in settings:
        key, value = parsed_setting(setting)
        _lay_over(values, key, value, f"--set {setting!r}")
    values.setdefault("name", path.stem)
    return _checked(kind, values, str(path), node)


def parsed_setting(
    setting: str, *, option: str = "--set", example: str = "pretrain.tokens=1M", min_parts: int = 1
) -> tuple[str, Any]:
    """The dotted key and the value of "a.b=value". The value is read as YAML, and is text where it is not YAML.

    Raises ConfigError naming `option` if it has another form, or a key of fewer than `min_parts` parts.
    """
    key, separator, text = setting.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts) or len(parts) < min_parts:
        raise ConfigError(f"{option} {setting!r} is not of the form a.b=value.", remedy=f"Example: {option} {example}")
    if UNWRITABLE.search(setting):
        raise ConfigError(f"{option} {setting!r} is not UTF-8 text.", remedy=f"Example: {option} {example}")
    # By the rules of the files, so that 2e-3 is a number here too.
    return ".".join(parts), plain_value(text)


def with_changes(config: Config, changes: Mapping[str, Any], where: str) -> Config:
    """The config with `changes` laid over it, dotted key -> value.

    Raises ConfigError naming `where` if a key or a value is not understood.
    """
    values = config.model_dump()
    for key, value in changes.items():
        _lay_over(values, key, value, where)
    return _checked(Config, values, where).based_in(config.folder)


def _checked(kind: type[Kind], values: dict[str, Any], where: str, node: Any = None) -> Kind:
    """A section from plain values. Raises ConfigError with the first three mistakes and, from `node`, their lines."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        mistakes = [_describe(mistake, where, node, kind) for mistake in error.errors()[:3]]
        raise ConfigError(" ".join(mistakes), remedy=KEYS) from None


def _lay_over(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set one dotted key in `values`. There is no syntax for the items of a list: a list is set as a whole."""
    *sections, last = key.split(".")
    if len(sections) >= MAX_DEPTH:
        raise ConfigError(f"{where}: the key {shown(key)} has {len(sections) + 1:,} parts.", remedy=KEYS)
    section = values
    for name in sections:
        section = section.setdefault(name, {})
        if not isinstance(section, dict):
            raise ConfigError(f"{where}: {name} is not a section, so {shown(key)} is no key.", remedy=KEYS)
    section[last] = value


def _describe(mistake: Any, where: str, node: Any, kind: type[Section]) -> str:
    location = tuple(mistake["loc"])
    line = _line_of(node, location)
    place = f"{where}:{line}" if line else where
    name = ".".join(str(part) for part in location if not _is_branch(part))[:SHOWN_CHARACTERS] or "the config"
    if mistake["type"] == "extra_forbidden":
        known = _known_keys(kind, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}."
        return f"{place}: unknown key {name}{hint}"
    if mistake["type"] in KINDS:
        return f"{place}: {name}: {shown(mistake['input'])} {KINDS[mistake['type']]}."
    return f"{place}: {name}: {mistake['msg'].removeprefix('Value error, ').rstrip('.')}."


def _is_branch(part: str | int) -> bool:
    """Whether pydantic made this part of a location up: the branch of a union that it tried, which nobody writes."""
    return isinstance(part, str) and re.fullmatch(r"[A-Z]\w*|literal\[.*\]|function-.*", part) is not None


def _line_of(node: Any, location: Location) -> int | None:
    line = None
    for part in location:
        child = _child(node, part)
        if child is None:
            break  # a default, or a key that is missing: the line of its section is the closest
        node, line = child
    return line


def _child(node: Any, part: str | int) -> tuple[Any, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None


def _known_keys(kind: type[Section], location: Location) -> list[str]:
    model: Any = kind
    for part in location:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field is not None:
            model = next(iter(_sections_in(field.annotation)), model)
    return list(model.model_fields)


def _sections_in(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _sections_in(inner)
