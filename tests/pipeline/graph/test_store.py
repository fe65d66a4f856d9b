"""Where artifacts lie, and which of them explains what changed."""

from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.graph import runner
from pipeline.graph.fingerprints import fingerprints
from pipeline.graph.manifest import MANIFEST
from pipeline.graph.store import Store


def test_the_environment_names_the_store(monkeypatch):
    monkeypatch.setenv("FOLIO_STORE", "/somewhere/else")
    assert Store.from_environment().root == Path("/somewhere/else")
    monkeypatch.setenv("FOLIO_STORE", "")
    assert Store.from_environment().root == Path("artifacts")


def test_a_folder_is_named_after_the_stage_and_twelve_digits():
    assert Store(Path("s")).folder("shards", "0123456789abcdef") == Path("s/shards-0123456789ab")


def test_what_has_no_manifest_is_not_finished(chain, config):
    digest = fingerprints(config())["target"]
    chain.folder("target", digest).mkdir(parents=True)
    assert chain.finished("target", digest) is None


def test_twelve_equal_digits_are_not_enough(chain, config):
    runner.run_nodes(config(), chain)
    digest = fingerprints(config())["target"]
    assert chain.finished("target", digest) is not None
    with pytest.raises(DataError, match="holds the manifest of target"):
        chain.finished("target", digest[:12] + "0" * 52)


def test_the_newest_manifest_of_this_run_is_found_and_damaged_ones_are_passed_over(chain, config):
    first = runner.run_nodes(config(), chain)["tokenizer"]
    runner.run_nodes(config(tokenizer={"vocab_size": 300}).model_copy(update={"name": "other"}), chain)
    assert chain.newest("tokenizer", "test") == first
    assert chain.newest("tokenizer", "other").manifest.config["tokenizer"]["vocab_size"] == 300
    (first.folder / MANIFEST).write_text("{")
    assert chain.newest("tokenizer", "test") is None
