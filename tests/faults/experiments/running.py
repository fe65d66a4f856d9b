"""Carries out one experiment. What goes wrong with the experiment itself is a row, too, and no reason to stop."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.faults.experiments.outcome import OTHER, Outcome
from tests.faults.experiments.table import Experiment
from tests.faults.experiments.workshop import Workshop


def carried_out(experiment: Experiment, shop: Workshop) -> Sequence[Outcome]:
    """The rows of an experiment, without the folders of this machine."""
    try:
        outcomes = experiment.carry_out(shop)
    except Exception as error:  # noqa: BLE001 - it stands in the results as missed, with what went wrong
        traceback.print_exc()
        why = f"the experiment broke off: {type(error).__name__}: {error}"
        outcomes = [Outcome(experiment.number, experiment.about, "", OTHER, False, detail=why)]
    if all(one.met is not False for one in outcomes):  # else there is something to look at
        shop.tidy()
    return [one.without(shop.root, Path.cwd()) for one in outcomes]
