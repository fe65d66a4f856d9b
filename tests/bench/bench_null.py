"""Refits where nothing tells the parts of a text apart: fifty synthetic targets, each from one random source of words.

    make null-results           about an hour on two cores, into docs/results/null.json and null.md

The validation text is like the rest, so that (1) a refit on as much text as the trials had must lose what they lose,
and what a refit on all of it loses less is what more text is worth; and (2) two halves of the seeds are the same arm,
so that the interval of the gain of one over the other must hold zero in 95 of 100 cases.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.config.schema import Config
from pipeline.evaluation.arms import read_arm
from pipeline.evaluation.intervals import Losses, gain
from pipeline.evaluation.scoring import score_windows
from pipeline.experiments.measurements import record
from pipeline.graph.runner import Selection, run_nodes
from pipeline.graph.store import Store
from pipeline.graph.work import Artifact
from pipeline.saved_models.weights import load_model
from pipeline.tokens.scoring_windows import scoring_windows
from pipeline.tokens.tokenizer import load_tokenizer
from tests.bench.results_page import results_page

RESULTS = Path("docs/results")
TARGETS, CHARACTERS, WORDS, CONTEXT = 50, 60_000, 60, 64
SEEDS, STEPS, RESAMPLES, FRESH_TEXTS = 4, 200, 400, 8
SELECTION, VALIDATION = 0.05, 0.1
COVERAGE = (0.93, 0.97)


def main() -> None:
    """Train on the targets that are not in the results yet, and write both files."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("artifacts/null"), help="Folder for texts and artifacts.")
    parser.add_argument("--targets", type=int, default=TARGETS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows = [target_row(options.work, number) for number in range(options.targets)]
    figures = [record(figure, "make null-results") for figure in figures_of(rows)]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "null.json").write_text(json.dumps({"figures": figures, "targets": rows}, indent=1) + "\n")
    (RESULTS / "null.md").write_text(as_page(figures))


def target_row(work: Path, number: int) -> dict[str, Any]:
    """Mean losses in nats per character on fresh text, and how many intervals of a gain that is none hold zero."""
    file = work / f"{number:02d}.json"
    if file.exists():
        known: dict[str, Any] = json.loads(file.read_text())
        return known
    source = Source(number)
    text, store = source.text(CHARACTERS), Store(work / "artifacts")
    # As many characters for its refits as the others' trials have.
    shorter = text[: round(CHARACTERS * (1 - SELECTION))]
    paths = [written(work / f"{number:02d}-{name}.txt", one) for name, one in (("whole", text), ("shorter", shorter))]
    trials, refits = (arm(store, paths[0], refit=refit) for refit in (False, True))
    validation = CHARACTERS * VALIDATION / len(shorter)
    # Refits take as many epochs as trials: with so many steps these take as many steps as the others' trials.
    steps = round(STEPS * (1 - SELECTION / (1 - validation)))
    fewer = arm(store, paths[1], refit=True, validation=validation, steps=steps)
    fresh = [source.text(int(CHARACTERS * VALIDATION)) for _ in range(FRESH_TEXTS)]
    losses = {
        name: scored(artifacts, fresh) for name, artifacts in (("trials", trials), ("refits", refits), ("fewer", fewer))
    }
    held = [
        covers_zero(one, left, number)
        for one in losses["refits"]
        for left in combinations(range(SEEDS), SEEDS // 2)
        if 0 in left  # each pair of halves once
    ]
    row = {name: float(np.mean([one.per_seed().mean() for one in several])) for name, several in losses.items()}
    row |= {"intervals": len(held), "hold_zero": sum(held)}
    file.write_text(json.dumps(row) + "\n")
    return row


class Source:
    """Words that follow each other by a random table, and lines of them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        letters = list("abcdefghijklmnopqrstuvwxyz")
        self.words = ["".join(self.rng.choice(letters, self.rng.integers(1, 8))) for _ in range(WORDS)]
        self.table = self.rng.dirichlet([0.05] * WORDS, WORDS).cumsum(axis=1)

    def text(self, characters: int) -> str:
        words, at, length = [], 0, 0
        while length < characters:
            at = min(int(np.searchsorted(self.table[at], self.rng.random())), WORDS - 1)
            words.append(self.words[at] + ("\n" if self.rng.random() < 0.1 else " "))
            length += len(words[-1])
        return "".join(words)[:characters]


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path.absolute()


def arm(
    store: Store, path: Path, *, refit: bool, validation: float = VALIDATION, steps: int = STEPS
) -> Mapping[str, Artifact]:
    """A tiny model of characters, trained from scratch on one target."""
    values = {
        "name": "null",
        "target": {"path": str(path), "selection": SELECTION, "validation": validation},
        "tokenizer": {"kind": "char"},
        "model": {"layers": 1, "width": 32, "heads": 2, "context": CONTEXT},
        "scratch": {
            "learning_rates": [5e-3, 1e-2], "max_steps": steps, "batch_tokens": 2048, "micro_batch": 32,
            "evaluate_every": 10, "patience": 0, "seeds": list(range(1, SEEDS + 1)), "refit": refit,
        },
        "launch": {"ranks": 1, "threads": 1},
    }  # fmt: skip
    return run_nodes(Config.model_validate(values), store, Selection(last="scratch"))


def scored(artifacts: Mapping[str, Artifact], texts: Sequence[str]) -> list[Losses]:
    """The losses of the arm's seeds on each text."""
    trained, tokenizer = read_arm(artifacts["scratch"]), load_tokenizer(artifacts["tokenizer"].folder)
    models = [load_model(weights, trained.model_json, torch.device("cpu")) for weights in trained.weights]
    found = []
    for text in texts:
        inputs, targets = scoring_windows(tokenizer.encode(text), CONTEXT)
        scores = [score_windows(model, inputs, targets, "cpu") for model in models]
        found.append(Losses(np.stack([nats for nats, _ in scores]), scores[0][1]))
    return found


def covers_zero(losses: Losses, left: Sequence[int], seed: int) -> bool:
    right = [other for other in range(SEEDS) if other not in left]
    halves = (Losses(losses.nats[list(half)], losses.tokens) for half in (left, right))
    estimate = gain(*halves, resamples=RESAMPLES, seed=seed)
    return estimate.low <= 0 <= estimate.high


def figures_of(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for name, first, second in (
        ("trials less refits on as much text", "trials", "fewer"),
        ("refits on less text less refits on all of it", "fewer", "refits"),
    ):
        changes = np.array([row[first] - row[second] for row in rows])
        error = float(changes.std(ddof=1) / np.sqrt(len(changes)))
        yield {
            "name": f"{name}, mean over {len(rows)} targets", "value": round(float(changes.mean()), 5),
            "unit": "nats/character", "target": None, "standard_error": round(error, 5),
        }  # fmt: skip
    intervals = sum(row["intervals"] for row in rows)
    share = sum(row["hold_zero"] for row in rows) / intervals
    low, high = COVERAGE
    yield {
        "name": f"intervals of no gain that hold zero, of {intervals:,}", "value": round(share, 3), "unit": "",
        "target": None, "within": [low, high],
    }  # fmt: skip


def as_page(figures: Sequence[Mapping[str, Any]]) -> str:
    about = [
        "`make null-results`: fifty synthetic targets whose validation text is like the rest; losses on fresh text of",
        "the same sources. The first difference is to be zero but for its error. Why:",
        "[choose, then refit](../decisions/choose-then-refit.md).",
    ]
    columns = ("figure", "value", "standard error, or range asked for", "")
    heading = "Refits where nothing tells the parts of a text apart"
    return results_page(heading, about, columns, map(_row, figures), figures)


def _row(figure: Mapping[str, Any]) -> tuple[str, str, str, str]:
    value = f"{figure['value']} {figure['unit']}"
    if "within" not in figure:
        return figure["name"], value, str(figure["standard_error"]), ""
    low, high = figure["within"]
    return figure["name"], value, f"{low} to {high}", "met" if low <= figure["value"] <= high else "**missed**"


if __name__ == "__main__":
    main()
