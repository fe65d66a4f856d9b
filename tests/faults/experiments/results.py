"""The rows of all experiments as docs/results/faults.json and faults.md, and the figures that sum them up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.experiments.measurements import machine, record, today
from pipeline.runtime.versions import git_commit
from tests.faults.experiments.outcome import HUNG, WRONG, Outcome
from tests.faults.experiments.process_death import KILLS

RESULTS = Path("docs/results")
COMMAND = "make faults"
COLUMNS = ("#", "what", "outcome", "code", "what the operator read", "seconds", "steps lost", "off by", "met")
LONGEST_QUOTE = 160
Row = dict[str, Any]


def provenance() -> Row:
    return {"commit": git_commit(), "machine": machine(), "date": today()}


def read_rows(folder: Path) -> list[Row]:
    path = folder / "faults.json"
    rows: list[Row] = json.loads(path.read_text())["experiments"] if path.exists() else []
    return rows


def with_rows(rows: Sequence[Row], number: int, outcomes: Sequence[Outcome], minutes: float) -> list[Row]:
    """The rows with those of one experiment replaced, in the order of their numbers."""
    new = [{**one.as_json(), "minutes_of_experiment": round(minutes, 2), **provenance()} for one in outcomes]
    return sorted([*(row for row in rows if row["number"] != number), *new], key=lambda row: row["number"])


def write_results(rows: Sequence[Row], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    records = [record(figure, COMMAND) for figure in figures(rows)]
    (folder / "faults.json").write_text(json.dumps({"figures": records, "experiments": list(rows)}, indent=1) + "\n")
    (folder / "faults.md").write_text(as_page(records, rows))


def figures(rows: Sequence[Row]) -> Iterator[Row]:
    """What the table says in a few numbers; None for what was not measured."""
    measured = [row for row in rows if row["met"] is not None]
    met = sum(row["met"] for row in measured)
    yield share("experiments with the outcome that is promised", met, len(measured))
    for name, number, row in (
        ("random kills survived", KILLS, first(rows, 1, "random rank")),
        ("kills while a checkpoint is written survived", KILLS, first(rows, 2, "random rank")),
    ):
        yield share(name, int(row["detail"].split()[0]) if row else None, number)
    yield noticed(first(rows, 10, "bits flipped"))
    yield cost("silently wrong", sum(row["outcome"] == WRONG for row in measured))
    yield cost("hung", sum(row["outcome"] == HUNG for row in measured))
    yield cost("orphan processes", sum(row["orphans"] for row in measured))
    yield cost("temporary files left behind", sum(len(row["leftovers"]) for row in measured))
    lost = [row["seconds"] for row in rows if row["number"] in (1, 2) and row["seconds"] is not None]
    yield {
        "name": "killed rank: until all are down, longest",
        "value": max(lost, default=None),
        "unit": "s",
        "target": 5,
    }
    off = [row["deviation"] for row in rows if row["number"] == 19 and row["deviation"] is not None]
    name = "2 -> 4 -> 1 -> 2 ranks: largest relative deviation of a loss"
    yield {"name": name, "value": max(off, default=None), "unit": "", "target": 1e-5}


def first(rows: Sequence[Row], number: int, words: str) -> Row | None:
    return next((row for row in rows if row["number"] == number and words in row["what"]), None)


def share(name: str, value: int | None, whole: int) -> Row:
    return {"name": name, "value": value, "unit": f"of {whole}", "target": whole, "met": reached(value, whole)}


def noticed(row: Row | None) -> Row:
    percent = None
    if row:
        found, _, whole = row["detail"].split()[:3]
        percent = 100 * int(found) // int(whole)
    name = "corruptions of a checkpoint noticed before use"
    return {"name": name, "value": percent, "unit": "%", "target": 100, "met": reached(percent, 100)}


def reached(value: int | None, target: int) -> bool | None:
    return None if value is None else value >= target


def cost(name: str, value: int) -> Row:
    return {"name": name, "value": value, "unit": "", "target": 0}


def as_page(records: Sequence[Row], rows: Sequence[Row]) -> str:
    sources = sorted({f"{row['machine']}, commit {row['commit']}, {row['date']}." for row in rows})
    return "\n".join(
        [
            "# Faults that Folio survives",
            "",
            "`make faults` disturbs real runs: `folio` with two ranks and a model of 0.2 M parameters, 40 or 200",
            "steps. **R**: the same command, given again, ends with the losses and weights of the undisturbed run, to",
            "the last bit; within 1e-5 where the number of ranks changed. **E**: refused in one line with an exit code",
            "of [operations](../operations.md). Seconds count from the disturbance to the end of the last process.",
            "",
            *(f"- {_figure(one)}" for one in records),
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|---" * len(COLUMNS) + "|",
            *map(_line, rows),
            "",
            *sources,
            "",
        ]
    )


def _figure(one: Row) -> str:
    verdict = {True: "met", False: "**missed**", None: "not measured"}[one["met"]]
    value = one["value"]
    shown = "" if value is None else f"{value:.1e}" if isinstance(value, float) and 0 < value < 0.01 else f"{value:g}"
    return f"{one['name']}: {shown} {one['unit']}".rstrip() + f" ({verdict})"


def _line(row: Row) -> str:
    verdict = {True: "yes", False: "**no**", None: "not measured"}[row["met"]]
    quoted = f"`{_short(row['said'])}`" if row["said"] else ""
    off = row["deviation"]
    cells = [
        row["number"],
        row["what"],
        row["outcome"] if row["met"] is not False else f"{row['outcome']}, not {row['expected']}",
        "" if row["code"] is None else row["code"],
        " ".join(filter(None, [quoted, row["detail"]])),
        "" if row["seconds"] is None else f"{row['seconds']:.1f}",
        "" if row["steps_lost"] is None else row["steps_lost"],
        "" if off is None else f"{off:.0e}" if off else "0",
        verdict,
    ]
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _short(text: str) -> str:
    text = text.replace("`", "'")
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE].rpartition(' ')[0]} …"
