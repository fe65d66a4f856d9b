"""A plan as lines: readable at 100 columns, with a question mark where nothing is known."""

from pipeline.graph.run_plan import RunPlan, StagePlan


def stage(name, **values):
    return StagePlan(**{"stage": name, "state": "will run", "reason": "", "folder": "x", **values})


PRETRAIN = stage(
    "pretrain",
    seconds=90.0,
    disk_bytes=2_000_000,
    tokens=24_000_000,
    memory_bytes_per_rank=(400_000_000,) * 4,
    zero=1,
    copy_bytes_per_rank=123_400_000,
    training_tokens=24_000_000,
    epochs=1.07,
    tokens_per_parameter=18.3,
)
FAR = stage("corpus", seconds=None, disk_bytes=None)


def lines(*stages, **more):
    return RunPlan("x", 2, stages, 1_310_000, (), **more).as_text().splitlines()


def test_each_training_has_a_row_of_epochs_and_tokens_per_parameter():
    text = lines(FAR, PRETRAIN)
    (at,) = [number for number, line in enumerate(text) if "tokens per parameter" in line]
    assert text[at].split() == ["one", "training", "tokens", "epochs", "tokens", "per", "parameter"]
    assert text[at + 1].split() == ["pretrain", "24M", "1.1", "18"]
    assert max(map(len, text)) <= 100


def test_what_is_not_known_is_a_question_mark():
    unknown = stage("pretrain", seconds=1.0, disk_bytes=1, training_tokens=1000, tokens_per_parameter=0.053)
    text = lines(FAR, unknown)
    assert ["corpus", "will", "run", "?", "?"] in [line.split() for line in text]
    assert ["pretrain", "1k", "?", "0.053"] in [line.split() for line in text]


def test_memory_stands_by_zero_stage_with_what_saving_takes_on_top():
    (row,) = [line for line in lines(FAR, PRETRAIN) if line.count("400.0 MB") == 4]
    assert row.endswith("(this run: ZeRO 1; to save 123.4 MB more)")


def test_the_total_is_an_upper_bound_where_something_is_trained():
    assert any("to do: 2 stages, at most 2 min" in line for line in lines(FAR, PRETRAIN))
    assert any("to do: 1 stage, about 5.0 s" in line for line in lines(stage("corpus", seconds=5.0, disk_bytes=1)))


def test_a_machine_that_is_not_here_is_named_with_the_source_of_its_speed():
    text = lines(PRETRAIN, machine="h100x8", speed="on h100x8: at 40% of its peak")
    assert text[0] == "x: 1.31M parameters, 2 ranks on h100x8: at 40% of its peak"
    assert text[-1] == "It fits on h100x8."
    assert lines(PRETRAIN)[-1] == "It fits on this machine."
