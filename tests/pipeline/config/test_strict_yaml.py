"""YAML that is more, or less, than a config: each is refused in one line, at once, and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.config.loading import load_config
from pipeline.config.strict_yaml import MAX_DEPTH, plain_value, read_yaml
from pipeline.errors import ConfigError

LEVELS = 20_000


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "run.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["[" * LEVELS, "a: " + "[" * LEVELS + "]" * LEVELS, "{a: " * LEVELS, "- " * LEVELS, "? " * LEVELS,
     "\n".join(" " * depth + "a:" for depth in range(1000)), "a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)],
    ids=["open", "closed", "sections", "lists", "keys", "block", "one more"],
)  # fmt: skip
def test_deeply_nested_yaml_is_refused(tmp_path: Path, text: str) -> None:
    assert f"more than {MAX_DEPTH} levels are nested here" in refusal(written(tmp_path, text))


def test_as_many_levels_as_allowed_are_read(tmp_path: Path) -> None:
    depth = MAX_DEPTH - 1
    assert read_yaml(written(tmp_path, "a: " + "[" * depth + "]" * depth))[1].keys() == {"a"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1: x", "run.yaml:1: '1' cannot be a key here; put a name that looks like it in quotes."),
        ("null: x", "'null' cannot be a key"),
        ("name: x\non: y", "run.yaml:2: 'on' cannot be a key"),
        ("2.5: x", "'2.5' cannot be a key"),
        ("? [a]\n: b", "'a section or a list' cannot be a key"),
        ("? {a: 1}\n: b", "'a section or a list' cannot be a key"),
        ("<<: {name: x}", "'<<' cannot be a key"),
        ("=: x", "tag !!value is not allowed"),
        ("k" * 50_000 + ": x\n" + "k" * 50_000 + ": y", "run.yaml"),
        ("a: 1\na: 2", "run.yaml:2: key 'a' appears twice."),
        ("a: &x [1]\nb: *x", "aliases (*name) are not allowed"),
        ("a: 1\n---\nb: 2", "run.yaml:2: a second document begins here. Give each run a file of its own."),
        ("a:\n\t- b", "Indent with spaces."),
        ("a: !!python/object/apply:os.system [touch /tmp/never]", "the tag !!python/object/apply:os.system is not"),
        ("a: !!binary aGVsbG8=", "the tag !!binary is not allowed"),
        ("a: !!set {b}", "the tag !!set is not allowed"),
        ("a: !own b", "the tag !own is not allowed"),
        ('a: "b\\0c"', "the text holds the character 0x0000"),
        ('a: "\\ud800"', "the text holds the character 0xd800"),
        ("name: x\na: b\0c", "run.yaml:2: it holds the character 0x0000. Remove it."),
        ("[1, 2", "run.yaml:1"),
    ],
)
def test_what_no_config_needs_is_refused_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(written(tmp_path, text))


def test_a_date_is_text(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "name: 2026-11-26"))[1] == {"name": "2026-11-26"}


def test_a_number_too_long_for_python_is_left_to_the_key_to_refuse(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml:1: pretrain\.tokens: '1+\.\.\. is not between 1 and 1,000,000"):
        load_config(written(tmp_path, "pretrain: {tokens: " + "1" * 5000 + "}"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_files_are_read_by_their_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    mark = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")
    path = written(tmp_path, f"{mark}name: é\r\n".encode(encoding))
    assert read_yaml(path)[1] == {"name": "é"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"name: \xe9", "byte 6 is not UTF-8 text. Save it as UTF-8."), (b"\xff\xfea", "byte 2 is not UTF-16")],
)
def test_other_encodings_are_named(tmp_path: Path, content: bytes, expected: str) -> None:
    assert expected in refusal(written(tmp_path, content)).replace("UTF-16-LE", "UTF-16")


def test_a_folder_is_named_with_the_configs_in_it(tmp_path: Path) -> None:
    written(tmp_path, "name: x")
    assert refusal(tmp_path) == f"{tmp_path} is a folder. Here are {tmp_path / 'run.yaml'}."


def test_a_pipe_and_a_device_do_not_keep_us_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero")):
        assert refusal(path).startswith(f"{path} is not a regular file.")


@pytest.mark.parametrize("text", ["[" * LEVELS, "{a: 1, a: 2}", "!!set {b}"])
def test_a_single_value_that_is_no_yaml_of_ours_is_text(text: str) -> None:
    assert plain_value(text) == text
