"""How soon the program answers: `folio --help`, and a run with nothing to do over a corpus of 3,000 unchanged files.

    python -m tests.bench.bench_starts            prints one JSON record per figure; a minute on two cores

Seconds are medians over processes that take turns with a reference, `python` importing the libraries that the command
line and the configs are made with, and nothing of ours. Seconds are those of a quiet machine; the ratios hold on a busy
one, too. The finished run ends with its shards: one that was trained as well has five more manifests to look at.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILES = 3_000
ROUNDS = 9
LIBRARIES = "import typer, yaml, pydantic, rich.progress"
RESTING_SECONDS = 2.5  # files that were written less than two seconds ago are not remembered
CONFIG = """
target: {path: my.txt}
corpus: {validation: 10%, sources: [{path: "texts/*.txt"}]}
tokenizer: {vocab_size: 300}
"""


def main() -> None:
    """Measure and print one JSON record per figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        turns = [{who: seconds(command, folder) for who, command in COMMANDS.items()} for _ in range(options.rounds)]
    for record in records(turns):
        print(json.dumps(record), flush=True)


def prepare(folder: Path) -> None:
    """Write the texts and finish the run; its second look at the files is the first that can remember them."""
    (folder / "texts").mkdir()
    for number in range(FILES):
        (folder / "texts" / f"{number:04}.txt").write_text(f"Text {number} of many short ones. " * 20)
    (folder / "my.txt").write_text("A target that is long enough to be cut into its splits. " * 400)
    (folder / "mine.yaml").write_text(CONFIG)
    seconds(COMMANDS["idle"], folder)
    time.sleep(RESTING_SECONDS)
    seconds(COMMANDS["idle"], folder)


def seconds(command: list[str], folder: Path) -> float:
    """How long a command takes in a new process, from its start to its end."""
    environment = {"FOLIO_STORE": str(folder / "store"), "XDG_CACHE_HOME": str(folder / "cache")}
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=os.environ | environment, check=True, capture_output=True)
    return time.perf_counter() - started


def records(turns: list[dict[str, float]]) -> Iterator[dict[str, Any]]:
    """The seconds of each command, and how they compare with those of the reference."""
    medians = {who: statistics.median(turn[who] for turn in turns) for who in COMMANDS}
    for who, name, most in FIGURES:
        yield {"name": name, "value": round(medians[who], 3), "unit": "seconds", "target": most, "turns": len(turns)}
        ratio = round(medians["libraries"] / medians[who], 3)
        both = [round(medians["libraries"], 3), round(medians[who], 3)]
        yield {
            "name": f"importing its libraries / {name}",
            "value": ratio,
            "unit": "x",
            "target": None,
            "seconds": both,
        }


FOLIO = str(Path(sys.executable).with_name("folio"))
COMMANDS = {
    "libraries": [sys.executable, "-c", LIBRARIES],
    "help": [FOLIO, "--help"],
    "idle": [FOLIO, "run", "mine.yaml", "--until", "shards"],
}
FIGURES = (
    ("help", "folio --help", 0.5),
    ("idle", f"folio run with nothing to do, {FILES:,} unchanged files", 1.5),
)


if __name__ == "__main__":
    main()
