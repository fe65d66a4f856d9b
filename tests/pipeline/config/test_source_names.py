from __future__ import annotations

import pytest

from pipeline.config.source_names import distinct, name_of_path, name_of_source, name_of_url
from pipeline.config.text_sections import CorpusSection


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("my.txt", "my.txt"),
        ("/home/me/my.txt", "my.txt"),
        ("${SECRET}/my.txt", "my.txt"),
        ("texts/*.txt", "texts/*.txt"),
        ("/home/me/texts/**/*.txt", "texts/**/*.txt"),
        ("/*.txt", "*.txt"),
        ("${FOLIO_DATA}/*.txt", "${FOLIO_DATA}/*.txt"),
    ],
)
def test_a_path_is_called_by_its_end(path: str, name: str) -> None:
    assert name_of_path(path) == name


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/a/texts.jsonl", "example.org/texts.jsonl"),
        ("https://me:canary@example.org:8080/canary/t.jsonl?token=canary#canary", "example.org/t.jsonl"),
        ("https://[broken/a.jsonl", "url"),
    ],
)
def test_an_address_is_called_by_host_and_file(url: str, name: str) -> None:
    assert name_of_url(url) == name


def test_a_source_is_called_by_what_it_has() -> None:
    assert name_of_source({"hub": "me/mine"}) == "me/mine"
    assert name_of_source({}) == ""


def test_names_that_repeat_are_numbered() -> None:
    assert distinct(["a", "a", "b", "a"], taken=["b", "a (2)"]) == ["a", "a (3)", "b (2)", "a (4)"]


def test_patterns_that_end_alike_need_no_name_but_written_names_must_differ() -> None:
    alike = [{"path": "one/texts/*.txt"}, {"path": "two/texts/*.txt"}, {"path": "x.txt", "name": "x"}]
    names = [source.name for source in CorpusSection.model_validate({"sources": alike}).sources]
    assert names == ["texts/*.txt", "texts/*.txt (2)", "x"]
    with pytest.raises(ValueError, match="source name 'x' appears twice"):
        CorpusSection.model_validate({"sources": [{"path": "a", "name": "x"}, {"path": "b", "name": "x"}]})
