from __future__ import annotations

from pathlib import Path

import pytest

from cli.arguments import config_of
from pipeline.errors import ConfigError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("launch: {ranks: 2, threads: 3}")
    return path


def test_options_are_laid_over_the_config_and_leave_the_rest(path: Path) -> None:
    config = config_of(path, ["model.layers=5"], ranks=4, hostfile=Path("hosts"))
    assert (config.launch.ranks, config.launch.hostfile, config.launch.threads) == (4, "hosts", 3)
    assert config.model.layers == 5


def test_absent_options_change_nothing(path: Path) -> None:
    config = config_of(path, None)
    assert (config.launch.ranks, config.launch.hostfile) == (2, None)


def test_ranks_option_beats_a_setting_of_the_same_key(path: Path) -> None:
    assert config_of(path, ["launch.ranks=8"], ranks=4).launch.ranks == 4


def test_unknown_key_of_a_setting_is_refused_by_name(path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'layers'"):
        config_of(path, ["model.layerz=5"])
