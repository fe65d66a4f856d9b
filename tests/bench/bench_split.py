"""What the training text is worth: the same model trained on 85 and on 90 percent of the target, and each arm refitted.

    make split-results          about half an hour on two cores, into docs/results/split.json and split.md

The first row is a model of characters, 4 x 128, 300 steps of 8,192: trained on the first 85 % of Tiny Shakespeare's
characters, as Folio's arms once were, and on the first 90 %, as the lecture's are. The others are the demo's arms, with
their trials reported (`refit: false`) and with refits. All losses are of the last 10 %, paired by window.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.loading import load_config
from pipeline.config.schema import Config
from pipeline.corpus.target_splits import target_text
from pipeline.evaluation.arms import read_arm
from pipeline.evaluation.bits_per_byte import bits_per_byte
from pipeline.evaluation.intervals import Estimate, Losses, gain
from pipeline.evaluation.scoring import score_files, stacked
from pipeline.experiments.measurements import record
from pipeline.graph.runner import Selection, run_nodes
from pipeline.graph.stage_counts import TargetCounts
from pipeline.graph.store import Store
from pipeline.graph.work import Artifact
from pipeline.runtime.precision import default_device
from pipeline.runtime.progress import Progress
from pipeline.saved_models.weights import load_shape
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.tokens.shard import target_shard
from pipeline.tokens.tokenizer import load_tokenizer
from tests.bench.results_page import results_page

RESULTS = Path("docs/results")
STEPS, BATCH, RESAMPLES = 300, 8192, 10_000
OLD_SHARE = 0.85  # of the characters, that the arms were trained on before


def main() -> None:
    """Train what is not trained yet, and write both files."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("artifacts/split"), help="Folder for texts and artifacts.")
    options = parser.parse_args()
    rows = [split_row(options.work), *arm_rows(options.work)]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "split.json").write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "split.md").write_text(as_page(rows))


def split_row(work: Path) -> dict[str, Any]:
    """The model of characters on both splits."""
    store = Store(work / "artifacts")
    whole = run_nodes(characters({"name": "tiny-shakespeare"}, 0.1), store, Selection(last="target"))["target"]
    refit, scored = target_text(whole.folder, "refit"), target_text(whole.folder, "validation")
    shorter = refit[: int(OLD_SHARE * len(refit + scored))]
    path = (work / "shorter.txt").absolute()
    path.write_bytes((shorter + scored).encode())
    share = len(scored) / len(shorter + scored)
    configs = characters({"path": str(path)}, share), characters({"name": "tiny-shakespeare"}, 0.1)
    old, new = (scored_arm(run_nodes(config, store, Selection(last="scratch")), "scratch") for config in configs)
    return row("characters, 4 x 128, from scratch: 85 % and 90 % of the characters", old, new)


def characters(target: Mapping[str, Any], validation: float) -> Config:
    """A run without a corpus whose refits take STEPS steps, if its trial is best at its end."""
    selection = 0.05
    steps = round(STEPS * (1 - selection / (1 - validation)))
    return Config.model_validate(
        {
            "name": "split",
            "target": {**target, "selection": selection, "validation": validation},
            "tokenizer": {"kind": "char"},
            "model": {"layers": 4, "width": 128, "heads": 4, "context": 256},
            "scratch": {
                "learning_rates": [3e-3], "max_steps": steps, "batch_tokens": BATCH, "micro_batch": 16,
                "evaluate_every": 20, "patience": 0,
            },
            "launch": {"ranks": 1},
        }
    )  # fmt: skip


def arm_rows(work: Path) -> list[dict[str, Any]]:
    """The arms of the demo, trials and refits."""
    store = Store(work / "artifacts")
    trials = ["scratch.refit=false", "finetune.refit=false"]
    runs = [
        run_nodes(load_config(Path("configs/demo.yaml"), changes), store, Selection(last="finetune"))
        for changes in (trials, [])
    ]
    return [
        row(f"demo, {arm}: trials and refits", *(scored_arm(artifacts, arm) for artifacts in runs))
        for arm in ("scratch", "finetune")
    ]


def scored_arm(artifacts: Mapping[str, Artifact], name: str) -> tuple[Losses, float, tuple[int, ...]]:
    """Losses of the validation text by seed, what one nat per token is in bits per byte, and the steps of each seed."""
    arm, target = read_arm(artifacts[name]), artifacts["target"].counts_as(TargetCounts)
    windows = ScoringWindows.of_shard(
        target_shard(artifacts["shards"].folder, "validation"),
        tokenizer_sha256=load_tokenizer(artifacts["tokenizer"].folder).sha256,
        context=load_shape(arm.model_json).context,
    )
    files = dict.fromkeys(arm.weights, arm.model_json)
    losses = stacked(score_files(files, windows, default_device(), Progress("split")), arm.weights)
    return losses, bits_per_byte(windows.num_tokens, target.validation_bytes), arm.best_step_per_seed


def row(
    name: str, old: tuple[Losses, float, tuple[int, ...]], new: tuple[Losses, float, tuple[int, ...]]
) -> dict[str, Any]:
    bits = new[1]
    change: Estimate = gain(old[0], new[0], resamples=RESAMPLES, seed=0).scaled(bits)
    means = [float(np.mean(losses.per_seed())) * bits for losses, _, _ in (old, new)]
    figure = {
        "name": name, "value": round(change.mean, 3), "unit": "bits/byte less", "target": None,
        "ci95": [round(end, 3) for end in change.ci95], "before": round(means[0], 3), "after": round(means[1], 3),
        "steps_before": list(old[2]), "steps_after": list(new[2]),
    }  # fmt: skip
    return record(figure, "make split-results")


def as_page(rows: Sequence[Mapping[str, Any]]) -> str:
    about = [
        "`make split-results`: bits/byte of the last tenth of Tiny Shakespeare, mean over three seeds, 95 % interval",
        "of the difference, paired by window. Why: [choose, then refit](../decisions/choose-then-refit.md).",
    ]
    columns = ("what", "before", "after", "less", "95 %", "steps before", "steps after")
    return results_page("What training on all of the training part is worth", about, columns, map(_cells, rows), rows)


def _cells(row: Mapping[str, Any]) -> list[object]:
    steps = [", ".join(map(str, row[key])) for key in ("steps_before", "steps_after")]
    low, high = row["ci95"]
    return [row["name"], row["before"], row["after"], row["value"], f"{low} to {high}", *steps]


if __name__ == "__main__":
    main()
