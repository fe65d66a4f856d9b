"""What the commands of experiments do with their arguments; the experiments have tests of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.experiments import _parsed, _with
from pipeline.config.schema import Config
from pipeline.errors import ConfigError, DataError

Invoke = Callable[..., Any]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("model.activation=swiglu", {"model.activation": "swiglu"}),
        ("model.layers=3", {"model.layers": 3}),
        (" scratch.seeds = [1, 2]", {"scratch.seeds": [1, 2]}),
        ("model.bias=", {"model.bias": None}),
        ("model.name=[", {"model.name": "["}),
    ],
)
def test_change_is_read_as_yaml_reads_its_value(change: str, expected: dict[str, Any]) -> None:
    assert _parsed(change) == expected


@pytest.mark.parametrize("change", ["swiglu", "activation=swiglu", "model.activation"])
def test_change_of_another_form_is_refused_with_an_example(change: str) -> None:
    with pytest.raises(
        ConfigError, match=r"is not of the form a\.b=value\. Example: --change model\.activation=swiglu"
    ):
        _parsed(change)


def test_changes_of_the_command_line_replace_those_of_the_config() -> None:
    config = Config.model_validate({"name": "run", "ablation": {"changes": {"own": {"model.layers": 2}}}})
    assert _with(None, config) == config
    assert _with(["model.layers=3"], config).ablation.changes == {"model.layers=3": {"model.layers": 3}}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--stage", "report"], "'report' is not a training stage of"),
        (["--low", "1", "--high", "0.1"], "--low 1 and --high 0.1 do not span a range. Give 0 < low < high."),
    ],
)
def test_lr_range_refuses_what_cannot_be_tried(invoke: Invoke, arguments: list[str], expected: str) -> None:
    result = invoke("lr-range", "configs/demo.yaml", *arguments)
    assert isinstance(result.exception, ConfigError)
    assert expected in str(result.exception)


def test_lr_range_says_which_stages_must_be_done_first(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLIO_STORE", str(tmp_path))
    result = invoke("lr-range", "configs/demo.yaml", "--stage", "scratch")
    assert isinstance(result.exception, DataError)
    assert "needs tokenizer, shards, which are not finished" in str(result.exception)
    assert list(tmp_path.iterdir()) == []
