"""What is read off a range test, and one with a real training of a tiny model."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from pipeline.config.schema import Config
from pipeline.distributed.job import Job
from pipeline.errors import DataError, Diverged
from pipeline.experiments.lr_range import suggestion
from pipeline.experiments.lr_range.rising_rate import Reading
from pipeline.experiments.lr_range.suggestion import SuggestedRates, as_json, as_text, find_rates, suggested
from pipeline.graph.runner import Selection, run_nodes
from pipeline.graph.store import Store


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A tiny model on generated text."""
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    words = random.Random(0).choices(["the", "king", "and", "queen", "of", "night", "speak", "no", "more"], k=3000)
    (tmp_path / "text.txt").write_text(" ".join(words))
    return Config.model_validate(
        {
            "name": "x",
            "target": {"path": str(tmp_path / "text.txt")},
            "tokenizer": {"kind": "char"},
            "model": {"layers": 1, "width": 16, "heads": 2, "context": 16},
            "scratch": {"learning_rates": [1e-2], "batch_tokens": 256},
            "launch": {"ranks": 1, "threads": 1, "workers": 1},
        }
    )


@pytest.mark.slow
def test_rates_are_found_where_the_loss_falls_and_blows_up(config: Config, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    run_nodes(config, store, Selection(last="shards"))
    rates = find_rates(config, "scratch", store, low=1e-4, high=1e3, steps=120)
    losses = [reading.smoothed for reading in rates.readings]
    assert len(losses) < 120, "it ends where the loss blows up"
    assert 1e-4 < rates.steepest < rates.lowest < 10
    assert min(losses) < losses[0] - 0.3
    assert json.loads((rates.folder / "lr-range.json").read_text()) == as_json(rates)
    assert (rates.folder / "lr-range.png").stat().st_size > 1000


def test_a_loss_that_blows_up_at_the_lowest_rates_is_refused(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    run_nodes(config, store, Selection(last="shards"))
    jobs: list[Job] = []

    def launch(job: Job) -> dict[str, object]:
        jobs.append(job)
        return {"readings": [vars(Reading(1.0, 3.0, 3.0))] * 9}

    monkeypatch.setattr(suggestion, "launch_job", launch)
    with pytest.raises(Diverged, match=r"blew up after 9 of 120 steps, near a rate of 0\.01\. Start lower: --low"):
        find_rates(config, "scratch", store, low=1e-2, high=1.0, steps=120)
    assert jobs[0].config_slice["range"] == {"low": 1e-2, "high": 1.0, "steps": 120}
    assert jobs[0].entry_point.endswith("rising_rate:range_test_on_rank")


def test_inputs_that_are_not_finished_are_named(config: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Stage scratch needs tokenizer, shards, which are not finished"):
        find_rates(config, "scratch", Store(tmp_path), low=1e-4, high=1, steps=20)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([4.0, 4.0, 3.0, 2.5, 2.4, 2.6], (1e-3, 1e-1, (5e-4, 1e-3, 2e-3))),  # falls fastest long before its lowest
        ([4.0, 4.0, 3.9, 2.5, 2.6, 2.7], (1e-2, 1e-2, (5e-4, 1e-3, 2e-3))),  # and right at it
    ],
)
def test_suggestion_is_the_more_careful_of_two_rules(losses: list[float], expected: tuple[object, ...]) -> None:
    readings = [Reading(10.0**-at, loss, loss) for at, loss in zip(range(5, -1, -1), losses, strict=True)]
    assert suggested(readings) == expected


def test_operator_reads_every_tenth_reading_and_the_line_for_the_config(tmp_path: Path) -> None:
    readings = tuple(Reading(at / 10, 9.0, float(at)) for at in range(1, 21))
    rates = SuggestedRates(tmp_path, readings, steepest=0.5, lowest=2.0, grid=(0.1, 0.2, 0.4))
    lines = as_text(rates, "scratch").splitlines()
    assert lines[1:3] == ["  2.00e-01    2.0000", "  4.00e-01    4.0000"]
    assert len(lines) == 1 + 10 + 2
    assert lines[-2] == "falls fastest at 0.5, is lowest at 2"
    assert lines[-1] == "to try:  scratch: {learning_rates: [0.1, 0.2, 0.4]}"
    assert as_text(rates, "pretrain").endswith("to try:  pretrain: {learning_rate: 0.2}")
