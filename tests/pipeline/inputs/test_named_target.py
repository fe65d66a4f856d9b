from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.inputs import named_target
from pipeline.inputs.named_target import RELATIVE_PATH, can_be_fetched, local_copy


def test_a_copy_in_the_data_folder_comes_before_one_in_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLIO_DATA", str(tmp_path))
    assert local_copy() is None
    for folder, origin in ((cache / "folio", "cache"), (tmp_path, "FOLIO_DATA")):
        (folder / RELATIVE_PATH).parent.mkdir(parents=True)
        (folder / RELATIVE_PATH).touch()
        assert local_copy() == (folder / RELATIVE_PATH, origin)


def test_a_silent_server_is_asked_again_after_an_hour(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_target, "URL", f"{site.address}/input.txt")
    assert not can_be_fetched()
    site.files["/input.txt"] = b"text"
    assert not can_be_fetched()
    monkeypatch.setattr(named_target, "SILENT_SECONDS", 0)
    assert can_be_fetched()
