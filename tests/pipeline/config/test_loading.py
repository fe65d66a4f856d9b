import pickle
from pathlib import Path

import pytest

from pipeline.config.loading import load_config, with_changes
from pipeline.errors import ConfigError


def written(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def refusal(tmp_path, text, settings=()):
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text), settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_fill_what_a_file_leaves_out(tmp_path):
    config = load_config(written(tmp_path, "pretrain: {tokens: 1M, learning_rate: 2e-3}"))
    assert (config.name, config.pretrain.tokens, config.pretrain.learning_rate) == ("run", 1_000_000, 0.002)
    assert config.target.name == "tiny-shakespeare"


def test_exponents_are_numbers_where_no_type_says_so_and_hashes_stay_text(tmp_path):
    config = load_config(
        written(tmp_path, "deepspeed: {a: 2e-3, b: 1E6, c: [-4.5e+1], hash: 12e4567}\npretrain: {tokens: 1e6}"),
        ["deepspeed.d=3e-4"],
    )
    assert config.deepspeed == {"a": 0.002, "b": 1_000_000.0, "c": [-45.0], "hash": "12e4567", "d": 0.0003}
    assert config.pretrain.tokens == 1_000_000


def test_unknown_key_names_line_and_the_likely_key(tmp_path):
    message = refusal(tmp_path, "name: x\npretrain:\n  tokenz: 1M\n")
    assert "run.yaml:3" in message
    assert "did you mean 'tokens'?" in message


def test_wrong_value_names_line_key_and_value(tmp_path):
    message = refusal(tmp_path, "pretrain:\n  tokens: many\n")
    assert "run.yaml:2: pretrain.tokens" in message
    assert "'many'" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:\n\t- b", "run.yaml:2"),
        ("name: x\nname: y\n", "appears twice"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        (
            "a: !!python/object/apply:os.system [touch /tmp/never]\n",
            "the tag !!python/object/apply:os.system is not allowed",
        ),
        ("[1, 2]", "holds no keys"),
        ("pretrain: {tokens: nan}", "pretrain.tokens"),
        ("pretrain: {tokens: -5}", "pretrain.tokens"),
        ("target: {name: tiny-shakespeare, path: x}", "exactly one of"),
        ("corpus: {sources: [{path: a, hub: b}]}", "exactly one of"),
        ("corpus: {sources: [{name: x, path: a}, {name: x, path: b}]}", "appears twice"),
        ("model: {width: 130, heads: 4}", "run.yaml:1: model: width 130 cannot be divided into heads 4."),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, text, expected):
    assert expected in refusal(tmp_path, text)


def test_a_huge_file_is_refused_unread(tmp_path):
    assert "at most" in refusal(tmp_path, "# " + "x" * 2_000_000)


def test_settings_lie_over_the_file(tmp_path):
    config = load_config(written(tmp_path, "pretrain: {tokens: 1M}"), ["pretrain.tokens=2M", "model.layers=2"])
    assert (config.pretrain.tokens, config.model.layers) == (2_000_000, 2)


@pytest.mark.parametrize(
    "setting",
    ["pretrain.tokens", "=3", "name.x=3", "pretrain..x=1", "a." * 20_000 + "a=1", "deepspeed." + "a." * 20_000 + "a=1",
     "report.prompt=\udce9", "name=x\0"],
    ids=lambda setting: setting[:20],
)  # fmt: skip
def test_malformed_settings_are_refused(tmp_path, setting):
    assert "--set" in refusal(tmp_path, "name: x", [setting])


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "pretrain.tokens=" + "[" * 20_000,
            "pretrain.tokens: '[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[... is not a count",
        ),
        ("pretrain.tokens=12abc", "pretrain.tokens: '12abc' is not a count such as 500, 64k, 30M or 1e9."),
        ("pretrain.tokens=true", "pretrain.tokens: True is not a count"),
        ("pretrain.tokens=[1]", "pretrain.tokens: [1] is not a count"),
        ("pretrain.tokens=" + "9" * 5000, "is not between 1 and 1,000,000,000,000,000."),
        ("scratch.learning_rates=1e-3", "scratch.learning_rates: 0.001 is not a list."),
        ("scratch.learning_rates=[.nan]", "scratch.learning_rates.0: nan is not a number"),
        ("launch=3", "launch: 3 is not a section of keys."),
        ("deepspeed=3", "deepspeed: 3 is not a section of keys."),
        ("deepspeed={a: .inf}", "deepspeed: holds a value that JSON cannot hold"),
        ("report.prompt=3", "report.prompt: 3 is not text; put it in quotes."),
        ("model.bias=maybe", "model.bias: 'maybe' is neither true nor false."),
        ("pretrain.zero=4", "pretrain.zero: Input should be 0, 1, 2 or 3."),
        ("pretrain.zero=1.5", "pretrain.zero: Input should be 0, 1, 2 or 3."),
        ("k" * 100_000 + "=1", "unknown key kkkk"),
    ],
    ids=lambda text: text[:30],
)
def test_values_of_the_wrong_kind_are_refused_in_plain_words(tmp_path, setting, expected):
    message = refusal(tmp_path, "name: x", [setting])
    assert expected in message
    assert len(message) < 500


def test_a_setting_mends_what_the_refusal_names(tmp_path):
    path = written(tmp_path, "launch:\n  timeout_seconds: 0\n")
    with pytest.raises(ConfigError, match=r"run\.yaml:2: launch\.timeout_seconds: 0 is not between 1 and 1,000,000\."):
        load_config(path)
    assert load_config(path, ["launch.timeout_seconds=1"]).launch.timeout_seconds == 1


def test_a_missing_file_names_those_that_exist(tmp_path):
    written(tmp_path, "name: x")
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_config(tmp_path / "other.yaml")


def test_data_is_looked_for_from_the_folder_of_the_config_whatever_is_laid_over(tmp_path, monkeypatch):
    written(tmp_path, "target: {path: my.txt}")
    monkeypatch.chdir(tmp_path.parent)
    config = load_config(Path(tmp_path.name) / "run.yaml", ["target.path=other.txt"])
    assert config.folder == tmp_path
    assert with_changes(config, {"model.layers": 2}, "a test").folder == config.folder
    assert config.model_copy(update={"name": "other"}).folder == config.folder
    assert pickle.loads(pickle.dumps(config)).folder == config.folder
    assert "folder" not in config.model_dump()


def test_folder_is_no_key(tmp_path):
    assert "unknown key folder" in refusal(tmp_path, "folder: /elsewhere")
