"""Disturbances of a running training, one after the other over one run, each followed by the same command."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.experiments.launched_folio import Ended, LaunchedFolio
from tests.faults.experiments.outcome import (
    HUNG,
    OTHER,
    RECOVERED,
    WRONG,
    Outcome,
    Recovery,
    recovery,
    refusal_problems,
)
from tests.faults.experiments.workshop import Workshop, deviation, last_step, losses

Act = Callable[[LaunchedFolio], None]
Strike = Callable[[LaunchedFolio], bool]  # whether it hit the program while it trained


@dataclass(frozen=True)
class Blow:
    """One disturbance: how it strikes, and what the operator is promised then."""

    what: str
    strike: Strike
    codes: tuple[int, ...]
    words: tuple[str, ...] = ()  # that the one line has to hold
    most_lost: int = 5  # steps: those since the last checkpoint
    options: str = ""  # of this launch, beside those of the run
    fault: str = ""  # what FOLIO_FAULT plans for it
    ranks: int = 2
    silent: bool = False  # a killed program says nothing
    expected: str = RECOVERED


@dataclass(frozen=True)
class Struck:
    """What a blow did to its launch, and what the next launch made of it."""

    blow: Blow
    ended: Ended
    reached: int
    lost: int
    deviation: float  # of all losses so far, when the next launch ended

    def problems(self, tolerance: float) -> list[str]:
        found = refusal_problems(self.ended, self.blow.codes, self.blow.words)
        if self.blow.silent:
            found = [] if self.ended.struck and self.ended.code in self.blow.codes else [f"exit code {self.ended.code}"]
            found += [f"{self.ended.orphans} orphans"] if self.ended.orphans else []
        found += [f"{self.lost} steps lost"] if self.lost > self.blow.most_lost else []
        return found + ([f"losses deviate by {self.deviation:.1e}"] if self.deviation > tolerance else [])


def struck_run(
    shop: Workshop,
    name: str,
    blows: Sequence[Blow],
    options: str = "",
    baseline: str | None = None,
    tolerance: float = 0.0,
) -> tuple[list[Struck], Recovery]:
    """Strike one run again and again, then let it end. `baseline`: the options of the run to compare with."""
    undisturbed = shop.baseline(options if baseline is None else baseline)
    folder, ended, reached = shop.folder(name), list[Ended](), list[int]()
    deviations = []
    for blow in blows:
        launch = {"FOLIO_FAULT": blow.fault} if blow.fault else {}
        folio = LaunchedFolio(folder, shop.pretrain(f"{options} {blow.options}", blow.ranks), **launch)
        if not blow.strike(folio):
            folio.missed = True
        ended.append(folio.end())
        reached.append(last_step(folder))
        deviations.append(deviation(losses(folder), undisturbed.losses))
    again = recovery(folder, shop.pretrain(options), undisturbed)
    resumed = [*(one.resumed for one in ended[1:]), again.ended.resumed]
    after = [*deviations[1:], again.deviation]
    struck = [
        Struck(blow, ended[at], reached[at], reached[at] - resumed[at], after[at]) for at, blow in enumerate(blows)
    ]
    return struck, again


def rows(number: int, struck: Sequence[Struck], again: Recovery, tolerance: float = 0.0) -> list[Outcome]:
    """A row for each blow; what is wrong with the end of the run counts against all of them."""
    return [_row(number, one, again, tolerance) for one in struck]


def _row(number: int, struck: Struck, again: Recovery, tolerance: float) -> Outcome:
    problems = [*struck.problems(tolerance), *again.problems(tolerance)]
    ended = struck.ended
    outcome = (
        struck.blow.expected if not problems else HUNG if ended.code is None or again.ended.code is None else OTHER
    )
    if again.is_wrong(tolerance) or struck.deviation > tolerance:
        outcome = WRONG
    return Outcome(
        number,
        struck.blow.what,
        struck.blow.expected,
        outcome,
        not problems,
        code=ended.code,
        said=ended.said,
        seconds=ended.seconds,
        steps_lost=struck.lost,
        orphans=ended.orphans + again.ended.orphans,
        leftovers=again.leftovers,
        deviation=max(struck.deviation, again.deviation),
        detail="; ".join(dict.fromkeys(problems)),
    )


def merged(row: str, outcomes: Sequence[Outcome]) -> Outcome:
    """One row for many blows of one kind: the worst of everything."""
    missed = [one for one in outcomes if not one.met]
    first = missed[0] if missed else outcomes[0]
    return Outcome(
        first.number,
        row,
        first.expected,
        first.outcome,
        not missed,
        code=first.code,
        said=first.said,
        seconds=max((one.seconds for one in outcomes if one.seconds is not None), default=None),
        steps_lost=max((one.steps_lost or 0) for one in outcomes),
        orphans=sum(one.orphans for one in outcomes),
        leftovers=outcomes[0].leftovers,
        deviation=max((one.deviation or 0.0) for one in outcomes),
        detail="; ".join([f"{len(outcomes) - len(missed)} of {len(outcomes)}", *(one.detail for one in missed)]),
    )


def at_step(step: int, act: Act, ranks: int = 2) -> Strike:
    """Act when all ranks have come to a step."""
    return lambda folio: folio.reach(step, ranks) and folio.strike(act)


def while_saving(step: int, act: Act, delay_seconds: float) -> Strike:
    """Act so long after a checkpoint has begun to be written, from a step on."""

    def strike(folio: LaunchedFolio) -> bool:
        if not folio.reach(step) or not folio.sees("store/pretrain-*/checkpoints/*.tmp"):
            return False
        time.sleep(delay_seconds)
        return folio.strike(act)

    return strike


def by_itself(folio: LaunchedFolio) -> bool:
    """A rank that FOLIO_FAULT kills or halts: wait until the first one is gone."""

    def lost() -> bool:
        return any(not is_running(beat.pid) for beat in folio.ranks().values())

    return folio.reach(0) and folio.wait(lost, 0.005) and folio.strike(lambda _: None)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZXT"


def to_rank(rank: int, number: signal.Signals) -> Act:
    return lambda folio: os.kill(folio.ranks()[rank].pid, number)


def to_launcher(number: signal.Signals) -> Act:
    return lambda folio: folio.process.send_signal(number)


def to_all(number: signal.Signals) -> Act:
    """As schedulers do: the launcher and its ranks at the same time."""

    def act(folio: LaunchedFolio) -> None:
        for pid in [folio.process.pid, *(beat.pid for beat in folio.ranks().values())]:
            os.kill(pid, number)

    return act


def seeded(number: int) -> random.Random:
    return random.Random(f"experiment {number}")
