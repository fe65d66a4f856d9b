import re
from pathlib import Path

import pytest

from gpt.counts import num_parameters
from gpt.lecture import RUNGS
from pipeline.config.loading import load_config
from pipeline.errors import ConfigError
from pipeline.experiments.ladder.rungs import read_rungs

FOLDER = Path("configs/lecture")


def test_every_rung_has_a_config_of_its_name_and_no_other_is_there():
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(RUNGS)
    assert [rung.name for rung in read_rungs(FOLDER)] == list(RUNGS)


def test_the_published_numbers_are_the_lectures():
    published = [rung.published_nats_per_char for rung in read_rungs(FOLDER)]
    assert published == [2.491, 2.408, 2.286, 2.241, 2.080, 2.061]


def test_the_bigram_has_its_own_rate_and_steps_and_the_rest_share_theirs():
    bigram, *rest = read_rungs(FOLDER)
    assert (bigram.learning_rate, bigram.steps, bigram.batch_samples, bigram.context) == (1e-2, 3000, 32, 8)
    assert {(rung.learning_rate, rung.steps, rung.batch_samples, rung.context) for rung in rest} == {
        (1e-3, 5000, 32, 8)
    }
    assert {(rung.width, rung.heads, rung.layers) for rung in rest} == {(32, 4, 3)}


@pytest.mark.parametrize("name", RUNGS)
def test_config_opens_with_purpose_command_hardware_time_and_expectation(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    assert f"folio lecture --rung {name}\n" in text
    (rung,) = read_rungs(FOLDER, [name])
    assert float(re.search(r"# Expect: ([\d.]+) nats/char", text)[1]) == rung.published_nats_per_char
    for word in ("Hardware:", "Minutes:"):
        assert word in text


def test_chosen_rungs_come_from_the_lowest_up():
    assert [rung.name for rung in read_rungs(FOLDER, ["residual", "bigram"])] == ["bigram", "residual"]


def test_an_unknown_rung_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'two-heads' is not a rung.*bigram, one-head"):
        read_rungs(FOLDER, ["two-heads"])


def test_an_unknown_key_names_line_and_the_likely_key(tmp_path):
    (tmp_path / "bigram.yaml").write_text("published_nats_per_char: 2.5\nstepz: 3\n")
    with pytest.raises(ConfigError, match=r"bigram.yaml:2: unknown key stepz; did you mean 'steps'\?"):
        read_rungs(tmp_path, ["bigram"])


def test_heads_that_do_not_divide_the_width_are_refused(tmp_path):
    (tmp_path / "residual.yaml").write_text("published_nats_per_char: 2.1\nheads: 5\n")
    with pytest.raises(ConfigError, match="width 32 cannot be divided into 5 heads"):
        read_rungs(tmp_path, ["residual"])


def test_without_its_configs_the_ladder_says_where_it_looked(tmp_path):
    with pytest.raises(ConfigError, match="There is no folder"):
        read_rungs(tmp_path / "lecture")


def test_a_config_for_another_model_is_refused(tmp_path):
    (tmp_path / "bigram.yaml").write_text("name: trigram\npublished_nats_per_char: 2.5\n")
    with pytest.raises(ConfigError, match="'trigram' is not a rung"):
        read_rungs(tmp_path, ["bigram"])


def test_the_last_rung_is_the_lectures_last_model():
    config = load_config(Path("configs/lecture.yaml"))
    assert num_parameters(config.model.shape(vocab_size=65)) == 10_788_929
    assert (config.model.dropout, config.scratch.learning_rates, config.scratch.max_steps) == (0.2, (3e-4,), 5000)
    assert (config.scratch.batch_tokens, config.model.context) == (64 * 256, 256)
