"""Every benchmark, one after the other, into docs/results/bench.json and bench.md.

    make bench            or: python -m tests.bench

Each is a program that prints one JSON record per ratio, measured against a reference in the same run. A target that was
missed stands in the results as missed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.experiments.measurements import FIELDS, HIGHER_IS_BETTER, record

RESULTS = Path("docs/results")
PROGRAMS = (
    "tests.bench.bench_training",
    "tests.bench.bench_saving",
    "tests.bench.bench_precision",
    "tests.bench.bench_attention",
    "tests.bench.bench_encoding",
    "tests.bench.bench_starts",
    "tests.bench.published",
)


def main() -> None:
    """Run, write both files and print the table."""
    records = [record for program in PROGRAMS for record in measured(program)]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "bench.json").write_text(json.dumps(records, indent=1) + "\n")
    page = as_page(records)
    (RESULTS / "bench.md").write_text(page)
    print(page)


def measured(program: str) -> Iterator[dict[str, Any]]:
    """The records of one program with what is needed to judge them; anything more a program says stays beside."""
    command = f"python -m {program}"
    lines = subprocess.run([sys.executable, "-m", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in lines.splitlines():
        yield record(json.loads(line), command)


def as_page(records: list[dict[str, Any]]) -> str:
    where = f"{records[0]['machine']}, {records[0]['date']}"
    rows = [
        f"| {r['name']} | {r['value']} {r['unit']} | {aim(r)} | {r['commit']} | {detail(r, where)} |" for r in records
    ]
    return "\n".join(
        [
            "# Figures and their targets",
            "",
            "`make bench` measures speed as ratios of medians against a reference that takes turns in the same run:",
            "above 1 the first is faster. The losses are those of the committed report. A missed target stands",
            "as missed.",
            "",
            f"Machine: {where}, where a row names no other.",
            "",
            "| figure | value | target | commit | more |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def aim(record: dict[str, Any]) -> str:
    if record["target"] is None:
        return "none"
    bound = "at least" if record["unit"] in HIGHER_IS_BETTER else "at most"
    return f"{bound} {record['target']}: {'met' if record['met'] else '**missed**'}"


def detail(record: dict[str, Any], where: str) -> str:
    more = {key: value for key, value in record.items() if key not in FIELDS}
    own = f"{record['machine']}, {record['date']}"
    more |= {"on": own} if own != where else {}
    return "; ".join(f"{key.replace('_', ' ')}: {_plain(value)}" for key, value in more.items())


def _plain(value: object) -> str:
    return " and ".join(f"{item:,}" for item in value) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    main()
