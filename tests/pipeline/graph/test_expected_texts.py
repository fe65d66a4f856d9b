"""Tokens before there are shards: from the bytes of the files that were found, packed ones unpacked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import Config
from pipeline.config.text_sections import TokenizerSection
from pipeline.graph.expected_texts import ExpectedTexts, bytes_per_token, corpus_bytes, target_bytes
from pipeline.inputs.outside import look_outside


@pytest.fixture(autouse=True)
def own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def config(folder: Path, **sections: Any) -> Config:
    return Config.model_validate({"name": "x", **sections}).based_in(folder)


def sizes(made: Config) -> dict[str, int | None]:
    return corpus_bytes(made, look_outside(made))


def test_local_sources_are_measured_and_limited(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * 1000)
    (tmp_path / "b.jsonl.zst").write_bytes(b"x" * 100)
    local = {"name": "local", "path": "*.*t*"}
    assert sizes(config(tmp_path, corpus={"sources": [local]})) == {"local": 1370}
    assert sizes(config(tmp_path, corpus={"sources": [{**local, "max_bytes": 500}]})) == {"local": 500}
    two = [local, {"name": "a", "path": "a.txt"}]
    assert sizes(config(tmp_path, corpus={"sources": two, "max_bytes": 1200})) == {"local": 600, "a": 600}
    assert sizes(config(tmp_path, corpus={"sources": two, "max_bytes": 2200})) == {"local": 1200, "a": 1000}
    assert sizes(config(tmp_path)) == {}


def test_a_source_that_is_not_here_is_unknown_unless_it_is_limited(tmp_path: Path) -> None:
    missing = {"name": "far", "path": "missing.txt"}
    assert sizes(config(tmp_path, corpus={"sources": [missing]})) == {"far": None}
    assert sizes(config(tmp_path, corpus={"sources": [{**missing, "max_bytes": 500}]})) == {"far": 500}
    assert sizes(config(tmp_path, corpus={"sources": [missing], "max_bytes": 900})) == {"far": 900}
    unknown = ExpectedTexts.of_sizes(config(tmp_path), {"far": None}, target=1000)
    assert (unknown.knows("pretrain"), unknown.knows("scratch"), unknown.corpus_bytes) == (False, True, None)


def test_the_target_is_measured_or_known(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_bytes(b"x" * 5000)
    own = config(tmp_path, target={"path": "my.txt"})
    assert target_bytes(own, look_outside(own)) == 5000
    known = config(tmp_path)
    assert target_bytes(known, look_outside(known)) == 1_115_394
    gone = config(tmp_path, target={"path": "gone.txt"})
    assert target_bytes(gone, look_outside(gone)) is None


def test_splits_have_their_shares_and_a_small_corpus_holds_out_enough(tmp_path: Path) -> None:
    made = config(tmp_path, tokenizer={"vocab_size": 512}, corpus={"validation": 0.01})
    texts = ExpectedTexts.of_sizes(made, {"a": 300_000, "b": 100_000}, target=20_000)
    shards = texts.shards
    assert [totals.tokens for totals in (shards.target_train, shards.target_selection, shards.target_validation)] == [
        8500,
        500,
        1000,
    ]
    assert shards.corpus_validation.bytes == 40_000, "1 % are less than 16 kB, so that passages are held out"
    assert {name: totals.tokens for name, totals in shards.sources.items()} == {"a": 135_000, "b": 45_000}
    large = ExpectedTexts.of_sizes(made, {"a": 10_000_000}, target=0)
    assert large.shards.corpus_validation.bytes == 100_000
    assert (texts.counted, texts.corpus_bytes) == (False, 400_000)
    nothing = ExpectedTexts.of_sizes(config(tmp_path, corpus={"validation": 0}), {"a": 1000}, target=None)
    assert nothing.shards.corpus_validation.tokens == 0 and not nothing.knows("scratch")


def test_larger_vocabularies_have_longer_tokens() -> None:
    lengths = [bytes_per_token(TokenizerSection(vocab_size=size)) for size in (512, 724, 1024, 4096, 50_257, 200_000)]
    assert lengths == sorted(lengths)
    assert lengths[1] == pytest.approx(2.25, abs=0.01)
    assert bytes_per_token(TokenizerSection(kind="char")) == 1.0
