"""What a plan says of a chain of stand-in stages: states, reasons, sizes, obstacles."""

import os

import pytest

from pipeline.errors import ConfigError
from pipeline.graph import runner, stages
from pipeline.graph.manifest import write_manifest
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


def reasons(run_plan):
    return {stage.stage: stage.reason for stage in run_plan.stages if stage.state != "done"}


def test_a_changed_target_is_named_and_everything_below_it_follows(chain, config, texts, calls):
    runner.run_nodes(config(), chain)
    (texts / "my.txt").write_text("another target")
    made = reasons(plan(config(), chain))
    assert made["target"] == "my.txt changed"
    assert set(made) == set(stages.NAMES)
    calls.clear()
    runner.run_nodes(config(), chain)
    assert calls == list(stages.NAMES)
    assert reasons(plan(config(), chain)) == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda texts: (texts / "b.txt").write_text("new"), "1 file of texts/*.txt was added (b.txt)"),
        (lambda texts: (texts / "a.txt").unlink(), "1 file of texts/*.txt was removed (a.txt)"),
        (
            lambda texts: [path.write_text("new") for path in texts.iterdir()],
            "2 files of texts/*.txt changed (a.txt, c.txt)",
        ),
    ],
)
def test_changed_files_of_a_corpus_are_counted_and_the_target_stays(chain, config, texts, change, reason):
    runner.run_nodes(config(), chain)
    change(texts / "texts")
    made = reasons(plan(config(), chain))
    assert made["corpus"] == reason
    assert "target" not in made
    assert f"because {reason}" in plan(config(), chain).as_text()


def test_a_touched_file_and_a_moved_project_change_nothing(chain, config, texts, calls):
    runner.run_nodes(config(), chain)
    os.utime(texts / "my.txt", (1, 1))
    for name in ("my.txt", "texts"):
        (texts / "moved").mkdir(exist_ok=True)
        (texts / name).rename(texts / "moved" / name)
    calls.clear()
    runner.run_nodes(config().based_in(texts / "moved"), chain)
    assert calls == []
    assert plan(config().based_in(texts / "moved"), chain).as_text().endswith("Nothing to do.")


def test_two_projects_with_one_store_have_a_target_each(chain, config, texts):
    (texts / "other").mkdir()
    (texts / "other" / "my.txt").write_text("the target of another project")
    (texts / "texts").rename(texts / "other" / "texts")
    (texts / "texts").symlink_to(texts / "other" / "texts")
    mine, theirs = (runner.run_nodes(config().based_in(folder), chain) for folder in (texts, texts / "other"))
    assert mine["target"].folder != theirs["target"].folder
    assert mine["report"].folder != theirs["report"].folder


def test_a_missing_text_is_said_by_plan_and_refused_by_run(chain, config, texts):
    (texts / "my.txt").rename(texts / "mine.txt")
    made = plan(config(), chain)
    assert [stage.state for stage in made.stages] == ["will run"] * len(stages.NAMES)
    assert made.notes[0].startswith("target: target.path: there is no file")
    with pytest.raises(ConfigError, match=r"has mine\.txt"):
        runner.run_nodes(config(), chain)
    (texts / "mine.txt").rename(texts / "my.txt")
    assert list(runner.run_nodes(config(), chain)) == list(stages.NAMES)


def test_a_text_that_went_missing_leaves_finished_work_as_it_is(chain, config, texts):
    runner.run_nodes(config(), chain)
    (texts / "my.txt").unlink()
    assert reasons(plan(config(), chain))["target"] == "its text is unknown"
    (texts / "my.txt").write_text("the text of my.txt")
    assert reasons(plan(config(), chain)) == {}


def test_artifacts_of_an_older_kind_are_said_to_be_so_once(chain, config):
    for artifact in runner.run_nodes(config(), chain).values():
        manifest = artifact.manifest.model_copy(update={"outside": None, "fingerprint": "0" * 64})
        artifact.folder.rename(chain.folder(artifact.stage, "0" * 64))
        write_manifest(chain.folder(artifact.stage, "0" * 64), manifest)
    made = plan(config(), chain)
    assert reasons(made)["target"] == reasons(made)["corpus"] == "an artifact of an older kind"
    text = made.as_text()
    assert text.count("made before texts were identified by content") == 1
