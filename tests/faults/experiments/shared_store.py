"""Experiments 16 and 17: two runs on one store, and a run that is killed between any two of its stages."""

from __future__ import annotations

import signal
from pathlib import Path

from pipeline.graph.stages import NAMES
from pipeline.runtime.files import sha256_of
from tests.faults.experiments.blows import at_step, to_launcher
from tests.faults.experiments.launched_folio import Ended, LaunchedFolio, done
from tests.faults.experiments.outcome import (
    OTHER,
    RECOVERED,
    WRONG,
    Outcome,
    Recovery,
    recovered,
    recovery,
    refused,
)
from tests.faults.experiments.workshop import (
    LONG,
    Workshop,
    artifact,
    deviation,
    last_step,
    leftovers,
    losses,
    result,
)


def two_runs(shop: Workshop) -> list[Outcome]:
    """The second one is refused and the first one goes on; a killed holder's lock is taken over."""
    baseline, folder = shop.baseline(LONG), shop.folder("two-runs")
    first = LaunchedFolio(folder, shop.pretrain(LONG))
    first.reach(2)
    second = done(folder, shop.pretrain(LONG))
    row = refused(16, "a second run on the same artifact", second, 5, [f"process {first.process.pid} on "])
    ended = first.end()
    weights = ended.code == 0 and sha256_of(artifact(folder, "pretrain") / "model.safetensors") == baseline.sha256
    different = deviation(losses(folder), baseline.losses)
    undisturbed = Recovery(ended, different, weights, tuple(leftovers(folder)))
    return [row, recovered(16, "the first run meanwhile", undisturbed), dead_holder(shop)]


def dead_holder(shop: Workshop) -> Outcome:
    """The holder of the lock is killed; nobody has to remove anything."""
    folder = shop.folder("dead-holder")
    holder = LaunchedFolio(folder, shop.pretrain())
    struck = at_step(8, to_launcher(signal.SIGKILL))(holder)
    ended, reached = holder.end(), last_step(folder)
    again = recovery(folder, shop.pretrain(), shop.baseline())
    problems = [] if struck and ended.code == -signal.SIGKILL else ["the holder was not killed"]
    lost = reached - again.ended.resumed
    return recovered(
        16, "the lock of a holder that was killed is taken over", again, problems=problems, steps_lost=lost
    )


def killed_between_stages(shop: Workshop) -> list[Outcome]:
    """One run, killed as soon as a stage is finished, and started again until it is through."""
    shop.folder("between", "whole", stages=())  # made before, so that it can be compared with
    folder, kills = shop.folder("between", stages=()), list[Ended]()
    redone: list[str] = []
    for stage in NAMES[:-1]:
        before = finished(folder)
        folio = LaunchedFolio(folder, f"run {shop.config}")
        folio.missed = not folio.sees(f"store/{stage}-*/manifest.json")
        folio.strike(to_launcher(signal.SIGKILL))
        kills.append(folio.end())
        redone += [name for name, changed in before.items() if finished(folder).get(name) != changed]
    return [judged(shop, folder, kills, redone), draft_of_manifest(shop)]


def draft_of_manifest(shop: Workshop) -> Outcome:
    """What a kill or a full disk leaves between the writing of a manifest and its name; put there by hand."""
    stages = ("target", "corpus", "tokenizer")
    folder = shop.folder("draft", stages=stages)
    written = artifact(folder, "tokenizer") / "manifest.json"
    written.rename(written.with_name("manifest.json.tmp"))
    again = done(folder, f"run {shop.config} --until shards")
    problems = [] if again.code == 0 else [f"the same command left with {again.code}: {again.said}"]
    others = [stage for stage in stages if result(folder, stage) != result(shop.root / "prepared", stage)]
    problems += [f"other results of {', '.join(others)}"] if others else []
    what = "killed between the writing of a stage's manifest and its renaming"
    outcome = RECOVERED if not problems else WRONG if again.code == 0 else OTHER
    return Outcome(17, what, RECOVERED, outcome, not problems, again.code, again.said, detail="; ".join(problems))


def judged(shop: Workshop, folder: Path, kills: list[Ended], redone: list[str]) -> Outcome:
    """The run that was killed seven times against the one that was not."""
    before = finished(folder)
    again = done(folder, f"run {shop.config}")
    redone += [name for name, changed in before.items() if finished(folder).get(name) != changed]
    missed = [
        stage for stage, kill in zip(NAMES, kills, strict=False) if not kill.struck or kill.code != -signal.SIGKILL
    ]
    problems = [f"not killed after {', '.join(missed)}"] if missed else []
    problems += [f"done twice: {', '.join(redone)}"] if redone else []
    problems += [] if again.code == 0 else [f"the same command left with {again.code}: {again.said}"]
    others = (
        [stage for stage in NAMES if result(folder, stage) != result(shop.root / "whole", stage)]
        if again.code == 0
        else []
    )
    problems += [f"other results of {', '.join(others)}"] if others else []
    orphans = sum(kill.orphans for kill in kills)
    problems += [f"{orphans} orphans"] if orphans else []
    left = tuple(leftovers(folder))
    problems += [f"left behind: {', '.join(left)}"] if left else []
    outcome = RECOVERED if not problems else WRONG if others else OTHER
    seconds = max((kill.seconds for kill in kills if kill.seconds is not None), default=None)
    what = f"`folio run` killed after each of its first {len(kills)} stages: only what was unfinished is done"
    return Outcome(
        17, what, RECOVERED, outcome, not problems, -signal.SIGKILL, "", seconds, None, orphans, left,
        detail="; ".join(problems),
    )  # fmt: skip


def finished(folder: Path) -> dict[str, int]:
    """When each finished stage was finished."""
    return {
        path.parent.name.partition("-")[0]: path.stat().st_mtime_ns for path in folder.glob("store/*/manifest.json")
    }
