"""One module spells out the file names of trained models; every other one imports them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.saved_models import model_files

ROOT = Path(__file__).parents[3]
HOME = ROOT / "pipeline/saved_models/model_files.py"
FILES = {"model.safetensors", "model.json", "best.safetensors", "last.safetensors", "trial.json", "metrics.jsonl"}
FOLDERS = {"trials", "branches", "checkpoints"}
# The layout of `transformers` has a model.safetensors, too: those are that layout's names.
EXCEPTIONS = {("pipeline/huggingface/import_gpt2.py", "model.safetensors")}


def modules() -> list[Path]:
    paths = [path for package in ("pipeline", "cli") for path in (ROOT / package).rglob("*.py") if path != HOME]
    assert len(paths) > 100
    return sorted(paths)


def texts(tree: ast.Module) -> Iterator[str]:
    """Every string of a module that is not a docstring, pieces of f-strings included."""
    prose = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def spelled(text: str) -> set[str]:
    """The file names in a string: as its whole, or as a part of a path."""
    parts = text.split("/")
    folders = FOLDERS if len(parts) > 1 and " " not in text else set()  # "trials" alone is a word
    return {part for part in parts if part in FILES | folders}


def test_names_here_are_those_of_the_home() -> None:
    values = {value for name, value in vars(model_files).items() if name.isupper()}
    assert values == FILES | FOLDERS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trial.json", {"trial.json"}),
        ("trials/*/trial.json", {"trials", "trial.json"}),
        ("trials", set()),
        ("a trial.json of an arm", set()),
    ],
)
def test_a_name_is_seen_alone_and_in_paths(text: str, expected: set[str]) -> None:
    assert spelled(text) == expected


def test_no_other_module_spells_them_out() -> None:
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in modules()
        for text in texts(ast.parse(path.read_text(encoding="utf-8")))
        for name in spelled(text)
    }
    assert found - EXCEPTIONS == set()
