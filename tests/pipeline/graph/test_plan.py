"""What a plan says of a chain of stand-in stages: states, reasons, sizes, obstacles."""

from pipeline.graph import runner, stages
from pipeline.graph.plan import differences, plan
from pipeline.graph.runner import Selection


def test_plan_says_what_changed(chain, config):
    runner.run_nodes(config(), chain)
    made = plan(config(pretrain={"learning_rate": 0.002 * 2}), chain)
    by_stage = {stage.stage: stage for stage in made.stages}
    assert by_stage["shards"].state == "done"
    assert (by_stage["pretrain"].state, by_stage["finetune"].state) == ("stale", "stale")
    assert by_stage["pretrain"].reason == "pretrain.learning_rate 0.002 -> 0.004"
    assert by_stage["finetune"].reason == "pretrain changes"


def test_differences_name_added_and_removed_keys():
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 2}, "d": 3}) == [
        "a.b 1 -> 2",
        "c 2 -> (unset)",
        "d (unset) -> 3",
    ]


def test_plan_writes_nothing(chain, config):
    plan(config(), chain)
    assert not chain.root.exists()
    runner.run_nodes(config(), chain, Selection(last="corpus"))

    def contents():
        return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in chain.root.rglob("*")}

    before = contents()
    assert [stage.state for stage in plan(config(), chain).stages[:3]] == ["done", "done", "will run"]
    assert len(before) >= 6  # two artifacts: folder, text and manifest of each
    assert contents() == before


def test_a_run_that_cannot_fit_is_told(chain, config):
    huge = plan(config(model={"layers": 400, "width": 16384, "heads": 128}), chain)
    assert any("pretrain with ZeRO 1" in obstacle for obstacle in huge.obstacles)
    assert plan(config(), chain).obstacles == ()


def test_plan_says_what_a_dtype_comes_to_without_bf16_units(chain, monkeypatch, config):
    halves = config(pretrain={"dtype": "bf16"}, scratch={"dtype": "mixed"}, finetune={"dtype": "mixed"})
    monkeypatch.setattr("pipeline.graph.plan.has_bf16_units", lambda device: False)
    emulated, wide = plan(halves, chain).notes
    assert emulated.startswith("pretrain: dtype bf16 is emulated")
    assert wide.startswith("scratch, finetune: dtype mixed computes in fp32")
    assert emulated in plan(halves, chain).as_text()
    assert plan(config(), chain).notes == ()
    monkeypatch.setattr("pipeline.graph.plan.has_bf16_units", lambda device: True)
    assert plan(halves, chain).notes == ()


def test_zero_stages_need_less_memory_with_more_ranks(chain, config):
    four = plan(config(), chain, ranks=4)
    sizes = next(stage for stage in four.stages if stage.stage == "pretrain").memory_bytes_per_rank
    assert list(sizes) == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


def test_a_rival_is_planned_with_its_own_model(chain, config):
    made = plan(config(report={"rivals": {"wide": {"model.width": 512}}}), chain)
    memory = {stage.stage: stage.memory_bytes_per_rank for stage in made.stages if stage.tokens}
    assert memory["wide.scratch"][0] > memory["scratch"][0]


def test_a_finished_run_has_nothing_to_do(chain, config):
    runner.run_nodes(config(), chain)
    text = plan(config(), chain).as_text()
    assert text.count("done") == len(stages.NAMES)
    assert text.endswith("Nothing to do.")
