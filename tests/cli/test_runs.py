"""How `run` and the commands of the stages choose what to do, and on which ranks. Nothing is trained here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.runs import SUMMARIES
from pipeline.config.schema import LaunchSection
from pipeline.distributed import external_launcher
from pipeline.errors import ConfigError, DataError
from pipeline.graph import runner
from pipeline.graph.stage_counts import ShardsCounts, TextTotals
from pipeline.graph.stages import NAMES

Invoke = Callable[..., Any]


ENOUGH = TextTotals(documents=1, tokens=10**7, bytes=3 * 10**7)
TEXTS = ("target_train", "target_selection", "target_validation", "corpus_train", "corpus_validation")
SHARDS = ShardsCounts(**dict.fromkeys(TEXTS, ENOUGH), sources={"a": ENOUGH}, val_ngrams_left_in_shards=0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str, Any]]:
    """(first stage, last stage, ranks) of every call of the runner, which finishes everything at once."""
    made: list[tuple[str, str, Any]] = []

    def run_nodes(config: Any, store: Any, selection: Any, ranks: Any = None, outside: Any = None) -> dict[str, Any]:
        made.append((selection.first, selection.last, ranks))
        return {name: SimpleNamespace(folder=tmp_path / f"{name}-1", counts_as=lambda kind: SHARDS) for name in NAMES}

    monkeypatch.setattr(runner, "run_nodes", run_nodes)
    monkeypatch.setenv("FOLIO_STORE", str(tmp_path))
    return made


@pytest.mark.parametrize(
    ("arguments", "first", "last"),
    [
        ([], "target", "report"),
        (["--until", "shards"], "target", "shards"),
        (["--from", "scratch"], "scratch", "report"),
        (["--from", "corpus", "--until", "shards"], "corpus", "shards"),
        (["--only", "tokenizer"], "tokenizer", "tokenizer"),
    ],
)
def test_options_of_run_select_the_stages(
    invoke: Invoke, calls: list[Any], arguments: list[str], first: str, last: str
) -> None:
    assert invoke("run", "configs/demo.yaml", *arguments).exception is None
    assert calls[-1] == (first, last, None)


def test_command_of_a_stage_does_that_stage_alone_and_names_its_folder(
    invoke: Invoke, calls: list[Any], tmp_path: Path
) -> None:
    assert invoke("shards", "configs/demo.yaml").stdout == f"{tmp_path / 'shards-1'}\n"
    assert calls == [("shards", "shards", None)]


def test_run_names_the_page_of_its_report_last(invoke: Invoke, calls: list[Any], tmp_path: Path) -> None:
    assert invoke("run", "configs/demo.yaml").stdout == f"{tmp_path / 'report-1' / 'report.html'}\n"


def test_ranks_that_somebody_else_started_reach_the_runner(
    invoke: Invoke, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[LaunchSection] = []

    @contextmanager
    def external_ranks(launch: LaunchSection) -> Iterator[str]:
        entered.append(launch)
        yield "their ranks"

    monkeypatch.setattr(external_launcher, "external_ranks", external_ranks)
    world = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "4000"}.items():
        monkeypatch.setenv(name, value)
    assert invoke("shards", "configs/demo.yaml", "--set", "launch.port=4000").exception is None
    assert calls == [("shards", "shards", "their ranks")]
    assert [launch.port for launch in entered] == [4000]


def test_impossible_training_is_refused_before_the_first_stage(invoke: Invoke, calls: list[Any]) -> None:
    result = invoke("run", "configs/demo.yaml", "--set", "scratch.batch_tokens=1000", "--ranks", "1")
    assert isinstance(result.exception, ConfigError)
    assert "scratch.batch_tokens" in str(result.exception)
    assert calls == []


def test_a_text_that_is_too_short_is_refused_when_it_is_counted_and_before_anything_trains(
    invoke: Invoke, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ENOUGH.model_copy(update={"tokens": 1000})
    monkeypatch.setitem(globals(), "SHARDS", SHARDS.model_copy(update={"target_train": short}))
    result = invoke("run", "configs/demo.yaml", "--ranks", "1")
    assert isinstance(result.exception, ConfigError)
    assert "scratch.batch_tokens 2,048 asks for 16 samples a batch" in str(result.exception)
    assert calls == [("target", "shards", None)]


def test_a_plan_for_another_machine_has_its_ranks_and_names_it(invoke: Invoke, tmp_path: Path) -> None:
    arguments = ("plan", "configs/gpt2-124m.yaml", "--on")
    text = invoke(*arguments, "h100x4").stdout
    assert "4 ranks on h100x4: at 40% of its published peak" in text.splitlines()[0]
    assert "It fits on h100x4." in text and "emulated" not in text
    two = json.loads(invoke(*arguments, "h200x4", "--ranks", "2", "--json").stdout)
    assert (two["ranks"], two["machine"]) == (2, "h200x4")
    assert [stage["tokens_per_parameter"] > 0 for stage in two["stages"] if stage["stage"] == "pretrain"] == [True]
    refused = invoke(*arguments, "gpu").exception
    assert isinstance(refused, ConfigError) and "Known are a100xN, h100xN" in str(refused)


def test_stages_that_do_not_train_ask_nothing_of_the_training_sections(invoke: Invoke, calls: list[Any]) -> None:
    result = invoke("run", "configs/demo.yaml", "--set", "scratch.batch_tokens=1000", "--until", "shards")
    assert result.exception is None
    assert len(calls) == 1


@pytest.mark.parametrize("option", ["--from", "--until", "--only"])
def test_unknown_stage_is_refused_with_the_names_of_all(invoke: Invoke, calls: list[Any], option: str) -> None:
    result = invoke("run", "configs/demo.yaml", option, "reprot")
    assert str(result.exception) == f"'reprot' is not a stage. Stages are {', '.join(NAMES)}."
    assert calls == []


def test_verify_of_an_unfinished_run_says_so(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLIO_STORE", str(tmp_path))
    result = invoke("verify", "configs/demo.yaml")
    assert isinstance(result.exception, DataError)
    assert "No stage of configs/demo.yaml is finished." in str(result.exception)


def test_every_stage_has_its_summary() -> None:
    assert tuple(SUMMARIES) == NAMES
