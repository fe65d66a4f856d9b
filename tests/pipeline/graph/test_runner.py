"""The chain with stand-in stages: small functions below are what the graph's stages name."""

import errno
import json
import os
import sys
import types

import pytest

from pipeline.config.schema import Config
from pipeline.errors import DataError, EnvironmentFault
from pipeline.graph import runner, stages
from pipeline.graph.lock import exclusive, held
from pipeline.graph.manifest import MANIFEST, damaged_files
from pipeline.graph.plan import differences, plan
from pipeline.graph.runner import Selection
from pipeline.graph.stage_counts import StageCounts, TokenizerCounts
from pipeline.graph.status import states
from pipeline.graph.store import Store

CALLS = []


class Counted(StageCounts):
    documents: int


def write_text(work):
    CALLS.append(work.stage)
    (work.folder / "text.txt").write_text(f"{work.stage} {sorted(work.inputs)}")
    if work.stage == "tokenizer":
        return TokenizerCounts(kind="bpe", vocab_size=work.slice["tokenizer"].vocab_size, sha256="0")
    return Counted(documents=len(work.inputs))


def fail(work):
    (work.folder / "half.txt").write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device", str(work.folder / "text.txt"))


@pytest.fixture
def chain(monkeypatch, tmp_path):
    CALLS.clear()
    name = "stand_in_stages"
    module = types.ModuleType(name)
    module.write_text, module.fail = write_text, fail
    monkeypatch.setitem(sys.modules, name, module)
    rows = tuple(
        stages.Stage(s.name, s.needs, s.slice, f"{name}:write_text", s.version, s.trains, s.pretrains)
        for s in stages.STAGES
    )
    monkeypatch.setattr(stages, "STAGES", rows)
    return Store(tmp_path / "store")


def config(**changes):
    return Config(name="test", corpus={"sources": [{"path": "x"}]}, **changes)


def test_a_second_run_does_nothing(chain):
    first = runner.run_nodes(config(), chain)
    assert list(first) == list(stages.NAMES)
    CALLS.clear()
    again = runner.run_nodes(config(), chain)
    assert not CALLS
    assert again == first


def test_a_changed_field_runs_exactly_what_depends_on_it(chain):
    runner.run_nodes(config(), chain)
    CALLS.clear()
    runner.run_nodes(config(finetune={"max_steps": 7}), chain)
    assert CALLS == ["finetune", "report"]
    CALLS.clear()
    runner.run_nodes(config(tokenizer={"vocab_size": 300}), chain)
    assert CALLS == ["tokenizer", "shards", "pretrain", "scratch", "finetune", "report"]


def test_presentation_fields_make_nothing_stale(chain):
    runner.run_nodes(config(), chain)
    CALLS.clear()
    runner.run_nodes(config(pretrain={"save_every": 7}, launch={"ranks": 2}), chain)
    assert not CALLS


def test_two_runs_that_agree_share_artifacts(chain):
    runner.run_nodes(config(), chain)
    CALLS.clear()
    runner.run_nodes(config().model_copy(update={"name": "other"}), chain)
    assert not CALLS


def test_plan_says_what_changed(chain):
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


def test_plan_writes_nothing(chain):
    plan(config(), chain)
    assert not chain.root.exists()


def test_a_run_that_cannot_fit_is_told(chain):
    huge = plan(config(model={"layers": 400, "width": 16384, "heads": 128}), chain)
    assert any("pretrain with ZeRO 1" in obstacle for obstacle in huge.obstacles)
    assert plan(config(), chain).obstacles == ()


def test_plan_says_what_a_dtype_comes_to_without_bf16_units(chain, monkeypatch):
    halves = config(pretrain={"dtype": "bf16"}, scratch={"dtype": "mixed"}, finetune={"dtype": "mixed"})
    monkeypatch.setattr("pipeline.graph.plan.has_bf16_units", lambda device: False)
    emulated, wide = plan(halves, chain).notes
    assert emulated.startswith("pretrain: dtype bf16 is emulated")
    assert wide.startswith("scratch, finetune: dtype mixed computes in fp32")
    assert emulated in plan(halves, chain).as_text()
    assert plan(config(), chain).notes == ()
    monkeypatch.setattr("pipeline.graph.plan.has_bf16_units", lambda device: True)
    assert plan(halves, chain).notes == ()


def test_zero_stages_need_less_memory_with_more_ranks(chain):
    four = plan(config(), chain, ranks=4)
    sizes = next(stage for stage in four.stages if stage.stage == "pretrain").memory_bytes_per_rank
    assert list(sizes) == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


def test_a_rival_is_planned_with_its_own_model(chain):
    made = plan(config(report={"rivals": {"wide": {"model.width": 512}}}), chain)
    memory = {stage.stage: stage.memory_bytes_per_rank for stage in made.stages if stage.tokens}
    assert memory["wide.scratch"][0] > memory["scratch"][0]


def test_a_stage_alone_needs_its_inputs(chain):
    with pytest.raises(
        DataError,
        match=r"Stage corpus needs target, which is not finished\. Run `folio run CONFIG --until target` first\.",
    ):
        runner.run_nodes(config(), chain, Selection("corpus", "corpus"))


def test_a_full_disk_is_one_line_and_keeps_what_was_finished(chain, monkeypatch):
    rows = tuple(
        stages.Stage(s.name, s.needs, s.slice, "stand_in_stages:fail" if s.name == "shards" else s.function)
        for s in stages.STAGES
    )
    monkeypatch.setattr(stages, "STAGES", rows)
    with pytest.raises(EnvironmentFault, match=r"No space left for .*text\.txt \(.* free\)"):
        runner.run_nodes(config(), chain)
    assert [s.stage for s in states(config(), chain) if s.state == "done"] == ["target", "corpus", "tokenizer"]


def test_a_folder_has_one_writer_and_the_refusal_names_it(tmp_path):
    with exclusive(tmp_path / "a"):
        assert held(tmp_path / "a")
        with pytest.raises(EnvironmentFault, match=f"process {os.getpid()}"), exclusive(tmp_path / "a"):
            pass
    assert not held(tmp_path / "a")


def changed(key, value):
    """A damage that gives one key of the manifest another value; None removes it."""
    return lambda text: json.dumps({k: v for k, v in {**json.loads(text), key: value}.items() if v is not None})


OUTSIDE = [{"path": "../../text.txt", "bytes": 1, "sha256": "0"}]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda text: text[:40], "is damaged"),
        (changed("files", None), "is damaged"),
        (changed("files", OUTSIDE), "outside"),
        (changed("stage", "corpus"), "holds the manifest of"),
        (changed("format", 9), "format 9"),
    ],
)
def test_damaged_manifests_are_refused(chain, damage, expected):
    folder = runner.run_nodes(config(), chain)["target"].folder
    (folder / MANIFEST).write_text(damage((folder / MANIFEST).read_text()))
    with pytest.raises(DataError, match=expected):
        runner.run_nodes(config(), chain)


def test_verification_names_each_damaged_file(chain):
    artifact = runner.run_nodes(config(), chain)["target"]
    assert damaged_files(artifact.folder, artifact.manifest.files) == []
    text = (artifact.folder / "text.txt").read_text()
    (artifact.folder / "text.txt").write_text(text.swapcase())
    assert damaged_files(artifact.folder, artifact.manifest.files) == ["text.txt has another sha256"]
    (artifact.folder / "text.txt").unlink()
    with pytest.raises(DataError, match=r"text\.txt is missing"):
        artifact.checked()
