"""Three hundred odd inputs: whatever the files and the config hold, the program ends with an exit code of its contract.

Each case is a function of its number alone, so one that fails can be looked at again. In this process, because a new
one for each would take ten minutes.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard
from typer.testing import CliRunner

from cli.program import app
from pipeline.errors import FolioError

NUM_FILES, NUM_CONFIGS, NUM_TEXTS = 150, 100, 50
SUFFIXES = (".txt", ".jsonl", ".json", ".parquet", ".jsonl.zst", ".jsonl.gz", ".txt.gz", ".txt.zst", ".csv", "")
KEYS = ("learning_rate", "zero", "dtype", "port", "seed", "path", "url", "hub", "field", "x", "encoding")
NEWLINES = ("\n", "\r\n", "\r", "\u2028")
WORDS = (
    "the quick brown fox of Verona speaks to a café under heavy rain while nobody listens, or so it seems".split()  # noqa: SIM905
)


def prose(rng: random.Random, characters: int) -> str:
    words, size = [], 0
    while size < characters:
        words.append(rng.choice(WORDS))
        size += len(words[-1]) + 1
    return " ".join(words)


def odd_value(rng: random.Random, depth: int = 0) -> Any:
    """What a field of a document or of a config may turn out to hold."""
    simple = [
        None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**23, -(10**30), 0.5, -0.0, 1e-320, 1e308, float("inf"),
        float("nan"), "", " ", "0", "-1", "1e999", "5%", "-5%", "64MB", "30M", "yes", "null", "~", "~nobody/x",
        "${UNSET_HERE}/x", "$HOME", "a\x00b", "\ud800", "é" * 300, "../..", "/", ".", "http://127.0.0.1:9/x.txt",
        "https://u:p@127.0.0.1:9/x.jsonl?t=1", "x" * 5000, "[", "*", "**", "[a-", "{a}", "texts", "a/b", "main", "\n",
        "#", "!!python/object:os.system",
    ]  # fmt: skip
    if depth < 3 and rng.random() < 0.2:
        several = [odd_value(rng, depth + 1) for _ in range(rng.randrange(3))]
        return several if rng.random() < 0.5 else {str(item)[:9]: item for item in several}
    return rng.choice(simple)


def json_lines(rng: random.Random) -> bytes:
    lines = []
    for _ in range(rng.randrange(1, 30)):
        document: dict[str, Any] = {"text": prose(rng, rng.randrange(1, 900)), "id": rng.randrange(9)}
        if rng.random() < 0.3:
            document[rng.choice(["text", "id", "data"])] = odd_value(rng)
        if rng.random() < 0.1:
            document = rng.choice([{"data": document}, {"content": document["text"]}, [document], document["text"], 7])
        lines.append(json.dumps(document, ensure_ascii=rng.random() < 0.5))
    odd_lines = ["[" * 100_000, "9" * 5_000, '{"text": "\\ud800"}', "NaN", "", "{", '{"text": 1e999}', "\ufeff{}", "\0"]
    if rng.random() < 0.4:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(odd_lines))
    return rng.choice(NEWLINES[:2]).join(lines).encode("utf-8", "surrogatepass")


def parquet(rng: random.Random) -> bytes:
    texts = [prose(rng, rng.randrange(300, 900)) for _ in range(rng.randrange(8))]
    columns = [
        pa.table({"text": texts}),
        pa.table({"content": texts}),
        pa.table({"text": list(range(5))}),
        pa.table({"text": [texts, None]}),
        pa.table({"data": [{"text": text} for text in texts] or [None]}),
        pa.table({}),
    ]
    buffer = io.BytesIO()
    pq.write_table(rng.choice(columns), buffer)
    return buffer.getvalue()


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Often the data as it is; else cut, flipped, padded, doubled or in another encoding."""
    place = rng.randrange(len(data) + 1)
    ways: list[Callable[[], bytes]] = [
        lambda: data[:place],
        lambda: data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :],
        lambda: data + bytes(rng.choice([1, 511, 512, 4096])),
        lambda: data + rng.randbytes(30),
        lambda: data + data,
        lambda: rng.randbytes(rng.randrange(2000)),
        lambda: b"",
        lambda: data.decode("utf-8", "replace").encode(rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])),
        lambda: data.decode("utf-8", "replace").encode("cp1252", "replace"),
    ]
    return rng.choice(ways)() if rng.random() < 0.6 else data


def odd_file(rng: random.Random, folder: Path) -> str:
    """Write one file, or something that only looks like one; returns the pattern that names it."""
    suffix = rng.choice(SUFFIXES)
    stem = rng.choice(["a", "a b", "a[1]", "-a", "ä", "a{b}", "$a", "~a", "a\nb", "a'b", '"', "x" * 100, "#a", "a*"])
    path = folder / (stem + suffix)
    if rng.random() < 0.08:
        rng.choice([path.mkdir, lambda: path.symlink_to("nowhere"), lambda: path.symlink_to(path.name),
                    lambda: os.mkfifo(path)])()  # fmt: skip
        return str(rng.choice([path, folder / "*"]))
    if ".parquet" in suffix:
        data = parquet(rng)
    elif ".json" in suffix:
        data = json_lines(rng)
        if rng.random() < 0.15:
            data = json.dumps([{"text": prose(rng, 400)}] * 3, indent=rng.choice([None, 2])).encode()
    else:
        data = rng.choice(NEWLINES).join(prose(rng, 500) for _ in range(rng.randrange(20))).encode()
    data = damaged(rng, data)
    if suffix.endswith(".zst"):
        data = damaged(rng, zstandard.ZstdCompressor().compress(data))
    if suffix.endswith(".gz"):
        data = damaged(rng, gzip.compress(data))
    path.write_bytes(data)
    return str(rng.choice([path, path, folder / "*", folder]))


def tiny(folder: Path) -> dict[str, Any]:
    """A config that runs to its shards in a moment."""
    return {
        "name": "odd",
        "target": {"path": str(folder / "target.txt")},
        "corpus": {"sources": [{"path": str(folder / "texts" / "*.txt")}], "min_characters": 20},
        "tokenizer": {"vocab_size": 300},
        "model": {"layers": 1, "width": 16, "heads": 2, "context": 16},
        "pretrain": {"tokens": 4096, "batch_tokens": 256, "micro_batch": 4, "evaluate_tokens": 64},
        "scratch": {"learning_rates": [1e-3], "max_steps": 2, "seeds": [1], "batch_tokens": 256, "micro_batch": 4},
        "finetune": {"learning_rates": [1e-3], "max_steps": 2, "seeds": [1], "batch_tokens": 256, "micro_batch": 4},
        "launch": {"workers": 1, "ranks": 1},
    }


def good_files(folder: Path) -> None:
    rng = random.Random(0)
    (folder / "texts").mkdir()
    (folder / "target.txt").write_text("\n".join(prose(rng, 300) for _ in range(20)))
    for number in range(4):
        (folder / "texts" / f"{number}.txt").write_text(f"{number} " + prose(rng, 2000))


def changed(rng: random.Random, config: dict[str, Any]) -> None:
    """Change one key somewhere in the tree: another value, no value, or another name."""
    node: Any = config
    key = rng.choice(list(node))
    while rng.random() < 0.75 and isinstance(node[key], dict | list) and node[key]:
        node = node[key]
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
    way = rng.random()
    if way < 0.7:
        node[key] = odd_value(rng)
    elif way < 0.8:
        del node[key]
    elif isinstance(node, dict):
        node[rng.choice(KEYS)] = odd_value(rng)


def odd_yaml(rng: random.Random, text: str) -> bytes:
    place = rng.randrange(len(text))
    insertions = ["\t", "\x00", "[" * 20_000, "{" * 20_000, "&a", "*a", "!!binary x", "---\n", "? ", "- ", "'",
                  '"', "%", "\ud800", "\ufeff", ": ", "<<: ", "2001-01-01", "!!python/name:os.system",
                  "\u2028", "\r"]  # fmt: skip
    ways: list[Callable[[], str]] = [
        lambda: text[:place] + rng.choice(insertions) + text[place:],
        lambda: text[:place],
        lambda: text + text,
        lambda: text.replace(":", rng.choice(["", "::", "="]), rng.randrange(1, 4)),
        lambda: "".join(rng.sample(text.splitlines(keepends=True), len(text.splitlines()))),
    ]
    encoding = rng.choice(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"])
    return rng.choice(ways)().encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")


def ends_well(config: Path, *commands: str) -> None:
    """Do the commands; fail on anything but success or a refusal of one line with an exit code of the contract."""
    for command in commands:
        result = CliRunner().invoke(app, [*command.split(), str(config)])
        error = result.exception
        if isinstance(error, FolioError):
            assert error.exit_code in {2, 3, 5}, f"{command}: {error}"
            assert "\n" not in str(error)
            assert error.remedy, f"{command} refuses without a remedy: {error}"
        elif error is not None and not isinstance(error, SystemExit):
            raise error
        else:
            assert result.exit_code in {0, 2}, result.output


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLIO_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("number", range(NUM_FILES))
def test_odd_files_end_in_success_or_a_refusal(number: int, tmp_path: Path) -> None:
    rng = random.Random(f"file {number}")
    good_files(tmp_path)
    (tmp_path / "odd").mkdir()
    values = tiny(tmp_path)
    pattern = odd_file(rng, tmp_path / "odd")
    if rng.random() < 0.25:
        values["target"] = {"path": pattern}
    else:
        sources = values["corpus"]["sources"]
        sources[:] = [{"name": "odd", "path": pattern}, *(sources if rng.random() < 0.5 else [])]
    config = tmp_path / "odd.yaml"
    config.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    ends_well(config, "plan", "run --until shards", "run --until shards", "verify")


@pytest.mark.parametrize("number", range(NUM_CONFIGS))
def test_odd_values_in_a_config_end_in_success_or_a_refusal(number: int, tmp_path: Path) -> None:
    rng = random.Random(f"config {number}")
    good_files(tmp_path)
    values = tiny(tmp_path)
    for _ in range(rng.randrange(1, 4)):
        changed(rng, values)
    config = tmp_path / "odd.yaml"
    config.write_bytes(yaml.safe_dump(values, allow_unicode=True).encode("utf-8", "surrogatepass"))
    ends_well(config, "plan", "status", "run --until tokenizer")


@pytest.mark.parametrize("number", range(NUM_TEXTS))
def test_odd_yaml_ends_in_success_or_a_refusal(number: int, tmp_path: Path) -> None:
    rng = random.Random(f"yaml {number}")
    good_files(tmp_path)
    config = tmp_path / "odd.yaml"
    config.write_bytes(odd_yaml(rng, yaml.safe_dump(tiny(tmp_path))))
    ends_well(config, "plan", "run --until target")
