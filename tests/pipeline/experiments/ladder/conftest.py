"""A tiny ladder: the lecture's rungs on a generated text, with so few steps that all of it takes seconds."""

import numpy as np
import pytest

from gpt.lecture import RUNGS

LETTERS = np.array(list("abcdefgh \n"))


@pytest.fixture(scope="session")
def configs(tmp_path_factory):
    """A folder like configs/: lecture.yaml with a generated text as target, and a config for each rung."""
    folder = tmp_path_factory.mktemp("configs")
    text = "".join(LETTERS[np.random.default_rng(0).integers(len(LETTERS), size=3_000)])
    (folder / "text.txt").write_text(text)
    (folder / "lecture.yaml").write_text(f"target: {{path: {folder / 'text.txt'}}}\ntokenizer: {{kind: char}}\n")
    (folder / "lecture").mkdir()
    for place, name in enumerate(RUNGS):
        rung = f"published_nats_per_char: {3 - place / 10}\nsteps: 4\nseeds: [1, 2]\n"
        (folder / "lecture" / f"{name}.yaml").write_text(rung)
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    from pipeline.graph.store import Store

    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def climbed(configs, store):
    """The first climb of all rungs."""
    from pipeline.experiments.ladder import lecture_experiment

    return lecture_experiment.climb_ladder(configs, store, (), scales_up=False, command="folio lecture", workers=1)
