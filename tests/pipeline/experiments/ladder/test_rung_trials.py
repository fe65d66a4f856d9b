import math

import pytest
import torch

from pipeline.errors import DataError, Diverged
from pipeline.experiments.ladder import rung_trials
from pipeline.experiments.ladder.rung_trials import RungTrial, read_result, read_text, score, train_and_score, trials_of
from pipeline.experiments.ladder.rungs import Rung
from tests.pipeline.written_target import write_target

RUNG = Rung(name="one-head", published_nats_per_char=2.4, steps=3)


@pytest.fixture
def target(tmp_path):
    """What stage target leaves behind, with line ends that must not change."""
    folder = tmp_path / "target"
    folder.mkdir()
    write_target(folder, train="abc\r\n" * 40, selection="cab\r\n" * 4, validation="bca\r\n" * 6)
    return folder


def trial(target, tmp_path, **changes):
    return RungTrial(RUNG.model_copy(update=changes), 1, target, tmp_path / "own" / "seed-1.json")


def test_the_selection_split_is_trained_on_and_no_character_changes(target):
    text = read_text(target)
    assert text.characters == "\n\rabc"
    assert "".join(text.characters[place] for place in text.train) == "abc\r\n" * 40 + "cab\r\n" * 4
    assert "".join(text.characters[place] for place in text.validation) == "bca\r\n" * 6


@pytest.mark.parametrize("context", [4, 8, 29, 100])
def test_every_character_but_the_first_is_scored_once_whatever_the_context(context):
    table = torch.nn.Embedding(4, 4)  # a bigram: windows do not change what it sees
    text = torch.randint(4, (30,), generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.cross_entropy(table(text[:-1]), text[1:], reduction="sum").item()
    nats, scored = score(table, text, context)
    assert scored == 29
    assert nats == pytest.approx(expected, rel=1e-5)


def test_the_same_seed_gives_the_same_result_and_another_seed_another(target, tmp_path):
    state = torch.random.get_rng_state()
    first, again = (train_and_score(trial(target, tmp_path / name)) for name in ("first", "again"))
    other = train_and_score(RungTrial(RUNG, 2, target, tmp_path / "other.json"))
    assert (first.nats_per_char, first.sample) == (again.nats_per_char, again.sample)
    assert first.nats_per_char != other.nats_per_char
    assert first.scored_characters == 29
    assert len(first.sample) == rung_trials.SAMPLE_CHARACTERS
    assert torch.equal(torch.random.get_rng_state(), state)


def test_untrained_models_of_two_seeds_differ(target, tmp_path):
    untrained = RUNG.model_copy(update={"steps": 0})
    losses = {
        train_and_score(RungTrial(untrained, seed, target, tmp_path / f"{seed}.json")).nats_per_char for seed in (1, 2)
    }
    assert len(losses) == 2


def test_a_result_is_read_back_and_a_damaged_one_refused(target, tmp_path):
    only = trial(target, tmp_path)
    assert read_result(only) is None
    assert train_and_score(only) == read_result(only)
    only.file.write_text(only.file.read_text()[:-20])
    with pytest.raises(DataError, match="is damaged"):
        read_result(only)


def test_only_what_changes_a_result_changes_its_file(tmp_path):
    def files(rung, text="x"):
        return [made.file for made in trials_of(rung, tmp_path, text, tmp_path)]

    same = RUNG.model_copy(update={"published_nats_per_char": 9.0, "seeds": (2, 3)})
    assert files(same) == files(RUNG)[1:]
    assert not set(files(RUNG.model_copy(update={"steps": 4}))) & set(files(RUNG))
    assert not set(files(RUNG, "another text")) & set(files(RUNG))


def test_a_loss_that_is_no_number_is_refused_and_not_kept(target, tmp_path, monkeypatch):
    monkeypatch.setattr(rung_trials, "score", lambda *_: (math.nan, 29))
    only = trial(target, tmp_path)
    with pytest.raises(Diverged, match="Rung one-head with seed 1"):
        train_and_score(only)
    assert not only.file.exists()


def test_a_file_of_an_earlier_commit_is_read(target, tmp_path):
    only = trial(target, tmp_path)
    only.file.parent.mkdir()
    only.file.write_text(
        """{
 "rung": "one-head",
 "seed": 1,
 "parameters": 7553,
 "nats_per_char": 2.4042,
 "scored_characters": 111539,
 "seconds": 31.204,
 "sample": "The",
 "commit": "9b9e54c"
}
"""
    )
    result = read_result(only)
    assert result is not None
    assert (result.nats_per_char, result.scored_characters) == (2.4042, 111539)
