"""Experiment 24: a rank whose loss is not a number, or a thousand times too high."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from pipeline.runtime.files import sha256_of
from tests.faults.experiments.launched_folio import LaunchedFolio
from tests.faults.experiments.outcome import OTHER, RECOVERED, WRONG, Outcome, recovery, refused, then_recovered
from tests.faults.experiments.workshop import LONG, Workshop, artifact, last_step, losses

STEP = 12  # whose update is left out; steps are counted from 0 where faults are planned
LATE_STEP = 150  # when enough losses were seen to tell a spike
WORDS = {"nan": "is nan", "spike": "times 1000", "rise": "times 2, with pretrain.spike 8,"}
IMPATIENT = "--set pretrain.skip_limit=0"


def bad_losses(shop: Workshop) -> list[Outcome]:
    outcomes, weights = [], set()
    for action in ("nan", "spike"):
        for rank in (0, 1):
            row, digest = skipped(shop, action, rank)
            outcomes.append(row)
            weights.add(digest)
    alike = len(weights) == 1
    rise, _ = skipped(shop, "rise", 1, at=LATE_STEP, options=f"{LONG} --set pretrain.spike=8")
    what = "the four runs above end with the same weights: one rank's bad loss counts for all"
    found = "" if alike else f"{len(weights)} different weights"
    outcomes.append(Outcome(24, what, RECOVERED, RECOVERED if alike else WRONG, alike, detail=found))
    return [*outcomes, rise, *(diverged(shop, action) for action in ("nan", "spike"))]


def skipped(shop: Workshop, action: str, rank: int, at: int = STEP, options: str = "") -> tuple[Outcome, str]:
    """A step that all ranks leave out and whose documents are named; and the hash of the weights at the end."""
    folder = shop.folder(f"skip-{action}-{rank}")
    ended = LaunchedFolio(folder, shop.pretrain(options), FOLIO_FAULT=f"backward:{rank}:{at}:{action}").end()
    lines = steps(folder)
    left_out = [line["step"] for line in lines if line.get("skipped")]
    problems = [] if ended.code == 0 else [f"exit code {ended.code}"]
    problems += [] if left_out == [at + 1] else [f"left out: {left_out}"]
    problems += [] if all(line["documents"] for line in lines if line.get("skipped")) else ["no documents named"]
    undisturbed = shop.baseline(LONG if options else "").losses
    problems += [] if earlier(losses(folder), at) == earlier(undisturbed, at) else ["earlier losses are others"]
    problems += not_finite(folder)
    problems += ["the operator reads a traceback"] if ended.has_traceback else []
    said = next((line.strip() for line in ended.stderr.splitlines() if "left alone" in line), "")
    silent = ended.code == 0 and bool(problems) and not ended.has_traceback
    outcome = RECOVERED if not problems else WRONG if silent else OTHER
    what = f"rank {rank}'s loss {WORDS[action]} at step {at + 1}: all ranks leave it out"
    row = Outcome(
        24, what, RECOVERED, outcome, not problems, ended.code, said, orphans=ended.orphans, detail="; ".join(problems)
    )
    return row, sha256_of(artifact(folder, "pretrain") / "model.safetensors") if ended.code == 0 else ""


def diverged(shop: Workshop, action: str) -> Outcome:
    """Where no step may be left out training stops; without the fault the same command brings it to its right end."""
    folder = shop.folder(f"diverged-{action}")
    fault = f"backward:1:{STEP}:{action}"
    ended = LaunchedFolio(folder, shop.pretrain(IMPATIENT), FOLIO_FAULT=fault).end()
    what = f"rank 1's loss {WORDS[action]}, with pretrain.skip_limit 0"
    row = refused(24, what, ended, 7, ["diverged", f"step {STEP + 1}"], problems=not_finite(folder))
    reached = last_step(folder)
    again = recovery(folder, shop.pretrain(IMPATIENT), shop.baseline())
    return then_recovered(row, again, reached - again.ended.resumed)


def steps(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (artifact(folder, "pretrain") / "metrics.jsonl").read_text().splitlines()]


def earlier(found: list[Any], step: int) -> list[Any]:
    return [entry for entry in found if entry[0][0] <= step]


def not_finite(folder: Path) -> list[str]:
    """Weights below an artifact that hold something that is no number."""
    files = artifact(folder, "pretrain").rglob("*.safetensors")
    lost = [
        path for path in files if any(not math.isfinite(float(tensor.sum())) for tensor in load_file(path).values())
    ]
    return [f"{path.parent.name}/{path.name} is not finite" for path in lost]
