import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from gpt.lecture import RUNGS
from pipeline.experiments.ladder import lecture_experiment
from pipeline.experiments.measurements import FIELDS

NUM_TRIALS = 2 * len(RUNGS)


def test_every_rung_is_trained_with_every_seed_and_the_last_one_says_what_it_needs(climbed, store):
    *rungs, last = climbed.rungs
    assert [result.rung for result in rungs] == list(RUNGS)
    assert all(len(result.losses) == 2 and result.interval[0] <= result.mean for result in rungs)
    without_gpu = "" if torch.cuda.is_available() else ": needs a GPU"
    assert (last.rung, last.mean, last.note) == ("scaled-up", None, f"not run{without_gpu}")
    assert climbed.seconds > 0
    assert len(list(store.root.glob("lecture/*/seed-*.json"))) == NUM_TRIALS


def test_finished_trials_are_not_repeated_and_a_lost_one_is_made_again(climbed, configs, store):
    lost = next(store.root.glob("lecture/bigram-*/seed-2.json"))
    before = json.loads(lost.read_bytes())
    times = {path: path.stat().st_mtime_ns for path in store.root.glob("lecture/*/seed-*.json") if path != lost}
    lost.unlink()
    again = lecture_experiment.climb_ladder(configs, store, (), scales_up=False, command="folio lecture")
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert json.loads(lost.read_bytes())["nats_per_char"] == before["nats_per_char"]
    assert again.rungs == climbed.rungs
    assert again.seconds is None


def test_records_hold_what_is_needed_to_judge_them(climbed, tmp_path):
    lecture_experiment.write(climbed, tmp_path)
    records = json.loads((tmp_path / "lecture.json").read_text())
    assert all(set(FIELDS) <= set(record) for record in records)
    assert [record["name"] for record in records[:2]] == ["bigram: validation loss", "one-head: validation loss"]
    by_name = {record["name"]: record for record in records}
    last = by_name["scaled-up: validation loss"]
    assert (last["value"], last["met"], last["target"]) == (None, None, 1.48)
    order = by_name["rungs that lie below the one before"]
    assert order["target"] == len(RUNGS) - 1
    assert order["met"] == (order["value"] >= order["target"])
    assert by_name["training all rungs but the last"]["met"] is True
    equal = [record for name, record in by_name.items() if "largest difference" in name]
    assert len(equal) == 4
    assert all(record["met"] for record in equal)


def test_the_command_prints_the_table_and_names_the_page(configs, tmp_path):
    (tmp_path / "configs").symlink_to(configs)
    environment = {**os.environ, "FOLIO_STORE": str(tmp_path / "store"), "PYTHONPATH": str(Path.cwd())}
    command = [Path(sys.executable).with_name("folio"), "lecture", "--rung", "bigram", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out" / "lecture.md")
    assert "bigram" in done.stdout
    assert "one-head" not in done.stdout
    assert "not run" in done.stdout
    assert "loop against softmax: " in done.stdout
    assert list((tmp_path / "store").glob("lecture/bigram-*/seed-1.json"))
