"""Texts that change while a stage reads them, through the runner: refused, and running again works."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import Config
from pipeline.corpus import stage, target_stage
from pipeline.errors import DataError
from pipeline.graph.runner import Selection, run_nodes
from pipeline.graph.stage_counts import CorpusCounts
from pipeline.graph.store import Store

CORPUS = Selection(last="corpus")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "texts").mkdir()
    for name in ("my.txt", *(f"texts/{number}.txt" for number in range(4))):
        (tmp_path / name).write_text(f"The text of {name}, " + "with many words that are not those of others. " * 200)
    sources = [{"path": "texts/*.txt"}]
    corpus = {"sources": sources, "validation": 0.5, "decontaminate": False}
    values = {"name": "x", "target": {"path": "my.txt"}, "corpus": corpus, "launch": {"workers": 1}}
    return Config.model_validate(values).based_in(tmp_path)


def after_reading(monkeypatch: pytest.MonkeyPatch, change: Callable[[], Any]) -> None:
    """Have `change` happen once, when the first source has been read."""
    real, changes = stage.record_groups, [change]

    def groups(records: Iterable[Any]) -> Iterable[Any]:
        yield from real(records)
        if changes:
            changes.pop()()

    monkeypatch.setattr(stage, "record_groups", groups)


@pytest.mark.parametrize("text", ["shorter", None])
def test_a_source_that_changes_while_it_is_read_is_refused_and_running_again_works(
    text: str | None, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "texts" / "2.txt"
    new = text or file.read_text().replace("many", "MANY")  # as long as before
    after_reading(monkeypatch, lambda: file.write_text(new))
    store = Store(tmp_path / "store")
    with pytest.raises(DataError, match=r"texts/2\.txt changed while it was read\. Run again"):
        run_nodes(config, store, CORPUS)
    counts = run_nodes(config, store, CORPUS)["corpus"].counts_as(CorpusCounts)
    assert counts.documents_in == 4


def test_a_source_that_is_touched_while_it_is_read_is_the_same_text(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_reading(monkeypatch, (tmp_path / "texts" / "2.txt").touch)
    assert "corpus" in run_nodes(config, Store(tmp_path / "store"), CORPUS)


def test_a_source_that_went_back_to_what_it_was_is_read_again(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refused start has the fingerprint of the old text, and must leave nothing of the new one behind."""
    file, store = tmp_path / "texts" / "2.txt", Store(tmp_path / "store")
    old = file.read_text()
    after_reading(monkeypatch, lambda: file.write_text("another text " * 100))
    with pytest.raises(DataError):
        run_nodes(config, store, CORPUS)
    file.write_text(old)
    corpus = run_nodes(config, store, CORPUS)["corpus"]
    whole = run_nodes(config, Store(tmp_path / "other"), CORPUS)["corpus"]
    parts = [entry for entry in corpus.manifest.files if entry.path.endswith(".zst")]
    assert parts == [entry for entry in whole.manifest.files if entry.path.endswith(".zst")] != []


def test_a_target_that_changes_before_it_is_read_is_refused_and_running_again_works(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, changes = target_stage.make_target, ["another target " * 500]

    def changed_first(work: Any) -> Any:
        if changes:
            (tmp_path / "my.txt").write_text(changes.pop())
        return real(work)

    monkeypatch.setattr(target_stage, "make_target", changed_first)
    store = Store(tmp_path / "store")
    with pytest.raises(DataError, match=r"my\.txt changed while it was read"):
        run_nodes(config, store, Selection(last="target"))
    train = run_nodes(config, store, Selection(last="target"))["target"].folder / "refit.txt"
    assert train.read_text().startswith("another target")
