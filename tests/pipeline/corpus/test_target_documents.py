"""A target of several documents, and what is refused of one; that of one text is shown in test_target_stage.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.text_sections import TargetSection
from pipeline.corpus.target_splits import target_text
from pipeline.errors import ConfigError, DataError
from pipeline.graph.stage_counts import TargetCounts

Run = Callable[[TargetSection], tuple[Path, TargetCounts]]


def test_files_and_records_are_documents(tmp_path: Path, run_target: Run) -> None:
    letters = [f"Letter {number}.\nIt has two lines.\n" for number in range(90)]
    for number, letter in enumerate(letters):
        (tmp_path / f"{number:02d}.txt").write_text(letter)
    lines = [*({"data": {"text": letter}} for letter in letters), {"data": {"text": None}}, {"data": {"text": ""}}]
    (tmp_path / "letters.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for section in (
        TargetSection(path=str(tmp_path / "*.txt"), selection=0.1),
        TargetSection(path=str(tmp_path / "letters.jsonl"), field="data.text", selection=0.1),
    ):
        folder, counts = run_target(section)
        assert counts.documents == 90
        assert target_text(folder, "refit") + target_text(folder, "validation") == "".join(letters)


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ('{"body": "text"}', r"letters.jsonl:2 has no 'text', which has body\. Set target\.field: body\."),
        ('{"text": 3}', r"letters.jsonl:2: not text \(int\)\. Repair it, or name other files\."),
        ('{"text": ', r"letters.jsonl:2: broken json"),
    ],
)
def test_a_record_without_text_is_refused_with_its_place(
    line: str, refusal: str, tmp_path: Path, run_target: Run
) -> None:
    (tmp_path / "letters.jsonl").write_text('{"text": "a letter"}\n' + line + "\n")
    with pytest.raises((ConfigError, DataError), match=refusal):
        run_target(TargetSection(path=str(tmp_path / "letters.jsonl")))
