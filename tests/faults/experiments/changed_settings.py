"""Experiments 18 to 20: another config, another number of ranks, and files that are no config."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from pipeline.config.loading import load_config
from pipeline.graph.fingerprints import fingerprints
from tests.faults.experiments.blows import Blow, at_step, rows, struck_run, to_launcher
from tests.faults.experiments.launched_folio import done
from tests.faults.experiments.outcome import SHARDED_ANEW, Outcome, recovered, recovery, refused
from tests.faults.experiments.workshop import Workshop, artifact, newest_checkpoint

# What is changed -> the key, its value, and what the refusal has to show: the old and the new one where they are short.
REFUSED_CHANGES = {
    "learning rate": ("pretrain.learning_rate=5e-3", "pretrain.learning_rate 0.01 -> 0.005"),
    "batch": ("pretrain.batch_tokens=2048", "pretrain.batch_tokens 1024 -> 2048"),
    "seed": ("pretrain.seed=1", "pretrain.seed 0 -> 1"),
    "context": ("model.context=16", "model.context 32 -> 16"),
    "layers": ("model.layers=1", "model.layers 2 -> 1"),
    "dtype": ("pretrain.dtype=bf16", "pretrain.dtype fp32 -> bf16"),
    "vocabulary": ("tokenizer.vocab_size=300", "tokenizer "),
    "data": ("corpus.validation=25%", "shards "),
}
ALLOWED_CHANGES = {
    "save_every, keep_checkpoints and timeout_seconds": (
        "--set pretrain.save_every=7 --set pretrain.keep_checkpoints=1 --set launch.timeout_seconds=50", 0.0,
    ),
    "ZeRO stage 1 -> 3": ("--set pretrain.zero=3", SHARDED_ANEW),
    "ZeRO stage 1 -> 0": ("--set pretrain.zero=0", SHARDED_ANEW),
}  # fmt: skip
RANKS = (2, 4, 1)  # then 2 again to the end
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nname: *c\n"


def changed_fields(shop: Workshop) -> list[Outcome]:
    refusals = [refused_change(shop, name, *change) for name, change in REFUSED_CHANGES.items()]
    return [*refusals, *(allowed_change(shop, name, *change) for name, change in ALLOWED_CHANGES.items())]


def refused_change(shop: Workshop, name: str, setting: str, words: str) -> Outcome:
    """The changed run gets an artifact of its own; checkpoints that somebody puts there are refused, old -> new."""
    folder = shop.folder("changed", "interrupted")
    options = f"--set {setting}"
    if setting.startswith(("tokenizer", "corpus")):
        done(folder, f"run {shop.config} --until shards {options}")
    before = artifact(folder, "pretrain")
    digest = fingerprints(load_config(shop.config, [setting]))["pretrain"]
    own = [path for path in (folder / "store").glob("pretrain-*") if path.name.endswith(digest[:12])]
    problems = ["the changed run has the same artifact"] if own else []
    place = folder / "store" / f"pretrain-{digest[:12]}"
    shutil.copytree(before / "checkpoints", place / "checkpoints", dirs_exist_ok=True)
    ended = done(folder, shop.pretrain(options))
    return refused(18, f"{name} changed, on the old checkpoints", ended, 4, [words, "->"], problems=problems)


def allowed_change(shop: Workshop, name: str, options: str, tolerance: float) -> Outcome:
    folder = shop.folder("changed", "interrupted")
    step = int(newest_checkpoint(folder).name.removeprefix("step-"))
    again = recovery(folder, shop.pretrain(options), shop.baseline())
    problems = [] if again.ended.resumed == step else [f"it went on from step {again.ended.resumed}, not {step}"]
    return recovered(18, f"{name}: may change on resume", again, tolerance, problems=problems)


def numbers_of_ranks(shop: Workshop) -> list[Outcome]:
    return [ranks_of(shop, zero, optimizer) for optimizer in ("adamw", "muon") for zero in range(4)]


def ranks_of(shop: Workshop, zero: int, optimizer: str) -> Outcome:
    """One run over 2, 4, 1 and 2 ranks, stopped in between; the order of the data and the losses stay."""
    training = "" if optimizer == "adamw" else f"--set pretrain.optimizer={optimizer}"
    blows = [
        Blow(
            f"{ranks}", at_step(10 * at, to_launcher(signal.SIGTERM), ranks), (75,), ("saved at step",), 0, ranks=ranks
        )
        for at, ranks in enumerate(RANKS, 1)
    ]
    options = f"{training} --set pretrain.zero={zero}".strip()
    struck, again = struck_run(
        shop, f"ranks-{optimizer}-{zero}", blows, options, baseline=training, tolerance=SHARDED_ANEW
    )
    problems = [problem for row in rows(19, struck, again, SHARDED_ANEW) if not row.met for problem in [row.detail]]
    what = f"2 -> 4 -> 1 -> 2 ranks in one run, ZeRO {zero}, {optimizer}"
    return recovered(
        19,
        what,
        again,
        SHARDED_ANEW,
        problems=list(dict.fromkeys(problems)),
        steps_lost=max(one.lost for one in struck),
    )


def odd_configs(shop: Workshop) -> list[Outcome]:
    """Experiment 20: each is refused within seconds, and nothing in it is executed."""
    folder = shop.folder("yaml")
    song = folder / "song"
    good = shop.config.read_text()
    cases: Mapping[str, tuple[str, str]] = {
        "a tab": ("name: x\nmodel:\n\tlayers: 2\n", "odd.yaml:3"),
        "a duplicate key": ("name: x\nname: y\n", "odd.yaml:2"),
        "an unknown key": (good.replace("layers", "layerz"), "layerz"),
        "a Python tag": (f'name: !!python/object/apply:os.mkdir ["{song}"]\n', "odd.yaml:1"),
        "aliases that grow": (BOMB, "odd.yaml:2"),
        "50 MB": ("# " + "x" * 50_000_000 + "\n" + good, "1,000,000"),
        "nan as a learning rate": (re.sub("learning_rate: .*", "learning_rate: .nan", good), "learning_rate"),
        "a negative number of steps": (good.replace("max_steps: 8", "max_steps: -8"), "max_steps"),
    }
    return [odd_config(folder, song, *case) for case in [(what, *parts) for what, parts in cases.items()]]


def odd_config(folder: Path, song: Path, what: str, text: str, words: str) -> Outcome:
    path = folder / "odd.yaml"
    path.write_text(text)
    ended = done(folder, f"plan {path}")
    problems = ["something in it was executed"] if song.exists() else []
    return refused(20, f"a config with {what}", ended, 2, [words, path.name], problems=problems)
