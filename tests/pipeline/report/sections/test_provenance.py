from __future__ import annotations

from typing import Any

from pipeline.report.finished_run import FinishedRun
from pipeline.report.sections import provenance


def test_variants_come_after_the_run_by_the_names_that_plan_prints(whole: Any) -> None:
    own = ["target", "corpus", "tokenizer", "shards", "pretrain", "scratch", "finetune"]
    leak = ["leak.corpus", "leak.shards", "leak.pretrain", "leak.finetune"]
    others = ["fewer steps.scratch", "short.scratch", "small.pretrain", "small.scratch", "small.finetune"]
    assert list(whole.report.cost) == [*own, *leak, *others]
    assert list(whole.report.provenance.fingerprints) == list(whole.report.cost)


def test_the_commit_is_that_of_the_input_that_was_finished_last(chain: Any) -> None:
    chain.refinished("tokenizer", "2026-01-03T00:00:00+00:00", "fedcba987654")
    chain.refinished("shards", "2026-01-02T00:00:00+00:00", "aaaaaaaaaaaa")
    assert provenance.provenance_section(FinishedRun.of(chain.work())).git_commit == "fedcba987654"


def test_cost_names_what_the_branches_took_of_a_stage(whole: Any) -> None:
    cost = whole.report.cost
    assert cost["pretrain"].branch_seconds == 4 * 0.75
    assert cost["scratch"].branch_seconds == 0
    assert (cost["scratch"].seconds, cost["scratch"].rank_seconds, cost["scratch"].ranks) == (12.5, 25.0, 1)
    assert (cost["scratch"].tokens_per_second, cost["target"].tokens_per_second) == (5000.0, None)


def test_config_in_the_report_is_that_of_the_run_and_not_of_a_variant(whole: Any) -> None:
    config = whole.report.provenance.config
    assert config["name"] == "tiny"
    assert config["model"]["context"] == 16
    assert config["target"] == {"path": "${FOLIO_DATA}/words.txt"}, "variables stay as they were written"
    assert "weights" not in config


def test_target_repeats_what_its_stage_counted(chain: Any) -> None:
    run = FinishedRun.of(chain.work())
    target, counts = provenance.target_section(run), chain.artifacts["target"].manifest.counts
    assert (target.name, target.sha256, target.origin) == ("words.txt", "0" * 64, "path")
    assert target.val_bytes == counts["validation_bytes"] == target.validation_characters
    assert target.val_tokens == target.validation_characters, "one token a character"


def test_contamination_reports_the_shards_and_not_the_parts(chain: Any) -> None:
    chain.recounted("shards", val_ngrams_left_in_shards=4)
    contamination = provenance.contamination_section(FinishedRun.of(chain.work()))
    assert contamination is not None
    assert contamination.model_dump() == {
        "ngram_words": 13,
        "documents_removed": 2,
        "bytes_removed": 640,
        "val_ngrams_total": 70,
        "val_ngrams_left_in_shards": 4,
        "corpus_origin": "sources",
    }


def test_sources_say_license_and_size(written: Any) -> None:
    (source,) = written.content["provenance"]["sources"]
    assert source == {"name": "books <&>", "license": "CC0 1.0", "revision": None, "documents": 7, "bytes": 9000}
