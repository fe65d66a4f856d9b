"""A small part of `make faults`, and what the program does with whatever its experiments find."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.experiments.launched_folio import Ended
from tests.faults.experiments.outcome import HUNG, OTHER, REFUSED, WRONG, Outcome, Recovery, recovered, refused
from tests.faults.experiments.results import as_page, figures, with_rows, write_results
from tests.faults.experiments.running import carried_out
from tests.faults.experiments.table import EXPERIMENTS, Experiment
from tests.faults.experiments.workshop import Workshop, deviation

ASKED_FOR = {*range(1, 11), *range(13, 21), 24, 26}
REFUSAL = Ended(2, "folio: x.yaml:3: no. Correct that line.", None, 0)
DONE = Recovery(Ended(0, "", None, 0), 0.0, True, ())


@pytest.mark.slow
def test_killed_launcher_and_odd_configs_end_as_promised(tmp_path: Path) -> None:
    shop = Workshop(tmp_path / "work")
    found = [one for experiment in EXPERIMENTS if experiment.number in (4, 20) for one in carried_out(experiment, shop)]
    assert len(found) > 8
    assert [one for one in found if not one.met] == []


def test_each_experiment_stands_in_the_table_once() -> None:
    numbers = [experiment.number for experiment in EXPERIMENTS]
    assert numbers == sorted(ASKED_FOR)


@pytest.mark.parametrize(
    ("ended", "outcome", "problem"),
    [
        (REFUSAL, REFUSED, ""),
        (replace(REFUSAL, code=3), OTHER, "exit code 3, not 2"),
        (replace(REFUSAL, code=0), WRONG, "exit code 0, not 2"),
        (replace(REFUSAL, code=None), HUNG, "exit code None, not 2"),
        (replace(REFUSAL, orphans=1), OTHER, "1 orphans"),
        (replace(REFUSAL, stderr="folio: x\nfolio: line 3"), OTHER, "2 lines"),
        (replace(REFUSAL, stderr=f"Traceback (most recent call last)\n{REFUSAL.stderr}"), OTHER, "a traceback"),
        (replace(REFUSAL, stderr="folio: nothing said"), OTHER, "the line lacks 'x.yaml:3'"),
        (replace(REFUSAL, struck=False), OTHER, "it ended before the disturbance"),
    ],
)
def test_refusal_is_judged_by_code_line_and_orphans(ended: Ended, outcome: str, problem: str) -> None:
    row = refused(20, "a config", ended, 2, ["x.yaml:3"] if "line 3" not in ended.stderr else [])
    assert (row.outcome, row.met) == (outcome, not problem)
    assert problem in row.detail


@pytest.mark.parametrize(
    ("again", "outcome"),
    [
        (DONE, "R"),
        (replace(DONE, deviation=1e-9), WRONG),
        (replace(DONE, same_weights=False), WRONG),
        (replace(DONE, leftovers=("step-00000005.tmp",)), OTHER),
        (replace(DONE, ended=replace(DONE.ended, code=6)), OTHER),
        (replace(DONE, ended=replace(DONE.ended, code=None)), HUNG),
    ],
)
def test_recovery_is_judged_by_every_loss_and_the_weights(again: Recovery, outcome: str) -> None:
    row = recovered(1, "a kill", again)
    assert (row.outcome, row.met) == (outcome, outcome == "R")


def test_losses_deviate_without_limit_where_a_step_is_missing_or_twice_there() -> None:
    baseline = [((step, "train"), float(step)) for step in (1, 2, 3)]
    assert deviation(baseline[:2], baseline) == 0.0
    assert deviation([((1, "train"), 1.5)], baseline) == 0.5
    assert deviation([baseline[0], baseline[2]], baseline) == math.inf
    assert deviation([baseline[0], baseline[0]], baseline) == math.inf


def test_broken_experiment_stands_in_the_results_as_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(shop: Workshop) -> list[Outcome]:
        raise RuntimeError("no store")

    (row,) = carried_out(Experiment(1, "kills", broken), Workshop(tmp_path / "work"))
    assert not row.met
    assert "RuntimeError: no store" in row.detail
    assert "Traceback" in capsys.readouterr().err


def test_results_are_replaced_by_number_and_missed_ones_are_shown(tmp_path: Path) -> None:
    good = recovered(4, "a kill", DONE)
    rows = with_rows([], 4, [good], 0.1)
    rows = with_rows(rows, 4, [replace(good, met=False, outcome=WRONG, detail="losses deviate")], 0.1)
    write_results(rows, tmp_path)
    values = {figure["name"]: figure for figure in json.loads((tmp_path / "faults.json").read_text())["figures"]}
    assert [row["outcome"] for row in rows] == [WRONG]
    assert (values["silently wrong"]["value"], values["silently wrong"]["met"]) == (1, False)
    assert values["random kills survived"]["met"] is None
    page = (tmp_path / "faults.md").read_text()
    assert "losses deviate" in page
    assert "**no**" in page
    assert as_page([], rows)
    assert len(list(figures(rows))) == len(values)
