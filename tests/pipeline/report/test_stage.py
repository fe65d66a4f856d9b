from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.corpus.target_splits import TARGET_SPLITS, target_text
from pipeline.errors import DataError
from pipeline.graph.manifest import FileEntry
from pipeline.graph.variants import LEAK
from pipeline.report import stage
from pipeline.saved_models.weights import load_model
from pipeline.tokens.tokenizer import load_tokenizer


@torch.no_grad()
def nats_token_by_token(weights: Path, shape: Path, tokens: list[int], context: int) -> float:
    """The loss of a text, one forward per token, with what its window has shown before it."""
    model = load_model(weights, shape)
    nats = 0.0
    for place in range(1, len(tokens)):
        start = (place - 1) // context * context
        logits = model(torch.tensor([tokens[start:place]]))[0, -1]
        nats -= float(torch.log_softmax(logits.double(), dim=0)[tokens[place]])
    return nats


def test_losses_equal_a_token_by_token_sum(finished: Any, written: Any) -> None:
    tokenizer = load_tokenizer(finished.artifacts["tokenizer"].folder)
    text = (finished.artifacts["target"].folder / "validation.txt").read_text(encoding="utf-8")
    tokens = [tokenizer.end_of_text, *tokenizer.encode(text).tolist()]
    pretrained = finished.artifacts["pretrain"].folder
    scratch = finished.artifacts["scratch"].folder
    expected = {
        "zero_shot": [nats_token_by_token(pretrained / "model.safetensors", pretrained / "model.json", tokens, 16)],
        "scratch": [
            nats_token_by_token(
                scratch / f"trials/refit-lr-0.002-seed-{seed}/last.safetensors", scratch / "model.json", tokens, 16
            )
            for seed in (1, 2)
        ],
    }
    arms = written.content["arms"]
    for name, nats in expected.items():
        per_token = arms[name]["val_nats_per_token"]["per_seed"]
        assert per_token == pytest.approx([total / (len(tokens) - 1) for total in nats], rel=1e-5)
        bits = arms[name]["val_bits_per_byte"]["mean"]
        assert bits == pytest.approx(np.mean(nats) / math.log(2) / len(text.encode()), rel=1e-5)
        assert arms[name]["val_nats_per_char"]["mean"] == pytest.approx(np.mean(nats) / len(text), rel=1e-5)
    assert written.content["target"]["val_tokens"] == len(tokens) - 1


def test_report_alone_tells_which_characters_trained_chose_and_were_scored(finished: Any, written: Any) -> None:
    target, folder = written.content["target"], finished.artifacts["target"].folder
    text = "".join((folder / name).read_text(encoding="utf-8") for name in ("refit.txt", "validation.txt"))
    cut = target["characters"] - target["validation_characters"]
    stretches = target["selection_stretches"]
    edges = [0, *(at for stretch in stretches for at in stretch), cut]
    parts = {
        "train": "".join(text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)),
        "selection": "".join(text[start:end] for start, end in stretches),
        "refit": text[:cut],
        "validation": text[cut:],
    }
    assert parts == {split: target_text(folder, split) for split in TARGET_SPLITS}
    assert [target[f"{split}_characters"] for split in ("train", "selection")] == [
        len(parts["train"]),
        len(parts["selection"]),
    ]
    for arm in ("scratch", "finetune"):
        assert written.content["arms"][arm]["refit"] == {"characters": cut, "chosen_step": 20, "chosen_of": 30}


def test_same_artifacts_give_the_same_bytes(chain: Any, written: Any) -> None:
    again = chain.work()
    stage.make_report(again)
    names = sorted(path.name for path in again.folder.iterdir())
    assert names == ["gain.png", "report.html", "report.json", "report.md"]
    for name in names:
        assert (again.folder / name).read_bytes() == (written.folder / name).read_bytes()


def test_report_holds_every_field_of_format_1(written: Any) -> None:
    found = written.content
    assert found["format"] == 1
    assert {"name", "sha256", "val_bytes", "val_tokens"} <= found["target"].keys()
    assert list(found["arms"]) == ["scratch", "zero_shot", "finetune"]
    fields = {"params", "learning_rate", "steps", "best_step", "seeds", "last_step_val_bits_per_byte"}
    for arm in found["arms"].values():
        assert fields <= arm.keys()
        for unit in ("val_nats_per_token", "val_bits_per_byte", "val_nats_per_char"):
            assert arm[unit].keys() == {"mean", "ci95", "per_seed"}
        low, high = arm["last_step_val_bits_per_byte_ci95"]
        assert low < arm["last_step_val_bits_per_byte"] < high
    pretrain = {"tokens", "steps", "train_nats_per_token", "val_nats_per_token", "gap", "gap_ci95"}
    assert pretrain <= found["pretrain"].keys()
    contamination = {"ngram_words", "documents_removed", "bytes_removed", "val_ngrams_total"}
    assert contamination | {"val_ngrams_left_in_shards"} <= found["contamination"].keys()
    assert all(found["controls"].values())
    assert {"same_tokenizer", "same_model", "same_split", "same_windows"} <= found["controls"].keys()
    cost = {"seconds", "branch_seconds", "tokens_per_second", "ranks", "rank_seconds", "peak_memory_bytes"}
    assert all(stage.keys() == cost for stage in found["cost"].values())
    assert {"config", "fingerprints", "versions", "git_commit", "sources"} == found["provenance"].keys()
    assert found["provenance"]["sources"][0].keys() == {"name", "license", "revision", "documents", "bytes"}
    assert {"scratch", "finetune", "prompt"} <= found["samples"].keys()


def test_a_run_without_a_corpus_reports_scratch_alone(chain: Any, write: Any) -> None:
    chain.without_pretraining()
    written = write(chain)
    assert list(written.content["arms"]) == ["scratch"]
    assert [written.content[name] for name in ("gain", "curve", "leak", "pretrain", "imported", "contamination")] == [
        None
    ] * 6
    assert written.counts.gain_bits_per_byte is None and written.counts.finetune_bits_per_byte is None
    assert "nothing was pretrained" in written.html


def test_counts_repeat_the_report(written: Any) -> None:
    report = written.report
    counts = written.counts.model_dump(mode="json", exclude_defaults=True)
    assert counts == {
        "gain_bits_per_byte": report.gain.bits_per_byte.mean,
        "ci95": list(report.gain.bits_per_byte.ci95),
        "scratch_bits_per_byte": report.arms.scratch.val_bits_per_byte.mean,
        "zero_shot_bits_per_byte": report.arms.zero_shot.val_bits_per_byte.mean,
        "finetune_bits_per_byte": report.arms.finetune.val_bits_per_byte.mean,
        "html": "report.html",
    }


def test_stdout_stays_empty_and_the_headline_goes_to_stderr(written: Any) -> None:
    assert written.out == ""
    assert "Pretraining helps on words.txt: it saves" in written.err


def test_overlapping_windows_score_every_token_once_with_more_context(chain: Any, write: Any, written: Any) -> None:
    chain.section = chain.section.model_copy(update={"stride": 4})
    overlapping, plain = write(chain).report, written.report
    assert overlapping.target.val_tokens == plain.target.val_tokens
    losses = [report.arms.finetune.val_bits_per_byte.mean for report in (overlapping, plain)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_damaged_weights_are_refused(chain: Any) -> None:
    artifact = chain.artifacts["scratch"]
    entries = tuple(entry.model_copy(update={"sha256": "f" * 64}) for entry in artifact.manifest.files)
    manifest = artifact.manifest.model_copy(update={"files": entries})
    chain.artifacts["scratch"] = type(artifact)("scratch", artifact.folder, manifest)
    with pytest.raises(DataError, match="another sha256"):
        stage.make_report(chain.work())


def test_shards_of_another_tokenizer_are_refused(chain: Any, tmp_path: Path) -> None:
    artifact = chain.artifacts["tokenizer"]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"kind": "char", "characters": "abc"}))
    manifest = artifact.manifest.model_copy(update={"files": ()})
    chain.artifacts["tokenizer"] = type(artifact)("tokenizer", tmp_path, manifest)
    with pytest.raises(DataError, match="was written with tokenizer"):
        stage.make_report(chain.work())


def test_a_damaged_variant_is_refused(whole_chain: Any, tmp_path: Path) -> None:
    entries = (FileEntry(path="gone", bytes=1, sha256="f" * 64),)
    artifact = whole_chain.variants[LEAK]["finetune"]
    damaged = replace(artifact, manifest=artifact.manifest.model_copy(update={"files": entries}))
    variants = whole_chain.variants | {LEAK: whole_chain.variants[LEAK] | {"finetune": damaged}}
    with pytest.raises(DataError, match="gone is missing"):
        stage.make_report(replace(whole_chain, root=tmp_path, variants=variants).work())


def test_imported_weights_are_named_and_doubted(chain: Any, write: Any) -> None:
    del chain.artifacts["corpus"]
    files = {"config.json": "1" * 64, "model.safetensors": "2" * 64}
    chain.recounted("pretrain", imported_files=files, largest_logit_difference=1e-6)
    written = write(chain)
    content = written.content
    assert content["imported"] == {"files": files}
    assert (content["pretrain"], content["contamination"], content["curve"]) == (None, None, None)
    assert "no_validation_ngrams_in_shards" not in content["controls"]
    assert [caveat for caveat in content["caveats"] if "cannot be excluded that it holds the validation text" in caveat]
    assert "zero_shot" in content["arms"]
    for page in (written.markdown, written.html):
        assert "2" * 64 in page
        assert "whether they have seen the validation text is unknown" in page
