"""The chain with stand-in stages: small functions below are what the graph's stages name."""

import errno
import sys
import types

import pytest

from pipeline.config.schema import Config
from pipeline.graph import stages
from pipeline.graph.stage_counts import StageCounts, TokenizerCounts
from pipeline.graph.store import Store


class Counted(StageCounts):
    documents: int


def write_text(work):
    (work.folder / "text.txt").write_text(f"{work.stage} {sorted(work.inputs)}")
    if work.stage == "tokenizer":
        return TokenizerCounts(kind="bpe", vocab_size=work.slice["tokenizer"].vocab_size, sha256="0")
    return Counted(documents=len(work.inputs))


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
    rows = tuple(
        stages.Stage(s.name, s.needs, s.slice, f"{name}:write_text", s.version, s.trains, s.pretrains)
        for s in stages.STAGES
    )
    monkeypatch.setattr(stages, "STAGES", rows)
    return Store(tmp_path / "store")


@pytest.fixture
def config():
    """config(**sections): a run with a corpus."""
    return lambda **changes: Config(name="test", corpus={"sources": [{"path": "x"}]}, **changes)
