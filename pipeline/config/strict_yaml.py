"""YAML as a config needs it: sections, lists, text, numbers and truth values, and nothing that surprises.

What YAML offers beyond that is refused: tags can make a reader build objects, aliases of a few lines expand to
gigabytes, a key that is a number or a list is none of ours, and a file that opens thousands of brackets exhausts the
reader's stack. A date stays the text that was written.
"""

from __future__ import annotations

import codecs
import re
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.quantities import shown
from pipeline.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32  # of sections and lists in each other; the tree itself needs five
UNWRITABLE = re.compile("[\0\ud800-\udfff]")  # no path may hold the first, and no UTF-8 the others
_TAG = "tag:yaml.org,2002:"
_TEXT_TAG = f"{_TAG}str"
_PLAIN_TAGS = {f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses what the module's docstring names."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise _refused("aliases (*name) are not allowed", self.peek_event())  # type: ignore[no-untyped-call]
        if self.depth > MAX_DEPTH:
            raise _refused(f"more than {MAX_DEPTH} levels are nested here", self.peek_event())  # type: ignore[no-untyped-call]
        self.depth += 1
        node: Any = super().compose_node(parent, index)
        self.depth -= 1
        # The mark of a merge key; a merge would put keys where nobody sees them.
        if node.tag not in _PLAIN_TAGS and node.tag != f"{_TAG}merge":
            raise _refused(f"the tag {node.tag.replace(_TAG, '!!')} is not allowed", node)
        if isinstance(node.value, str) and (match := UNWRITABLE.search(node.value)):
            raise _refused(f"the text holds the character {ord(match[0]):#06x}, which no file can", node)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != _TEXT_TAG:
                written = key.value if isinstance(key.value, str) else "a section or a list"
                raise _refused(f"{shown(written)} cannot be a key here; put a name that looks like it in quotes", key)
            if key.value in seen:
                raise _refused(f"key {shown(key.value)} appears twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_whole(self, node: Any) -> Any:
        try:
            return self.construct_yaml_int(node)
        except ValueError:  # more digits than Python turns into a number: whoever wanted a number refuses the text
            return node.value


def _refused(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


# YAML 1.1 reads 2e-3 as text, unlike YAML 1.2 and people. At most three digits of exponent, so that the beginning of a
# sha256 such as 12e4567 stays text.
_StrictLoader.add_implicit_resolver(
    f"{_TAG}float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d{1,3}$"), list("-+0123456789")
)
_StrictLoader.add_constructor(f"{_TAG}int", _StrictLoader.construct_whole)
# 2026-11-26 names a revision or a run.
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
    for first, resolvers in _StrictLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path) -> tuple[Any, Any]:
    """The content of a YAML file: as nodes, which know their lines, and as plain values.

    Raises ConfigError for what cannot be read, is no regular file or is not YAML, with the line.
    """
    text = _read(path)
    try:
        return yaml.compose(text, _StrictLoader), yaml.load(text, _StrictLoader)
    except yaml.YAMLError as error:
        raise _syntax_error(path, text, error) from None


def plain_value(text: str) -> Any:
    """What one value of a config means, such as "2e-3"; the text itself where it is not YAML."""
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.YAMLError:
        return text


def _read(path: Path) -> str:
    try:
        # Before it is opened: a pipe or a device would keep us waiting.
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise ConfigError(f"{path} is {kind}.", remedy=_neighbours(path))
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(
                f"{path} has {path.stat().st_size:,} bytes; a config has at most {MAX_BYTES:,}.",
                remedy="Give a config, not a data file.",
            )
        # As editors on Windows save it; without a byte-order mark it is UTF-8.
        marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if marked else "utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", remedy=_neighbours(path)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} cannot be read: byte {error.start:,} is not {error.encoding.upper()} text.",
            remedy="Save it as UTF-8.",
        ) from None


def _neighbours(path: Path) -> str:
    folder = path if path.is_dir() else path.parent
    configs = sorted(str(config) for config in folder.glob("[!.]*.yaml"))
    if configs:
        return f"Here are {', '.join(configs)}."
    return "Give the path of a YAML file, such as configs/demo.yaml."


def _syntax_error(path: Path, text: str, error: yaml.YAMLError) -> ConfigError:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return ConfigError(f"{path}:{line}: it holds the character {error.character:#06x}.", remedy="Remove it.")
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    problem = getattr(error, "problem", None) or str(error)
    if "another document" in problem:
        return ConfigError(f"{where}: a second document begins here.", remedy="Give each run a file of its own.")
    remedy = "Indent with spaces." if "\\t" in problem else "Correct that line."
    return ConfigError(f"{where}: {problem}.", remedy=remedy)
