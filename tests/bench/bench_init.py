"""Does a config of `folio init` take the time it was asked for, and is its model's size a good choice?

    make init-results               3, 10 and 30 minutes; about three hours on two quiet cores
    python -m tests.bench.bench_init --minutes 3

For each number of minutes `folio init` makes a config for the texts of the demo, and `folio run` runs it. Beside it
stands a grid made by hand: three model sizes, each with the recipe, the corpus and the minutes of the first. Every run
is added to docs/results/init.json and init.md when it ends, so the command, called again, goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.experiments.measurements import record

RESULTS = Path("docs/results")
MINUTES = (3, 10, 30)
# What somebody who knows the field would try for two cores and such times.
BY_HAND = (("2 x 64", 2, 64, 2, 1024), ("4 x 128", 4, 128, 4, 2048), ("6 x 256", 6, 256, 4, 4096))
CHOSEN = "folio init"
CORPUS = (
    "${FOLIO_DATA}/mini/*.jsonl.zst",
    "${FOLIO_DATA}/corpus/gitenberg-plays-*.jsonl.zst",
    "${FOLIO_DATA}/corpus/gutenberg-poetry-0000.jsonl.zst",
)
COLUMNS = (
    "minutes", "model", "size", "vocabulary", "parameters", "pretraining tokens", "minutes taken", "scratch",
    "finetune", "gain, 95 %", "commit",
)  # fmt: skip
MOST_TIME_OFF, MOST_LOSS_ABOVE = 0.25, 0.03


def main() -> None:
    """Run what is not in the results yet, and write both files."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=MINUTES)
    parser.add_argument("--work", type=Path, default=Path("artifacts/init"), help="Folder for configs.")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    runs = json.loads((RESULTS / "init.json").read_text())["runs"] if (RESULTS / "init.json").exists() else []
    for minutes in options.minutes:
        for name in (CHOSEN, *(row[0] for row in BY_HAND)):
            if not any(run["minutes"] == minutes and run["model"] == name for run in runs):
                runs.append(one_run(minutes, name, options.work))
                write_results(runs)
    write_results(runs)


def one_run(minutes: float, name: str, folder: Path) -> dict[str, Any]:
    """Make the config, run it, and read its report."""
    config = folder / f"{minutes:g}-minutes-{name.replace(' ', '')}.yaml"
    command = [sys.executable, "-m", "tests.bench.hand_made_config", str(minutes), name, str(config)]
    if name == CHOSEN:
        folio = [*(f"--corpus={pattern}" for pattern in CORPUS), f"--minutes={minutes:g}", f"--output={config}"]
        command = [str(Path(sys.executable).with_name("folio")), "init", "tiny-shakespeare", *folio, "--force"]
    subprocess.run(command, check=True)
    started = time.monotonic()
    run = subprocess.run(
        [str(Path(sys.executable).with_name("folio")), "run", str(config)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    seconds = time.monotonic() - started
    report = json.loads((Path(run.stdout.strip().splitlines()[-1]).parent / "report.json").read_text())
    model = yaml.safe_load(config.read_text())
    return {
        "minutes": minutes,
        "model": name,
        "size": f"{model['model']['layers']} x {model['model']['width']}",
        "vocabulary": model["tokenizer"]["vocab_size"],
        "parameters": report["arms"]["finetune"]["params"],
        "pretrain_tokens": model["pretrain"]["tokens"],
        "minutes_taken": round(seconds / 60, 2),
        "scratch": round(report["arms"]["scratch"]["val_bits_per_byte"]["mean"], 3),
        "finetune": round(report["arms"]["finetune"]["val_bits_per_byte"]["mean"], 3),
        "gain_ci95": [round(end, 3) for end in report["gain"]["bits_per_byte"]["ci95"]],
        **{
            key: record({"name": "", "value": None, "unit": "", "target": None}, "")[key]
            for key in ("commit", "machine", "date")
        },
    }


def figures(runs: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The two figures of each number of minutes: how far the time is off, and the loss above the best by hand."""
    for chosen in (run for run in runs if run["model"] == CHOSEN):
        minutes = chosen["minutes"]
        others = [run["finetune"] for run in runs if run["minutes"] == minutes and run["model"] != CHOSEN]
        provenance = {key: chosen[key] for key in ("commit", "machine", "date")}
        off = abs(chosen["minutes_taken"] / minutes - 1)
        yield {
            "name": f"folio init, {minutes:g} minutes: time off", "value": round(off, 3), "unit": "of the minutes",
            "target": MOST_TIME_OFF, **provenance,
        }  # fmt: skip
        above = round(chosen["finetune"] - min(others), 3) if len(others) == len(BY_HAND) else None
        yield {
            "name": f"folio init, {minutes:g} minutes: finetuned loss above the best of three sizes by hand",
            "value": above, "unit": "bits/byte", "target": MOST_LOSS_ABOVE, **provenance,
        }  # fmt: skip


def write_results(runs: Sequence[dict[str, Any]]) -> None:
    records = [record(figure, "make init-results") for figure in figures(runs)]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "init.json").write_text(json.dumps({"figures": records, "runs": list(runs)}, indent=1) + "\n")
    (RESULTS / "init.md").write_text(as_page(records, runs))


def as_page(records: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]]) -> str:
    """The figures and the table of the runs."""
    return "\n".join(
        [
            "# What `folio init` chooses, and whether it is right",
            "",
            "`make init-results`: a config of `folio init` for the texts of the demo, beside three model sizes chosen",
            "by hand that get the same recipe and the same minutes. bits/byte of the validation text of Tiny",
            "Shakespeare, mean over the seeds. *Not timed*: as many steps as fit the minutes, beside other work. Rows",
            "of other commits may be of a machine of another speed, whose minutes are other tokens ([log](../log.md)).",
            "",
            "| figure | value | at most | |",
            "|---|---|---|---|",
            *map(_row, records),
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|---" * len(COLUMNS) + "|",
            *(
                f"| {run['minutes']:g} | {run['model']} | {run['size']} | {run['vocabulary']:,} "
                f"| {run['parameters']:,} | {run['pretrain_tokens']:,} "
                f"| {run['minutes_taken'] or 'not timed'} | {run['scratch']} "
                f"| {run['finetune']} | {run['gain_ci95'][0]} to {run['gain_ci95'][1]} | {run['commit']} |"
                for run in sorted(runs, key=lambda run: run["minutes"])
            ),
            "",
            *sorted({f"{run['machine']}, commit {run['commit']}, {run['date']}." for run in runs}),
            "",
        ]
    )


def _row(figure: dict[str, Any]) -> str:
    verdict = {True: "met", False: "**missed**", None: "not measured"}[figure["met"]]
    value = "" if figure["value"] is None else f"{figure['value']} {figure['unit']}"
    return f"| {figure['name']} | {value} | {figure['target']} | {verdict} |"


if __name__ == "__main__":
    main()
