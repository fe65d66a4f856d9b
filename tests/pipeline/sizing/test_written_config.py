"""The chosen config as a file that people read and `folio run` runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.loading import load_config
from pipeline.config.schema import Config
from pipeline.sizing.model_sizes import CandidateModel
from pipeline.sizing.recipe import Wish
from pipeline.sizing.written_config import flow, yaml_text
from tests.pipeline.sizing.conftest import chosen

Forecast = Callable[[Config, CandidateModel], float]


@pytest.mark.parametrize(
    "path", ["my.txt", "a b: #c.txt", "ä'\"[1]\\.txt", "yes", "1.5", "line\nbreak.txt", "- x", "null"]
)
def test_the_file_is_the_config_that_was_chosen(
    path: str, tmp_path: Path, wish: Callable[..., Wish], seconds_of: Forecast
) -> None:
    asked = wish(target={"path": path}, sources=({"path": path + "*", "license": "CC BY: 4.0"},))
    choice = chosen(asked, seconds_of)
    file = tmp_path / "mine.yaml"
    file.write_text(yaml_text(choice, asked, "folio init my.txt", ("{hub: a/b}",)), encoding="utf-8")
    assert load_config(file) == choice.config.based_in(tmp_path)


def test_every_choice_has_its_reason_beside_it(wish: Callable[..., Wish], seconds_of: Forecast) -> None:
    asked = wish(minutes=3, corpus_bytes=1e9)
    text = yaml_text(chosen(asked, seconds_of), asked, "folio init my.txt --minutes 3", (flow({"hub": "a/b"}),))
    assert "#   folio init my.txt --minutes 3\n" in text
    assert '    # - {hub: "a/b"}\n' in text
    for words in ("parameters", "tokens per parameter", "the control", "what pretraining has time to see"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 120
