"""The chain with stand-in stages: small functions below are what the graph's stages name."""

import dataclasses
import hashlib
import json

import pytest

from pipeline.errors import DataError, EnvironmentFault
from pipeline.graph import runner, stages
from pipeline.graph.manifest import OUTSIDE
from pipeline.graph.runner import Selection
from pipeline.graph.status import states


def test_a_second_run_does_nothing(chain, config, calls):
    first = runner.run_nodes(config(), chain)
    assert list(first) == list(stages.NAMES)
    calls.clear()
    again = runner.run_nodes(config(), chain)
    assert not calls
    assert again == first


def test_a_changed_field_runs_exactly_what_depends_on_it(chain, config, calls):
    runner.run_nodes(config(), chain)
    calls.clear()
    runner.run_nodes(config(finetune={"max_steps": 7}), chain)
    assert calls == ["finetune", "report"]
    calls.clear()
    runner.run_nodes(config(tokenizer={"vocab_size": 300}), chain)
    assert calls == ["tokenizer", "shards", "pretrain", "scratch", "finetune", "report"]


def test_presentation_fields_make_nothing_stale(chain, config, calls):
    runner.run_nodes(config(), chain)
    calls.clear()
    runner.run_nodes(config(pretrain={"save_every": 7}, launch={"ranks": 2}), chain)
    assert not calls


def test_two_runs_that_agree_share_artifacts(chain, config, calls):
    runner.run_nodes(config(), chain)
    calls.clear()
    runner.run_nodes(config().model_copy(update={"name": "other"}), chain)
    assert not calls


def test_a_stage_alone_needs_its_inputs(chain, config):
    with pytest.raises(
        DataError,
        match=r"Stage corpus needs target, which is not finished\. Run `folio run CONFIG --until target` first\.",
    ):
        runner.run_nodes(config(), chain, Selection("corpus", "corpus"))


def test_a_full_disk_is_one_line_and_keeps_what_was_finished(chain, monkeypatch, config):
    rows = tuple(
        dataclasses.replace(stage, function="stand_in_stages:fail") if stage.name == "shards" else stage
        for stage in stages.STAGES
    )
    monkeypatch.setattr(stages, "STAGES", rows)
    with pytest.raises(EnvironmentFault, match=r"No space left for .*text\.txt \(.* free\)"):
        runner.run_nodes(config(), chain)
    assert [s.stage for s in states(config(), chain) if s.state == "done"] == ["target", "corpus", "tokenizer"]


def test_a_stage_is_given_what_was_fingerprinted_and_leaves_what_it_was(chain, config, texts):
    artifacts = runner.run_nodes(config(), chain)
    target = artifacts["target"]
    kept = json.loads((target.folder / OUTSIDE).read_text())
    digest = hashlib.sha256(b"the text of my.txt").hexdigest()
    assert kept == {"target": {"shown": "my.txt", "kind": "file", "identity": {"sha256": digest}}}
    assert set(target.manifest.outside) == {"target"}
    assert OUTSIDE in [entry.path for entry in target.manifest.files]
    assert set(artifacts["corpus"].manifest.outside) == {"texts/*.txt"}
    assert artifacts["tokenizer"].manifest.outside is None
    assert str(texts) not in (artifacts["corpus"].folder / OUTSIDE).read_text()


def test_manifests_note_where_a_text_was_as_the_config_says_it(chain, config):
    artifacts = runner.run_nodes(config(), chain)
    assert artifacts["target"].manifest.config["target"]["path"] == "my.txt"
    assert artifacts["corpus"].manifest.config["corpus"]["sources"][0]["path"] == "texts/*.txt"
