from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.experiments.ablation.ablate import AblationResults
from pipeline.experiments.ablation.effects import Findings, findings
from pipeline.experiments.ablation.page import HEAD, as_page, headline, records, row, write
from pipeline.experiments.measurements import FIELDS

Experiment = Callable[..., AblationResults]


@pytest.fixture(scope="module")
def found(experiment: Experiment) -> Findings:
    return findings(experiment(2, {"better": -0.5, "slow": -0.1, "same": 0.0}, timed={"slow": 0.6}))


def test_page_has_a_row_for_every_change_and_says_how(found: Findings) -> None:
    page = as_page(found, "folio ablate x.yaml")
    table = [line for line in page.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in table[2:]] == ["| better", "| same", "| slow"]
    assert all(line.count(" | ") == len(HEAD) - 1 for line in table)
    assert "`folio ablate x.yaml` at commit `c`" in page
    assert "all 4 comparisons" in " ".join(page.split())
    assert "{" not in page


def test_headline_follows_from_the_verdicts(found: Findings, experiment: Experiment) -> None:
    assert headline(found) == (
        "In the same time: 1 change helps: better. 1 change hurts: slow. Of 1 other, no effect is shown."
    )
    nothing = findings(experiment(3, {"a": 0.0, "b": 0.0}))
    assert headline(nothing) == "No effect is shown of any change."


def test_records_hold_what_the_table_shows(found: Findings) -> None:
    figures = {figure["name"]: figure for figure in records(found, "folio ablate x.yaml")}
    assert len(figures) == 3 * 3
    slow = figures["slow, change at matched time"]
    assert (slow["unit"], slow["verdict"], slow["commit"]) == ("bits/byte", "hurts", "c")
    assert f"{slow['value']:+.4f}" in row(found.changes[2])[4]
    assert figures["slow, speed"]["value"] == 0.8
    assert set(slow) >= set(FIELDS)


def test_page_records_and_picture_are_written_to_a_folder_that_is_created(found: Findings, tmp_path: Path) -> None:
    page = write(found, tmp_path / "new" / "out", "folio ablate x.yaml")
    assert page == tmp_path / "new" / "out" / "ablation.md"
    assert page.read_text() == as_page(found, "folio ablate x.yaml")
    assert json.loads((page.parent / "ablation.json").read_text()) == list(records(found, "folio ablate x.yaml"))
    assert (page.parent / "ablation.png").read_bytes().startswith(b"\x89PNG")
