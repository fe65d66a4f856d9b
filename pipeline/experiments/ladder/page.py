"""The ladder's page: a sentence, a picture, the table, what is equal, and what each rung writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.experiments.ladder.climb import TOLERANCE_NATS, RungResult, steps_down
from pipeline.experiments.measurements import machine, today
from pipeline.runtime.formatting import counted, readable_seconds

HEAD = (
    "rung",
    "parameters",
    "ours, nats/char (95% interval)",
    "the lecture's",
    "difference",
    f"within {TOLERANCE_NATS}",
)
METHOD = """## How it was measured

The models are those of [gpt/lecture.py](../../gpt/lecture.py), a file to read beside the video. Each is trained as its
config in [configs/lecture/](../../configs/lecture/) says, which is how the lecture trained it, on the first 90 % of
Tiny Shakespeare, and scored at its last step on the last 10 %: every character that another one precedes counts once,
where the lecture estimates on random windows. The interval is Student's t over the seeds. It covers the draw of weights
and batches, not the choice of the text.

The lecture's numbers are what the scripts of its companion repository reach at their last step, the scaled-up one at
its best. Those scripts divide the scores of several heads by the root of the whole width; here it is the root of the
head's, as the lecture explains it.

The last rung is `folio run configs/lecture.yaml`, on the real model ([gpt/model.py](../../gpt/model.py)). From the
lecture's last script it differs in this: dropout also on the embeddings, matrices that start at deviation 0.02, weight
decay on matrices alone, no window twice within an epoch, two more tokens (unknown, end of text), and 5 % of the text
set aside to choose the best step on.
"""
EX1 = """The batched class is the one that the real model uses; `batched` in gpt/lecture.py copies a list of heads into
it. What that buys in speed is measured by `make bench`, into [the figures](bench.md).
"""


def as_page(results: Sequence[RungResult], equal: Mapping[str, float], seconds: float | None, command: str) -> str:
    """The whole page in Markdown; `equal` are the differences of `equalities.py`, and its picture lies beside it."""
    rows = [HEAD, ["---"] * len(HEAD), *(row(result) for result in results)]
    return "\n".join(
        [
            "# The lecture's ladder, climbed again",
            "",
            headline(results),
            "",
            "![Validation loss of each rung beside the lecture's number](lecture.png)",
            "",
            *(f"| {' | '.join(cells)} |" for cells in rows),
            "",
            f"`{command}` {provenance(results, seconds)}",
            "",
            METHOD,
            "## What is the same",
            "",
            "Largest differences in float64, on random numbers of the lecture's sizes; rounding leaves about 1e-15.",
            "",
            *(f"- {name}: {difference:.1e}" for name, difference in equal.items()),
            "",
            EX1,
            "## What each rung writes",
            "",
            *(sample(result) for result in results if result.sample),
        ]
    )


def headline(results: Sequence[RungResult]) -> str:
    """How many rungs are as near the lecture's as was asked for, and whether each is below the one before."""
    # A rung that was not run neither counts nor breaks the order.
    run = [result for result in results if result.mean is not None]
    near = sum(bool(result.close) for result in run)
    order = (
        "each rung lies below the one before" if steps_down(run) == len(run) - 1 else "THE ORDER IS NOT THE LECTURE'S"
    )
    claim = f"{near} of {counted(len(run), 'rung')} within {TOLERANCE_NATS} nats of the lecture's number"
    return f"{claim}; {order}." if len(run) > 1 else f"{claim}."


def row(result: RungResult) -> list[str]:
    """The cells of one rung below `HEAD`, as the page and the terminal show them."""
    if result.mean is None:
        return [result.rung, "", result.note, f"{result.published:g}", "", ""]
    interval = f" ({result.interval[0]:.3f} to {result.interval[1]:.3f})" if result.interval else ""
    return [
        result.rung,
        f"{result.parameters:,}",
        f"{result.mean:.3f}{interval}" + (f", {result.note}" if result.note else ""),
        f"{result.published:g}",
        f"{result.mean - result.published:+.3f}",
        "yes" if result.close else "**no**",
    ]


def provenance(results: Sequence[RungResult], seconds: float | None) -> str:
    """Commits, date, duration and machine; the command stands before it."""
    # Trials finished earlier keep their own commits.
    commits = sorted({commit for result in results for commit in result.commits})
    took = "" if seconds is None else f" in {readable_seconds(seconds)}"
    return f"at commit {', '.join(f'`{commit}`' for commit in commits)}, {today()}{took}, on {machine()}."


def sample(result: RungResult) -> str:
    """What the rung writes, in a block of its own."""
    return f"**{result.rung}**\n\n```text\n{result.sample.strip()}\n```\n"
