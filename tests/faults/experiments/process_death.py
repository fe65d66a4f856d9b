"""Experiments 1 to 6: ranks and launchers that are killed, stopped, or asked to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.faults.experiments.blows import (
    Blow,
    at_step,
    by_itself,
    merged,
    rows,
    seeded,
    struck_run,
    to_all,
    to_launcher,
    to_rank,
    while_saving,
)
from tests.faults.experiments.launched_folio import Ended, LaunchedFolio, done
from tests.faults.experiments.outcome import (
    OTHER,
    RECOVERED,
    REFUSED_THEN_RECOVERED,
    WRONG,
    Outcome,
    recovery,
    refusal_problems,
)
from tests.faults.experiments.workshop import LONG, Workshop, last_step, manifest

KILLS = 20
MOST_DETECTION_SECONDS = 5.0
LOST = "killed (out of memory?)"
STAGES_BEFORE = {"corpus": ("target",), "shards": ("target", "corpus", "tokenizer")}


def random_kills(shop: Workshop) -> list[Outcome]:
    """Twenty kills over one run of 200 steps; after each the same command goes on."""
    random = seeded(1)
    steps = sorted(random.sample(range(4, 190), KILLS))
    blows = [
        Blow(
            f"rank {rank} killed at step {step}",
            at_step(step, to_rank(rank, signal.SIGKILL)),
            (6,),
            (LOST, f"rank {rank} on"),
        )
        for step in steps
        for rank in [random.randrange(2)]
    ]
    one_by_one = rows(1, *struck_run(shop, "random-kills", blows, LONG))
    row = merged(f"SIGKILL of a random rank at a random step, {KILLS} times over one run of 200 steps", one_by_one)
    late = [one for one in one_by_one if (one.seconds or 0) > MOST_DETECTION_SECONDS]
    survived = sum(bool(one.met) for one in one_by_one)
    slow = f"; {len(late)} took more than {MOST_DETECTION_SECONDS:g} s to end" if late else ""
    return [replace(row, met=bool(row.met) and not late, detail=f"{survived} of {KILLS} survived{slow}")]


def kills_while_saving(shop: Workshop) -> list[Outcome]:
    """A rank killed at each part of a checkpoint's way to the disk, then at random moments of the writing."""
    places = {
        "save": "before a rank's own file of a checkpoint",
        "commit": "between the files and the receipt",
        "after_commit": "just after the commit",
    }
    blows = [
        Blow(
            f"SIGKILL of rank {rank} {words}",
            by_itself,
            (6,),
            (LOST,),
            most_lost=10,
            fault=f"{point}:{rank}:{step}:kill",
        )
        for step, (point, words, rank) in zip(
            range(5, 35, 5), [(point, words, rank) for point, words in places.items() for rank in (0, 1)], strict=True
        )
    ]
    outcomes = rows(2, *struck_run(shop, "kills-at-points", blows))
    random, often = seeded(2), f"{LONG} --set pretrain.save_every=1"
    blows = [
        Blow(
            "", while_saving(step, to_rank(random.randrange(2), signal.SIGKILL), random.random() * 0.05), (6,), (LOST,)
        )
        for step in sorted(random.sample(range(4, 190), KILLS))
    ]
    struck, again = struck_run(shop, "kills-while-saving", blows, often, baseline=LONG)
    what = f"SIGKILL of a random rank 0 to 50 ms after a checkpoint began to be written, {KILLS} times over one run"
    return [*outcomes, merged(what, rows(2, struck, again))]


def stops(shop: Workshop) -> list[Outcome]:
    """Every way to ask a pretraining to stop: it saves, and no step is lost."""
    saved = ("saved at step",)
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT)
    blows = [
        Blow(f"{number.name} to the launcher", at_step(4 + 4 * at, to_launcher(number)),
             (130 if number == signal.SIGINT else 75,), saved, most_lost=0)
        for at, number in enumerate(numbers)
    ]  # fmt: skip
    blows += [
        Blow("SIGTERM to one rank", at_step(25, to_rank(1, signal.SIGTERM)), (75,), saved, most_lost=0),
        Blow("SIGTERM to the launcher and its ranks at once", at_step(29, to_all(signal.SIGTERM)), (75,), saved,
             most_lost=0),
        Blow("SIGTERM while a checkpoint is written", while_saving(33, to_launcher(signal.SIGTERM), 0.0), (75,), saved,
             most_lost=0, options="--set pretrain.save_every=1"),
        Blow("SIGTERM to one rank while all evaluate", by_itself, (75,), ("saved at step 50",), most_lost=0,
             fault="evaluation:1:50:terminate"),
        Blow("a second SIGTERM where a rank cannot save", second_order(60), (75,), ("ended at once",), most_lost=5),
    ]  # fmt: skip
    outcomes = rows(3, *struck_run(shop, "stops", blows, LONG))
    early = [
        stop_of_stage(shop, stage, number) for stage in STAGES_BEFORE for number in (signal.SIGUSR1, signal.SIGTERM)
    ]
    return [*outcomes, minutes(shop), *early]


def second_order(step: int) -> Callable[[LaunchedFolio], bool]:
    """Halt a rank so that nothing can be saved, ask to stop, and insist."""

    def strike(folio: LaunchedFolio) -> bool:
        if not folio.reach(step):
            return False
        to_rank(1, signal.SIGSTOP)(folio)
        folio.process.terminate()
        time.sleep(1.5)
        return folio.strike(to_launcher(signal.SIGTERM))

    return strike


def minutes(shop: Workshop) -> Outcome:
    """`folio run --minutes`, with the minutes chosen so that they are over while it trains."""
    folder, began = shop.folder("startup"), time.monotonic()
    folio = LaunchedFolio(folder, shop.pretrain(LONG))
    folio.reach(2)
    startup = time.monotonic() - began
    folio.process.terminate()
    folio.end()
    command = f"run {shop.config} --until pretrain --ranks 2 {LONG} --minutes"
    folder = shop.folder("minutes")
    for more in (1.0, 3.0, 6.0, 10.0):  # a busy machine takes longer to start than it did the first time
        ended = done(folder, f"{command} {(startup + more) / 60:.4f}")
        if "saved at step" in ended.said:
            break
    return after_stop(shop, folder, "`folio run --minutes` is over while it trains", ended)


def after_stop(shop: Workshop, folder: Path, what: str, ended: Ended) -> Outcome:
    reached = last_step(folder)
    again = recovery(folder, shop.pretrain(LONG), shop.baseline(LONG))
    lost = reached - again.ended.resumed
    problems = [*refusal_problems(ended, [75], ["saved at step"]), *again.problems()]
    problems += [f"{lost} steps lost"] if lost else []
    outcome = RECOVERED if not problems else WRONG if again.is_wrong() else OTHER
    return Outcome(
        3, what, RECOVERED, outcome, not problems, ended.code, ended.said, None, lost, ended.orphans,
        again.leftovers, again.deviation, "; ".join(problems),
    )  # fmt: skip


def stop_of_stage(shop: Workshop, stage: str, number: signal.Signals) -> Outcome:
    """Stop a stage before training; done again it leaves the files that it would have left at once."""
    command = f"{stage} {shop.config}"
    for delay in (0.3, 0.1, 0.0):  # a fast machine may have finished the stage before
        folder = shop.folder(f"stop-{stage}-{number.name}", stages=STAGES_BEFORE[stage])
        folio = LaunchedFolio(folder, command)
        folio.missed = not folio.sees(f"store/{stage}-*")
        time.sleep(delay)
        folio.strike(to_launcher(number))  # nothing happens where it has ended
        ended = folio.end()
        if ended.code != 0:
            break
    again = done(folder, command)
    problems = refusal_problems(ended, [75])
    problems += [] if again.code == 0 else [f"the same command left with {again.code}"]
    same = again.code == 0 and manifest(folder, stage)["files"] == manifest(shop.root / "prepared", stage)["files"]
    problems += [] if same or again.code else ["its files are others"]
    outcome = RECOVERED if not problems else WRONG if not same and again.code == 0 else OTHER
    return Outcome(
        3, f"{number.name} in stage {stage}", RECOVERED, outcome, not problems, ended.code, ended.said, ended.seconds,
        None, ended.orphans + again.orphans, detail="; ".join(problems),
    )  # fmt: skip


def killed_launcher(shop: Workshop) -> list[Outcome]:
    """The ranks go with their launcher."""
    blow = Blow(
        "SIGKILL of the launcher alone", at_step(12, to_launcher(signal.SIGKILL)), (-signal.SIGKILL,), silent=True
    )
    return rows(4, *struck_run(shop, "killed-launcher", [blow]))


def halted_rank(shop: Workshop) -> list[Outcome]:
    """A rank that says nothing more is named when the others lose patience."""
    blow = Blow(
        "SIGSTOP of rank 1, with launch.timeout_seconds 3",
        at_step(12, to_rank(1, signal.SIGSTOP)),
        (6,),
        ("rank 1 on", "at step", "halted by a signal"),
        options="--set launch.timeout_seconds=3",
        expected=REFUSED_THEN_RECOVERED,
    )
    (row,) = rows(6, *struck_run(shop, "halted-rank", [blow]))
    late = (row.seconds or 0) > 3 + MOST_DETECTION_SECONDS + 1
    return [replace(row, met=bool(row.met) and not late)]
