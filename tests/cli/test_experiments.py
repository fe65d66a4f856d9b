"""What the commands of experiments do with their arguments; the experiments have tests of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError, DataError

Invoke = Callable[..., Any]


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
