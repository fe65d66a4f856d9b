from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.corpus.parts import Document, PartWriter, document_line, part_paths, read_part, remove_parts
from pipeline.errors import DataError

DOCUMENTS = [Document(id=str(n), source="books", text=f"text {n} \u2028 caf\u00e9\n") for n in range(5)]


@pytest.fixture
def part(tmp_path: Path) -> Path:
    writer = PartWriter(tmp_path / "train", 3)
    for document in DOCUMENTS:
        writer.add(document_line(document))
    writer.flush()
    return tmp_path / "train" / "03-00000.jsonl.zst"


def test_documents_come_back(part: Path) -> None:
    assert list(read_part(part)) == DOCUMENTS


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_cut_part_is_refused(part: Path, share: float) -> None:
    part.write_bytes(part.read_bytes()[: int(part.stat().st_size * share)])
    with pytest.raises(DataError, match=r"03-00000.jsonl.zst is damaged"):
        list(read_part(part))


def test_parts_are_cut_by_bytes_and_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.corpus.parts.PART_BYTES", 100)
    writer = PartWriter(tmp_path / "train", 0)
    for document in DOCUMENTS:
        writer.add(document_line(document))
    writer.flush()
    writer.flush()
    paths = part_paths(tmp_path, "train")
    assert [path.name for path in paths] == ["00-00000.jsonl.zst", "00-00001.jsonl.zst", "00-00002.jsonl.zst"]
    assert [document for path in paths for document in read_part(path)] == DOCUMENTS


def test_only_the_parts_of_one_source_are_removed(part: Path) -> None:
    (part.parent / "03-00001.jsonl.zst.tmp").touch()
    other = part.parent / "04-00000.jsonl.zst"
    other.touch()
    remove_parts(part.parent.parent, "train", 3)
    assert list(part.parent.iterdir()) == [other]
