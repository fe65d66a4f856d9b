"""What one experiment showed, and how it is judged: recovered, refused, or one of the ways in which neither is true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.runtime.files import sha256_of
from tests.faults.experiments.launched_folio import Ended, LaunchedFolio
from tests.faults.experiments.workshop import Baseline, artifact, deviation, leftovers, losses

RECOVERED, REFUSED, REFUSED_THEN_RECOVERED = "R", "E", "E, then R"
WRONG, HUNG, OTHER, UNMEASURED = "silently wrong", "hung", "other", "not measured"
SHARDED_ANEW = 1e-5  # relative: what another number of ranks may change in a loss


@dataclass(frozen=True)
class Outcome:
    """One row of the results. `met` is None where the experiment could not be done here."""

    number: int
    what: str
    expected: str
    outcome: str
    met: bool | None
    code: int | None = None
    said: str = ""
    seconds: float | None = None  # from the disturbance to the end of the last process
    steps_lost: int | None = None
    orphans: int = 0
    leftovers: tuple[str, ...] = ()
    deviation: float | None = None  # largest relative one of a loss from the uninterrupted run's
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def without(self, *roots: Path) -> Outcome:
        """The same with the folders of this machine cut out of what was said."""
        said, detail = self.said, self.detail
        for root in roots:
            said, detail = said.replace(f"{root}/", ""), detail.replace(f"{root}/", "")
        return replace(self, said=said, detail=detail)


@dataclass(frozen=True)
class Recovery:
    """The same command after the disturbance, compared with the run that nothing disturbed."""

    ended: Ended
    deviation: float
    same_weights: bool
    leftovers: tuple[str, ...]

    def problems(self, tolerance: float = 0.0) -> list[str]:
        """Why this is no recovery; empty if it is one. Another number of ranks may change the last bits."""
        if self.ended.code != 0:
            return [f"the same command left with {self.ended.code}: {self.ended.said}"]
        found = [] if self.deviation <= tolerance else [f"losses deviate by {self.deviation:.1e}"]
        found += [] if self.same_weights or tolerance else ["the final weights are others"]
        found += [f"left behind: {', '.join(self.leftovers)}"] if self.leftovers else []
        found += ["the operator reads a traceback"] if self.ended.has_traceback else []
        return found + ([f"{self.ended.orphans} orphans"] if self.ended.orphans else [])

    def is_wrong(self, tolerance: float = 0.0) -> bool:
        """Whether it ended well and is none the less another training."""
        return self.ended.code == 0 and (self.deviation > tolerance or not (self.same_weights or tolerance))


def recovery(folder: Path, command: str, baseline: Baseline, **changes: str) -> Recovery:
    """Give the command once more, and compare."""
    ended = LaunchedFolio(folder, command, **changes).end()
    if ended.code != 0:
        return Recovery(ended, float("inf"), False, tuple(leftovers(folder)))
    weights = sha256_of(artifact(folder, "pretrain") / "model.safetensors")
    found = losses(folder)
    difference = deviation(found, baseline.losses) if len(found) == len(baseline.losses) else float("inf")
    return Recovery(ended, difference, weights == baseline.sha256, tuple(leftovers(folder)))


def refusal_problems(ended: Ended, codes: Sequence[int], words: Iterable[str] = ()) -> list[str]:
    """Why this is no refusal as the operator is promised one."""
    found = [] if ended.struck else ["it ended before the disturbance"]
    found += [] if ended.code in codes else [f"exit code {ended.code}, not {' or '.join(map(str, codes))}"]
    found += [] if len(ended.refusals) == 1 else [f"{len(ended.refusals)} lines"]
    found += ["the operator reads a traceback"] if ended.has_traceback else []
    found += [f"the line lacks {word!r}" for word in words if word not in ended.said]
    return found + ([f"{ended.orphans} orphans"] if ended.orphans else [])


def refused(number: int, what: str, ended: Ended, code: int, words: Iterable[str] = (), **more: Any) -> Outcome:
    """A row for a command that must be refused before it does harm. `problems` of the caller's own count, too."""
    problems = [*refusal_problems(ended, [code], words), *more.pop("problems", [])]
    outcome = REFUSED if not problems else HUNG if ended.code is None else WRONG if ended.code == 0 else OTHER
    facts: dict[str, Any] = {"code": ended.code, "said": ended.said, "seconds": ended.seconds, "orphans": ended.orphans}
    return Outcome(number, what, REFUSED, outcome, not problems, **facts, detail="; ".join(problems), **more)


def then_recovered(row: Outcome, again: Recovery, lost: int | None = None, tolerance: float = 0.0) -> Outcome:
    """The row of a refusal after whose repair the same command has to bring the run to its right end."""
    problems = again.problems(tolerance)
    outcome = (
        REFUSED_THEN_RECOVERED if row.met and not problems else WRONG if again.is_wrong(tolerance) else row.outcome
    )
    return replace(
        row,
        expected=REFUSED_THEN_RECOVERED,
        outcome=OTHER if problems and outcome == REFUSED else outcome,
        met=bool(row.met) and not problems,
        steps_lost=lost,
        orphans=row.orphans + again.ended.orphans,
        leftovers=again.leftovers,
        deviation=again.deviation,
        detail="; ".join([*filter(None, [row.detail]), *problems]),
    )


def recovered(number: int, what: str, again: Recovery, tolerance: float = 0.0, **more: Any) -> Outcome:
    """A row for a command that has to go on in spite of what it finds."""
    problems = [*again.problems(tolerance), *more.pop("problems", [])]
    wrong = WRONG if again.is_wrong(tolerance) else OTHER
    outcome = RECOVERED if not problems else HUNG if again.ended.code is None else wrong
    facts: dict[str, Any] = {"code": again.ended.code, "orphans": again.ended.orphans, "leftovers": again.leftovers}
    return Outcome(
        number, what, RECOVERED, outcome, not problems, **facts, deviation=again.deviation,
        detail="; ".join(problems), **more,
    )  # fmt: skip


def unmeasured(number: int, what: str, expected: str, why: str) -> Outcome:
    return Outcome(number, what, expected, UNMEASURED, None, detail=why)
