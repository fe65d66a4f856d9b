"""The house keeps its order: one meaning for each name, a test for each module, and a model that needs torch alone."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

PACKAGES = ("gpt", "pipeline", "cli")
MODULES = sorted(path for package in PACKAGES for path in Path(package).rglob("*.py") if path.name != "__init__.py")
ROOMS = sorted(path.parent for path in Path("pipeline").rglob("__init__.py"))
# `stage` and `page` mean the same in every room that has one; `__main__` is Python's word.
MAY_REPEAT = {"stage", "page", "__main__"}
# The file to read beside the lecture's video has the lecture's own names.
OWN_WORDS = Path("gpt/lecture.py")
MAX_FUNCTION_LINES, MAX_FILE_LINES = 45, 300

# Modules without a test file of their name at the mirrored place -> the test that covers them.
COVERED_BY = {
    "cli/program.py": "tests/cli/test_main.py",  # what every command promises
    "cli/models.py": "tests/faults/test_whole_run.py",  # samples from and exports a finished run
    "pipeline/distributed/external_launcher.py": "tests/faults/test_external_ranks.py",  # real processes
    "pipeline/graph/work.py": "tests/pipeline/graph/test_stage_counts.py",  # and test_manifest.py for damaged files
    "pipeline/report/curve_records.py": "tests/pipeline/report/test_report_json.py",
    "pipeline/report/section_records.py": "tests/pipeline/report/test_report_json.py",
    "pipeline/training/deepspeed_partitions.py": "tests/distributed/test_equal_training.py",  # needs ranks
    "pipeline/training/deepspeed_start.py": "tests/distributed/test_equal_training.py",  # needs ranks
    "pipeline/training/engine.py": "tests/distributed/test_equal_training.py",  # needs ranks
    "pipeline/training/fit.py": "tests/distributed/test_stages_of_training.py",  # needs ranks
    "pipeline/training/documents_of_step.py": "tests/distributed/test_documents_of_step.py",  # needs shards and a job
}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def repeated(places: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: modules for name, modules in places.items() if len(modules) > 1}


def mirrored(module: Path) -> Path:
    return Path("tests") / module.parent / f"test_{module.stem}.py"


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 100
    assert len(ROOMS) > 13


def test_no_class_name_stands_in_two_modules() -> None:
    places = defaultdict(list)
    for module in MODULES:
        names = {node.name for node in ast.walk(parsed(module)) if isinstance(node, ast.ClassDef)}
        for name in names if module != OWN_WORDS else ():
            places[name].append(str(module))
    assert repeated(places) == {}


def test_no_module_name_stands_twice() -> None:
    places = defaultdict(list)
    for module in MODULES:
        places[module.stem].append(str(module))
    assert repeated({name: modules for name, modules in places.items() if name not in MAY_REPEAT}) == {}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_its_test(module: Path) -> None:
    if str(module) in COVERED_BY:
        assert not mirrored(module).exists(), f"{module} has its own test: take it off the list"
        assert Path(COVERED_BY[str(module)]).is_file(), f"{COVERED_BY[str(module)]} is not there"
    else:
        assert mirrored(module).is_file(), f"write {mirrored(module)}, or say in COVERED_BY what covers {module}"


def test_the_list_names_modules_that_exist() -> None:
    assert set(COVERED_BY) <= set(map(str, MODULES))


@pytest.mark.parametrize("room", ROOMS, ids=str)
def test_every_room_says_what_is_in_it(room: Path) -> None:
    tree = parsed(room / "__init__.py")
    docstring = " ".join((ast.get_docstring(tree) or "").split())
    assert len(docstring.split()) >= 40
    assert "import" in docstring, "what may be imported here"
    assert re.search(r"\b[Ss]tart", docstring), "where to start reading"
    assert len(tree.body) == 1, "a room's __init__.py holds its docstring and no code"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_files_and_functions_fit_the_eye(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    functions = [node for node in ast.walk(parsed(module)) if isinstance(node, ast.FunctionDef)]
    too_long = [node.name for node in functions if lines_of(node) > MAX_FUNCTION_LINES]
    assert too_long == []


def lines_of(node: ast.FunctionDef) -> int:
    assert node.end_lineno is not None, "a parsed function has an end"
    return node.end_lineno - node.lineno + 1


# From the command to the optimizer's update, in order. Engine.step and Muon.step keep PyTorch's name.
LINKS = (
    "_finish_stages",
    "_run_if_possible",
    "run_nodes",
    "finish_node",
    "_do_stage",
    "train_stage",
    "launch_job",
    "run_local_ranks",
    "run_on_hosts",
    "run_job_on_rank",
    "train_on_rank",
    "pretrain_on_corpus",
    "finish_whole",
    "train_arm",
    "finish_trials",
    "run_trials",
    "train_trial",
    "train_to_end",
    "train",
    "take_step",
)


@pytest.mark.parametrize("link", LINKS)
def test_each_link_from_the_command_to_the_optimizer_has_a_name_of_its_own(link: str) -> None:
    places = [
        f"{module}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.FunctionDef) and node.name == link
    ]
    assert len(places) == 1, places


def imported(trees: Iterable[ast.Module]) -> set[str]:
    """Top-level names of everything that is imported, also inside functions."""
    names = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, "imports are absolute"
                names.add(str(node.module).partition(".")[0])
    return names


def test_gpt_imports_torch_and_the_standard_library_only() -> None:
    """Whatever else is installed: import-linter could only forbid what somebody thought of listing."""
    trees = [parsed(path) for path in Path("gpt").rglob("*.py")]
    assert len(trees) > 5
    assert imported(trees) - set(sys.stdlib_module_names) == {"gpt", "torch"}


def test_help_loads_nothing_heavy() -> None:
    """Modules of `cli` import pipeline's light rooms at the top, and everything else inside the commands."""
    heavy = {"torch", "datasets", "deepspeed", "numpy", "pyarrow", "matplotlib", "scipy", "transformers"}
    at_the_top = {
        name
        for path in Path("cli").rglob("*.py")
        for name in imported([ast.Module([node for node in parsed(path).body if is_import(node)], [])])
    }
    assert "typer" in at_the_top
    assert at_the_top & heavy == set()


def is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)
