"""What happens to a run that is killed, stopped, damaged or misled: the experiments, on the real program.

    make faults                                     all of them; twenty minutes on two quiet cores
    python -m tests.faults.experiments --only 1 4   some of them, by number

Each experiment's rows are added to docs/results/faults.json and faults.md when it ends. The command, called again, goes
on: what stands there for this commit is not repeated.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from pipeline.runtime.versions import git_commit
from tests.faults.experiments.results import RESULTS, read_rows, with_rows, write_results
from tests.faults.experiments.running import carried_out
from tests.faults.experiments.table import EXPERIMENTS
from tests.faults.experiments.workshop import Workshop


def main() -> None:
    """Carry out what is not in the results yet, and write both files."""
    numbers = [experiment.number for experiment in EXPERIMENTS]
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--only", type=int, nargs="+", choices=numbers, default=numbers, metavar="NUMBER")
    parser.add_argument("--again", action="store_true", help="Also those that stand in the results for this commit.")
    parser.add_argument("--work", type=Path, default=Path("artifacts/faults"), help="Folder for runs; it is emptied.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="Folder of faults.json and faults.md.")
    options = parser.parse_args()
    # Inherited: started with `nohup`, the runs would ignore the hangup that one experiment sends them.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    rows, commit = read_rows(options.results), git_commit()
    known = {row["number"] for row in rows if row["commit"] == commit and not options.again}
    wanted = [one for one in EXPERIMENTS if one.number in options.only and one.number not in known]
    shop = Workshop(options.work) if wanted else None
    for experiment in wanted:
        assert shop is not None, "there is a workshop where there is something to do"
        began = time.monotonic()
        outcomes = carried_out(experiment, shop)
        rows = with_rows(rows, experiment.number, outcomes, (time.monotonic() - began) / 60)
        write_results(rows, options.results)
        for one in outcomes:
            verdict = {True: "met", False: "MISSED", None: "not measured"}[one.met]
            print(f"{one.number:>3}  {verdict:<12}  {one.outcome:<14}  {one.what}  {one.detail}", file=sys.stderr)
    write_results(rows, options.results)


if __name__ == "__main__":
    main()
