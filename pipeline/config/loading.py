"""Reads a run's YAML: strictly, safely, and with errors that name the file, the line and the remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config.schema import Config
from pipeline.config.section import Section
from pipeline.errors import ConfigError

MAX_BYTES = 1_000_000
Location = tuple[str | int, ...]
Kind = TypeVar("Kind", bound=Section)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys, and aliases: a few lines of them can expand to gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} appears twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 2e-3 as text, unlike YAML 1.2 and people. At most three digits of exponent, so that the beginning of a
# sha256 such as 12e4567 stays text.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d{1,3}$"), list("-+0123456789")
)


def load_config(path: Path, settings: Sequence[str] = ()) -> Config:
    """The checked config of a YAML file with `settings` ("pretrain.tokens=1M") laid over it.

    Raises ConfigError naming file, line and key for anything that is not understood.
    """
    return load_section(path, Config, settings)


def load_section(path: Path, kind: type[Kind], settings: Sequence[str] = ()) -> Kind:
    """As `load_config`, for a file that holds another kind of named section; its name defaults to the file's."""
    text = _read(path)
    try:
        node = yaml.compose(text, _StrictLoader)
        values = yaml.load(text, _StrictLoader)
    except yaml.YAMLError as error:
        raise _syntax_error(path, error) from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no keys.", remedy="Start from configs/demo.yaml.")
    for setting in settings:
        _lay_over(values, setting)
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
    try:
        # The loader of the files, so that 2e-3 is a number here too.
        return ".".join(parts), yaml.load(text, _StrictLoader)
    except yaml.YAMLError:
        return ".".join(parts), text


def with_changes(config: Config, changes: Mapping[str, Any], where: str) -> Config:
    """The config with `changes` laid over it, dotted key -> value.

    Raises ConfigError naming `where` if a key or a value is not understood.
    """
    values = config.model_dump()
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = values
        for part in sections:
            section = section.setdefault(part, {})
        section[name] = value
    return _checked(Config, values, where)


def _checked(kind: type[Kind], values: dict[str, Any], where: str, node: Any = None) -> Kind:
    """A section from plain values. Raises ConfigError with the first three mistakes and, from `node`, their lines."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        mistakes = [_describe(mistake, where, node, kind) for mistake in error.errors()[:3]]
        raise ConfigError(
            " ".join(mistakes), remedy="pipeline/config/schema.py lists every key with its default."
        ) from None


def _read(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError(
                f"{path} has {size:,} bytes; a config has at most {MAX_BYTES:,}.",
                remedy="Give a config, not a data file.",
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        neighbours = sorted(str(config) for config in path.parent.glob("[!.]*.yaml"))
        remedy = (
            f"Here are {', '.join(neighbours)}."
            if neighbours
            else "Give the path of a YAML file, such as configs/demo.yaml."
        )
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path} cannot be read: {reason}.", remedy=remedy) from None


def _syntax_error(path: Path, error: yaml.YAMLError) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    problem = getattr(error, "problem", None) or str(error)
    remedy = "Indent with spaces." if "\\t" in problem else "Correct that line."
    return ConfigError(f"{where}: {problem}.", remedy=remedy)


def _lay_over(values: dict[str, Any], setting: str) -> None:
    """Set one dotted key in `values`. There is no syntax for the items of a list: a list is set as a whole."""
    key, value = parsed_setting(setting)
    path = key.split(".")
    section = values
    for name in path[:-1]:
        section = section.setdefault(name, {})
        if not isinstance(section, dict):
            raise ConfigError(f"--set {setting!r}: {name} is not a section.", remedy="Name a key below a section.")
    section[path[-1]] = value


def _describe(mistake: Any, where: str, node: Any, kind: type[Section]) -> str:
    location = tuple(mistake["loc"])
    line = _line_of(node, location)
    place = f"{where}:{line}" if line else where
    name = ".".join(str(part) for part in location if not _is_branch(part)) or "the config"
    if mistake["type"] == "extra_forbidden":
        known = _known_keys(kind, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}."
        return f"{place}: unknown key {name}{hint}"
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
