"""What the arguments of `folio init` mean, and how much text they name."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import pytest

from pipeline.config.text_sections import SourceSection, TargetSection
from pipeline.errors import ConfigError
from pipeline.sizing.named_texts import proposed_sources, sources_named, target_named, texts_of


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a text, and texts of two kinds in another folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "my.txt").write_text("x" * 4000)
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    (tmp_path / "texts" / "a.txt").write_text("y" * 1000)
    (tmp_path / "texts" / "deep" / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "z"}\n'))
    (tmp_path / "texts" / "cover.png").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("argument", "section"),
    [
        ("tiny-shakespeare", {"name": "tiny-shakespeare"}),
        ("my.txt", {"path": "my.txt"}),
        ("./texts/a.txt", {"path": "texts/a.txt"}),
        ("~/my.txt", {"path": "~/my.txt"}),
        ("somebody/set", {"hub": "somebody/set"}),
        ("somebody/set:part", {"hub": "somebody/set", "subset": "part"}),
    ],
)
def test_a_target_is_a_file_a_hub_dataset_or_a_name(argument: str, section: dict[str, str], here: Path) -> None:
    assert target_named(argument, here) == section
    assert TargetSection(**section)


def test_a_path_is_written_as_the_config_in_another_folder_must_read_it(here: Path) -> None:
    assert target_named("my.txt", here / "texts") == {"path": "../my.txt"}
    assert target_named("my.txt", here / "texts" / "deep" / "deeper") == {"path": str(here / "my.txt")}


def test_a_folder_as_target_is_its_files_if_they_are_of_one_kind(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"TARGET texts is a folder of several kinds.*: texts/\*\*/"):
        target_named("texts", here)
    (here / "notes").mkdir()
    for name in ("a.txt", "b.txt", "README"):
        (here / "notes" / name).write_text("a note")
    assert target_named("notes", here) == {"path": "notes/**/*.txt"}
    (here / "none").mkdir()
    with pytest.raises(ConfigError, match="TARGET none: no file below it is text"):
        target_named("none", here)


@pytest.mark.parametrize(
    ("argument", "sources"),
    [
        ("texts/*.txt", [{"path": "texts/*.txt"}]),
        ("texts", [{"path": "texts/**/*.jsonl.gz"}, {"path": "texts/**/*.txt"}]),
        ("https://example.org/a.jsonl", [{"url": "https://example.org/a.jsonl"}]),
        ("somebody/set", [{"hub": "somebody/set"}]),
        ("${FOLIO_DATA}/x/*.txt", [{"path": "${FOLIO_DATA}/x/*.txt"}]),
    ],
)
def test_a_corpus_is_files_a_folder_an_address_or_a_hub_dataset(
    argument: str, sources: list[dict[str, str]], here: Path
) -> None:
    assert sources_named(argument, here) == sources
    assert [SourceSection(**source) for source in sources]


def test_a_folder_without_text_is_refused_with_what_would_be_read(here: Path) -> None:
    (here / "pictures").mkdir()
    with pytest.raises(ConfigError, match=r"--corpus pictures: no file below it.*\.jsonl"):
        sources_named("pictures", here)


def test_without_a_corpus_the_local_data_or_a_hub_dataset_is_proposed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FOLIO_DATA", raising=False)
    first, others = proposed_sources()
    assert first[0]["hub"] == "HuggingFaceFW/fineweb-edu"
    assert len(others) == 2
    (here / "corpus").mkdir()
    (here / "corpus" / "a.jsonl.zst").write_bytes(b"")
    monkeypatch.setenv("FOLIO_DATA", str(here))
    first, others = proposed_sources()
    assert first == [{"path": "${FOLIO_DATA}/corpus/*.jsonl.zst"}]
    assert len(others) == 3
    assert all(SourceSection(**source) for source in others)


def test_the_size_of_the_text_is_that_of_its_files_unpacked(here: Path) -> None:
    texts = texts_of({"path": "my.txt"}, [{"path": "texts/*.txt"}], here)
    assert (texts.target_bytes, texts.corpus_bytes) == (4000, 1000)
    packed = (here / "texts/deep/b.jsonl.gz").stat().st_size
    assert texts_of({"path": "my.txt"}, [{"path": "texts/**/*.gz"}], here).corpus_bytes == int(3.7 * packed)


def test_a_source_whose_size_only_its_server_knows_is_as_large_as_needed(here: Path) -> None:
    commit = "0" * 40  # a commit needs no server
    texts = texts_of({"name": "tiny-shakespeare"}, [{"hub": "a/b", "revision": commit}], here)
    assert math.isinf(texts.corpus_bytes)
    assert texts.target_bytes == 1_115_394


def test_a_missing_text_is_refused_as_a_run_would(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.txt"):
        texts_of({"path": "nowhere.txt"}, [{"path": "texts/*.txt"}], here)
