from __future__ import annotations

import pytest

from cli.tables import print_table


def test_first_column_is_text_and_the_others_are_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("rung", "loss"), [("bigram", "2.5"), ("one-head", "10.25")], ["Two rungs."])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line] == [
        "  rung        loss",
        " ──────────────────",
        "  bigram       2.5",
        "  one-head   10.25",
        "Two rungs.",
    ]


def test_a_pipe_gets_wide_cells_and_notes_unfolded_and_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    cell, note = "wide " * 20, "[bold] " * 40
    print_table(("change",), [(cell,)], [note])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert cell.strip() in lines
    assert note.strip() in lines
