"""Seconds by hand on a machine of round figures, and what makes them more or fewer."""

import dataclasses

import pytest

from gpt.counts import flops_per_token, num_parameters
from pipeline.graph import durations, machines
from pipeline.graph.durations import SCORED_SHARE, stage_seconds
from pipeline.graph.expected_texts import ExpectedTexts
from pipeline.graph.machines import Device, Machine


@pytest.fixture(autouse=True)
def as_measured(monkeypatch):
    monkeypatch.setattr(machines, "flops_per_second", lambda shape, dtype, samples, device, ranks=1: 1e10)


ONE_CORE = Machine("", 1, 10**10)
SMALL = {"layers": 2, "width": 64, "heads": 2}


def seconds(config, shards, machine=ONE_CORE, ranks=1, **texts):
    return stage_seconds(config, ExpectedTexts(shards, counted=True, **texts), machine, ranks)


def test_pretraining_is_its_start_its_steps_its_evaluations_and_its_saves(config, shards):
    made = config(model=SMALL, pretrain={"tokens": 50 * 8192, "evaluate_every": 10, "save_every": 20})
    shape = made.model.shape(4096)
    token = flops_per_token(shape) / 1e10
    micro_batches, evaluations, saves = 50 * 2, 5, 3  # the third save is at the end
    expected = durations.RANKS_SECONDS + durations.TRIAL_SECONDS
    expected += 50 * 8192 * token + micro_batches * durations.MICRO_BATCH_SECONDS
    expected += evaluations * (65_536 * SCORED_SHARE * token + durations.EVALUATION_SECONDS)
    expected += saves * (durations.SAVE_SECONDS + 16 * num_parameters(shape) / durations.DISK_BYTES_PER_SECOND)
    assert seconds(made, shards())["pretrain"] == pytest.approx(expected)


def test_an_arm_trains_every_trial_to_its_end(config, shards):
    arm = {"learning_rates": [1e-3, 2e-3], "seeds": [1, 2, 3], "max_steps": 40, "evaluate_every": 0, "save_every": 0}
    one, four = (
        seconds(config(model=SMALL, scratch={**arm, **changes}), shards(selection=0))["scratch"]
        for changes in ({"learning_rates": [1e-3], "seeds": [1], "refit": False}, {"refit": False})
    )
    start = durations.RANKS_SECONDS
    assert four - start == pytest.approx(4 * (one - start))
    refitted = seconds(config(model=SMALL, scratch=arm), shards(selection=0))["scratch"]
    # Two trials, and three refits of 42 steps, as many epochs of more text as 40 of less.
    trial = one - start - durations.TRIAL_SECONDS
    assert refitted - start - 5 * durations.TRIAL_SECONDS == pytest.approx(trial * (2 + 3 * 42 / 40), rel=0.01)
    eager = seconds(config(model=SMALL, scratch={**arm, "patience": 1, "refit": False}), shards(selection=0))["scratch"]
    assert eager == four, "an upper bound: when patience ends a trial is not known beforehand"


def test_more_cores_and_more_ranks_do_the_arithmetic_faster(config, shards):
    made = config(model=SMALL, pretrain={"tokens": 500 * 8192})
    one = seconds(made, shards())["pretrain"]
    four = seconds(made, shards(), Machine("", 4, 10**10), ranks=4)["pretrain"]
    assert one / 4 < four < one / 2, "starting, saving and exchanging gradients stay"


def test_muon_costs_more_than_adamw(config, shards):
    adamw, muon = (
        seconds(config(model=SMALL, pretrain={"tokens": 81_920, "zero": 0, "optimizer": name}), shards())["pretrain"]
        for name in ("adamw", "muon")
    )
    # By hand: qkv and out are 192 x 64 and 64 x 64, up and down 256 x 64, in 2 blocks, 5 iterations, 10 steps.
    flops = 10 * 2 * 5 * (4 * 64 * 64 * (192 + 64 + 256 + 256) + 4 * 2 * 64**3)
    assert muon - adamw == pytest.approx(flops / 1e10)


def test_a_small_model_on_a_fast_gpu_waits_for_its_launches(config, shards):
    gpu = Machine("test", 1, 10**11, Device(1e18, 1e18, 10**11), gpu=True)
    made = config(model=SMALL, pretrain={"tokens": 81_920 * 100, "evaluate_every": 0, "save_every": 0})
    launches = 1000 * 2 * 2 * machines.LAUNCH_SECONDS  # steps, micro-batches, layers
    without = dataclasses.replace(gpu, device=None)  # as fast as timed here
    assert seconds(made, shards(), gpu)["pretrain"] > launches
    assert seconds(made, shards(), gpu)["pretrain"] < seconds(made, shards(), without)["pretrain"]


def test_text_takes_time_by_its_size_and_an_unknown_one_no_one_knows(config, shards):
    small, large = (seconds(config(), shards(corpus=tokens)) for tokens in (1_000_000, 101_000_000))
    assert large["corpus"] - small["corpus"] == pytest.approx(3e8 / durations.TEXT_BYTES_PER_SECOND["corpus"])
    sample = config().tokenizer.sample_bytes - (3 * 1_000_000 + 300_000)  # the small corpus is read as a whole
    assert large["tokenizer"] - small["tokenizer"] == pytest.approx(
        sample / durations.TEXT_BYTES_PER_SECOND["tokenizer"]
    )
    unknown = seconds(config(), shards(), knows_corpus=False)
    assert (unknown["corpus"], unknown["shards"]) == (None, None)
    assert unknown["pretrain"] is not None and unknown["target"] is not None


def test_the_report_takes_longer_over_more_validation_text(config, shards):
    short, long = (seconds(config(model=SMALL), shards(validation=tokens))["report"] for tokens in (1000, 101_000))
    files = 1 + 3 + 3
    token = flops_per_token(config(model=SMALL).model.shape(4096)) / 1e10
    assert long - short == pytest.approx(files * 100_000 * SCORED_SHARE * token)


def test_every_stage_of_a_run_and_its_variants_has_its_seconds(config, shards):
    made = config(report={"rivals": {"wide": {"model.width": 512}}})
    found = seconds(made, shards())
    assert set(found) >= {"target", "corpus", "tokenizer", "shards", "pretrain", "scratch", "finetune", "report"}
    assert found["wide.scratch"] > found["scratch"] / 5
