"""The chain with stand-in stages: small functions below are what the graph's stages name."""

import dataclasses
import errno
import hashlib
import sys
import types

import pytest

from pipeline.config.schema import Config
from pipeline.graph import stages
from pipeline.graph.fingerprints import fingerprints
from pipeline.graph.stage_counts import ShardsCounts, StageCounts, TextTotals, TokenizerCounts
from pipeline.graph.store import Store
from pipeline.inputs.outside import Outside, OutsideText


class Counted(StageCounts):
    documents: int


def write_text(work):
    (work.folder / "text.txt").write_text(f"{work.stage} {sorted(work.inputs)}")
    if work.stage == "tokenizer":
        return TokenizerCounts(kind="bpe", vocab_size=work.slice["tokenizer"].vocab_size, sha256="0")
    if work.stage == "shards":
        return shards_of()
    return Counted(documents=len(work.inputs))


def shards_of(train=1_000_000, selection=50_000, validation=100_000, corpus=10_000_000, held_out=100_000):
    """Counts of shards with so many tokens in each split of the target and of the corpus, which has one source."""

    def totals(tokens):
        return TextTotals(documents=1, tokens=tokens, bytes=3 * tokens)

    return ShardsCounts(
        target_train=totals(train),
        target_selection=totals(selection),
        target_validation=totals(validation),
        corpus_train=totals(corpus),
        corpus_validation=totals(held_out),
        sources={"texts/*.txt": totals(corpus)},
        val_ngrams_left_in_shards=0,
    )


def fail(work):
    (work.folder / "half.txt").write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device", str(work.folder / "text.txt"))


@pytest.fixture
def calls():
    """The stages that were done, in order."""
    return []


@pytest.fixture
def chain(monkeypatch, tmp_path, calls):
    """A store for runs whose every stage is `write_text`."""

    def noted(work):
        calls.append(work.stage)
        return write_text(work)

    name = "stand_in_stages"
    module = types.ModuleType(name)
    module.write_text, module.fail = noted, fail
    monkeypatch.setitem(sys.modules, name, module)
    rows = tuple(dataclasses.replace(stage, function=f"{name}:write_text") for stage in stages.STAGES)
    monkeypatch.setattr(stages, "STAGES", rows)
    return Store(tmp_path / "store")


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """The folder of the run's own texts, two files of corpus and a target, and an empty memory of what they hold."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "texts").mkdir()
    for name in ("my.txt", "texts/a.txt", "texts/c.txt"):
        (tmp_path / name).write_text(f"the text of {name}")
    return tmp_path


@pytest.fixture
def config(texts):
    """config(**sections): a run with a target and a corpus of its own."""

    def made(**changes):
        sources = [{"path": "texts/*.txt"}]
        return Config(name="test", target={"path": "my.txt"}, corpus={"sources": sources}, **changes).based_in(texts)

    return made


@pytest.fixture
def shards():
    """shards(train=..., corpus=..., ...): counts of shards with so many tokens in each split."""
    return shards_of


@pytest.fixture
def digests_of():
    """digests_of(config): its fingerprints, whatever texts are on this machine."""
    return lambda config: fingerprints(config, known_texts(config))


def known_texts(config):
    """Texts that were found in the place of those that the config names."""
    found = {
        "target": {"target": text_called("target")},
        "corpus": {source.name: text_called(source.name) for source in config.corpus.sources},
        "pretrained": {"pretrained": text_called("pretrained")},
    }
    return Outside(found, {})


def text_called(name):
    return OutsideText(name, "file", {"sha256": hashlib.sha256(name.encode()).hexdigest()})
