from __future__ import annotations

from typing import Any

import pytest

from pipeline.inputs.outside_changes import changes

OLD = {"a.txt": "1", "b.txt": "2", "c.txt": "3"}


def files(identity: dict[str, str], shown: str = "texts/*.txt") -> dict[str, Any]:
    return {"books": {"shown": shown, "kind": "files", "identity": identity}}


def one(kind: str, identity: dict[str, str], shown: str = "my.txt") -> dict[str, Any]:
    return {"target": {"shown": shown, "kind": kind, "identity": identity}}


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (OLD, []),
        (OLD | {"d.txt": "4"}, ["1 file of texts/*.txt was added (d.txt)"]),
        ({"a.txt": "1"}, ["2 files of texts/*.txt were removed (b.txt, c.txt)"]),
        (OLD | {"a.txt": "x", "b.txt": "y"}, ["2 files of texts/*.txt changed (a.txt, b.txt)"]),
        (
            {"a.txt": "x", "b.txt": "2", "d.txt": "4"},
            [
                "1 file of texts/*.txt was added (d.txt)",
                "1 file of texts/*.txt was removed (c.txt)",
                "1 file of texts/*.txt changed (a.txt)",
            ],
        ),
        (
            OLD | {f"{n}.txt": "4" for n in range(3000)},
            ["3,000 files of texts/*.txt were added (0.txt, 1.txt, 2.txt, ...)"],
        ),
    ],
)
def test_files_are_counted_and_named(new: dict[str, str], said: list[str]) -> None:
    assert changes(files(OLD), files(new)) == said


def test_a_source_of_one_file_is_called_by_it() -> None:
    assert changes(files({"my.txt": "1"}, "my.txt"), files({"my.txt": "2"}, "my.txt")) == ["my.txt changed"]


def test_a_target_changed() -> None:
    assert changes(one("file", {"sha256": "1"}), one("file", {"sha256": "2"})) == ["my.txt changed"]


def test_a_dataset_goes_from_commit_to_commit() -> None:
    old, new = (one("hub", {"commit": letter * 40}, "me/mine") for letter in "ab")
    assert changes(old, new) == ["me/mine: commit aaaaaaa -> bbbbbbb"]


def test_a_text_found_at_last_takes_the_place_of_the_installed_one() -> None:
    installed = {"installed text": {"shown": "installed text", "kind": "installed", "identity": {"python": "3"}}}
    assert changes(installed, files(OLD)) == ["texts/*.txt takes the place of installed text"]
    assert changes(files(OLD), installed) == ["installed text takes the place of texts/*.txt"]
    python = one("installed", {"python": "3"}, "installed text")
    assert changes(python, one("file", {"sha256": "1"})) == ["my.txt takes the place of installed text"]


def test_many_texts_found_at_last_are_named_in_part() -> None:
    found = {name: {"shown": name, "kind": "files", "identity": {}} for name in "abcd"}
    installed = {"installed text": {"shown": "installed text", "kind": "installed", "identity": {}}}
    assert changes(installed, found) == ["a, b, c, ... take the place of installed text"]
