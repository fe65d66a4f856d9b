"""What a plan says of a chain of stand-in stages: states, reasons, sizes, obstacles."""

import dataclasses
import os
from types import SimpleNamespace

import pytest

from pipeline.errors import ConfigError
from pipeline.graph import runner, stages
from pipeline.graph.machines import named_machine
from pipeline.graph.manifest import write_manifest
from pipeline.graph.plan import plan
from pipeline.graph.runner import Selection


def test_plan_says_what_changed(chain, config):
    runner.run_nodes(config(), chain)
    made = plan(config(pretrain={"learning_rate": 0.002 * 2}), chain)
    by_stage = {stage.stage: stage for stage in made.stages}
    assert by_stage["shards"].state == "done"
    assert (by_stage["pretrain"].state, by_stage["finetune"].state) == ("stale", "stale")
    assert by_stage["pretrain"].reason == "pretrain.learning_rate 0.002 -> 0.004"
    assert by_stage["finetune"].reason == "pretrain changes"


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
    monkeypatch.setattr("pipeline.graph.machines.has_bf16_units", lambda device: False)

    def notes(config, machine=None):
        return [note for note in plan(config, chain, machine=machine).notes if "dtype" in note]

    emulated, wide = notes(halves)
    assert emulated.startswith("pretrain: dtype bf16 is emulated")
    assert wide.startswith("scratch, finetune: dtype mixed computes in fp32")
    assert emulated in plan(halves, chain).as_text()
    assert notes(config()) == notes(halves, named_machine("h100x1")) == []
    monkeypatch.setattr("pipeline.graph.machines.has_bf16_units", lambda device: True)
    assert notes(halves) == []


def test_a_config_for_gpus_is_told_how_to_be_planned_for_some(chain, config):
    for_gpus = config(pretrain={"dtype": "bf16"}, launch={"ranks": 8})
    (hint,) = [note for note in plan(for_gpus, chain).notes if "--on" in note]
    assert hint == "To plan it for GPUs that are not here, add for example --on h100x8."
    assert not [note for note in plan(config(), chain).notes if "--on" in note]
    elsewhere = plan(for_gpus, chain, ranks=8, machine=named_machine("h100x8"))
    assert not [note for note in elsewhere.notes if "--on" in note]


def test_another_machine_is_judged_by_its_own_memory_and_not_by_the_disk_here(chain, config, monkeypatch):
    large = config(model={"layers": 12, "width": 768, "heads": 12}, pretrain={"dtype": "bf16", "micro_batch": 1024})
    monkeypatch.setattr("pipeline.graph.plan.shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    small, big = (plan(large, chain, ranks=1, machine=named_machine(name)) for name in ("l4x1", "h200x1"))
    assert [obstacle.split(" needs ")[0] for obstacle in small.obstacles] == ["pretrain with ZeRO 1 on 1 rank"]
    assert small.obstacles[0].endswith("24.0 GB available.")
    assert big.obstacles == ()
    assert big.as_text().endswith("It fits on h200x1.")
    assert "on h200x1: at 40% of its published peak (989 TFLOP/s in bf16" in big.as_text().splitlines()[0]
    assert "of disk" in " ".join(plan(large, chain).obstacles)


def test_one_training_is_measured_against_its_text_and_its_model(chain, config):
    made = config(pretrain={"tokens": "20M"}, scratch={"max_steps": 100})
    runner.run_nodes(made, chain, Selection(last="shards"))
    run_plan = plan(made, chain)
    pretrain, scratch = (
        next(stage for stage in run_plan.stages if stage.stage == name) for name in ("pretrain", "scratch")
    )
    assert (pretrain.training_tokens, scratch.training_tokens) == (2441 * 8192, 100 * 8192)
    assert (pretrain.epochs, scratch.epochs) == (2441 * 8192 / 10_000_000, 100 * 8192 / 1_000_000)
    assert pretrain.tokens_per_parameter == 2441 * 8192 / run_plan.parameters
    told = run_plan.as_json()["stages"]
    assert [stage["epochs"] for stage in told if stage["stage"] == "pretrain"] == [pretrain.epochs]
    # Of a finished stage, too.
    runner.run_nodes(made, chain)
    assert [stage.epochs for stage in plan(made, chain).stages if stage.stage == "pretrain"] == [pretrain.epochs]


def test_what_makes_no_sense_is_said_while_it_is_still_to_do(chain, config):
    thirty = config(pretrain={"tokens": "300M"})
    runner.run_nodes(thirty, chain, Selection(last="shards"))
    (often,) = [note for note in plan(thirty, chain).notes if "times" in note]
    assert often.startswith("pretrain: the corpus is seen 30.0 times")
    runner.run_nodes(thirty, chain)
    assert plan(thirty, chain).notes == ()


def test_a_text_that_seems_too_short_is_a_note_before_it_is_counted(chain, config):
    tiny = plan(config(), chain)  # 18 characters of target are a guess of five tokens
    assert any(note.startswith("scratch: The target's training split has") for note in tiny.notes)


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


def test_another_format_of_an_artifact_is_said_by_its_news(chain, config, monkeypatch):
    runner.run_nodes(config(), chain)
    target, *others = stages.STAGES
    later = dataclasses.replace(target, version=target.version + 1, news="it is cut in another way")
    monkeypatch.setattr(stages, "STAGES", (later, *others))
    made = reasons(plan(config(), chain))
    assert made["target"] == "it is cut in another way"
    assert made["shards"] == "target changes, corpus changes, tokenizer changes"


def test_artifacts_of_an_older_kind_are_said_to_be_so_once(chain, config):
    for artifact in runner.run_nodes(config(), chain).values():
        manifest = artifact.manifest.model_copy(update={"outside": None, "fingerprint": "0" * 64})
        artifact.folder.rename(chain.folder(artifact.stage, "0" * 64))
        write_manifest(chain.folder(artifact.stage, "0" * 64), manifest)
    made = plan(config(), chain)
    assert reasons(made)["target"] == reasons(made)["corpus"] == "an artifact of an older kind"
    text = made.as_text()
    assert text.count("made before texts were identified by content") == 1
