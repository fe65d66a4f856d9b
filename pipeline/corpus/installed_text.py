"""Text that every installation has, for a demonstration without any data; its results are not worth quoting."""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from pydoc_data import topics

from pipeline.corpus.records import Record
from pipeline.execution.worker_pool import WorkerPool

MIN_CHARACTERS = 200
MAX_CHARACTERS = 6_000_000  # seconds of parsing; a whole environment would take minutes
MIN_DOCSTRING_SHARE = 0.4  # of a file's bytes; below that, parsing costs more time than the docstrings are worth
# A cheap estimate before the file is parsed: any long triple-quoted string counts, docstring or not.
LONG_STRING = re.compile(rb'"""(.{%d,}?)"""' % MIN_CHARACTERS, re.DOTALL)
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
INSTALL_PATHS = ("stdlib", "purelib", "platlib")


def language_reference() -> str:
    """Python's language reference as `help()` shows it, about 465 kB."""
    return "\n\n".join(text.strip() for _, text in sorted(topics.topics.items())) + "\n"


def docstrings(pool: WorkerPool) -> Iterator[Record]:
    """Docstrings of the standard library and the installed packages, about MAX_CHARACTERS of them.

    Files come in the order of a hash of their names: a mixture of packages, the same one each time on one installation.
    """
    characters = 0
    for records in pool.in_order(_docstrings_of, _source_files()):
        yield from records
        characters += sum(len(record.payload) for record in records)
        if characters >= MAX_CHARACTERS:
            return


def _source_files() -> list[tuple[Path, str]]:
    """Path and name of every Python file; the language reference is left out, because it may be the target."""
    roots = sorted({Path(sysconfig.get_path(name)) for name in INSTALL_PATHS})
    named = {path: str(path.relative_to(root)) for root in roots for path in root.rglob("*.py")}
    files = [(path, name) for path, name in named.items() if "pydoc_data" not in path.parts]
    return sorted(files, key=lambda file: (hashlib.blake2b(file[1].encode()).digest(), file))


def _docstrings_of(file: tuple[Path, str]) -> list[Record]:
    path, name = file
    source = path.read_bytes()
    if sum(map(len, LONG_STRING.findall(source))) < MIN_DOCSTRING_SHARE * len(source):
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SyntaxWarnings about invalid escapes in others' code
            tree = ast.parse(source)
    # Test suites install files that are broken on purpose: wrong syntax, null bytes, endless nesting.
    except (SyntaxError, ValueError, RecursionError):
        return []
    texts = [(getattr(node, "lineno", 1), ast.get_docstring(node) or "") for node in _documented(tree)]
    return [Record(name, line, "text", text, f"{name}:{line}") for line, text in texts if len(text) >= MIN_CHARACTERS]


def _documented(node: Documented) -> Iterator[Documented]:
    """The node, its classes and their functions. Function bodies, which are most of a tree, are not searched."""
    yield node
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _documented(child)
