"""Refusals of `folio data show`; `tests/distributed/test_documents_of_step.py` holds what it shows against training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError, DataError


def test_run_without_a_corpus_has_no_step_to_show(invoke: Callable[..., Any], tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("target: {name: tiny-shakespeare}")
    result = invoke("data", "show", config, "--step", 0)
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == f"{config} has no corpus, so nothing is pretrained here. Give corpus.sources."


def test_pretraining_that_has_not_begun_is_refused(
    invoke: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLIO_STORE", str(tmp_path))
    result = invoke("data", "show", "configs/demo.yaml", "--step", 0)
    assert isinstance(result.exception, DataError)
    assert "pretraining has not begun" in str(result.exception)
