"""The named runs under configs/: each can be planned as it stands, and says on top what a reader needs to know."""

import re
from pathlib import Path

import pytest

from pipeline.config.loading import load_config
from pipeline.graph.plan import plan
from pipeline.graph.stages import nodes_of, stages_of
from pipeline.graph.store import Store
from pipeline.training.preflight import refuse_impossible

CONFIGS = sorted(Path("configs").glob("*.yaml"))
NAMES = {"demo", "shakespeare-cpu", "shakespeare-gpu", "gpt2-124m", "gpt2-shakespeare", "lecture", "ablation"}


def test_the_named_runs_are_there():
    assert {path.stem for path in CONFIGS} == NAMES


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_can_be_done_on_its_ranks(path, tmp_path):
    config = load_config(path)
    assert config.name == path.stem
    assert any(stage.trains for stage in stages_of(config))
    refuse_impossible(config, stages_of(config), config.launch.ranks or 1)
    made = plan(config, Store(tmp_path), config.launch.ranks or 1)
    assert [stage.state for stage in made.stages] == ["will run"] * len(nodes_of(config))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_opens_with_purpose_command_hardware_time_and_expectation(path):
    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert re.search(rf"folio (run|ablate) configs/{path.name}", header)
    for word in ("Hardware:", "Expect:"):
        assert word in header
    assert re.search(r"[Mm]inutes|hour|half a day", header)


PRETRAINED = [path for path in CONFIGS if any(stage.pretrains for stage in stages_of(load_config(path)))]


def test_every_named_run_but_the_lectures_pretrains():
    assert {path.stem for path in PRETRAINED} == NAMES - {"lecture"}


@pytest.mark.parametrize("path", PRETRAINED, ids=lambda path: path.stem)
def test_finetuning_has_a_lower_rate_and_fewer_steps_and_a_grid_of_the_same_size(path):
    config = load_config(path)
    scratch, finetune = config.scratch, config.finetune
    assert finetune.max_steps < scratch.max_steps
    assert len(finetune.learning_rates) == len(scratch.learning_rates)
    assert max(finetune.learning_rates) < config.pretrain.learning_rate
    assert max(finetune.learning_rates) < max(scratch.learning_rates)
