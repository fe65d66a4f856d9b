"""Messages are short by nature; scraps among long texts are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.config.schema import Config
from pipeline.inputs.outside import look_outside
from pipeline.sizing.short_documents import fewest_characters


def fewest_of(folder: Path, lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> int | None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    lines = [json.dumps({"text": "x" * length}) for length in lengths]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    (folder / "my.txt").write_text("y" * 5000)
    values = {"name": "x", "target": {"path": "my.txt"}, "corpus": {"sources": [{"path": "texts.jsonl"}]}}
    config = Config.model_validate(values).based_in(folder)
    return fewest_characters(config, look_outside(config))


def test_messages_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fewest_of(tmp_path, [90] * 50 + [400] * 50, monkeypatch) == 20


def test_scraps_among_long_texts_are_dropped_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fewest_of(tmp_path, [90] * 5 + [4000] * 95, monkeypatch) is None


def test_a_file_without_documents_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fewest_of(tmp_path, [0, 0], monkeypatch) is None
