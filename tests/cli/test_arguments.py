from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.arguments import config_of, typed_command
from pipeline.distributed.world import in_external_world
from pipeline.errors import ConfigError

LEFT_BEHIND = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "4000",
}


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


@pytest.mark.parametrize("options", [{"ranks": 2}, {"hostfile": Path("hosts")}])
def test_ranks_that_the_command_line_names_beat_those_that_a_launcher_started(
    path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LEFT_BEHIND.items():
        monkeypatch.setenv(name, value)
    config_of(path, ["launch.ranks=2"])
    assert in_external_world()
    config_of(path, None, **options)
    assert not in_external_world()


def test_ranks_option_beats_a_setting_of_the_same_key(path: Path) -> None:
    assert config_of(path, ["launch.ranks=8"], ranks=4).launch.ranks == 4


def test_unknown_key_of_a_setting_is_refused_by_name(path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'layers'"):
        config_of(path, ["model.layerz=5"])


def test_the_command_on_a_page_has_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = 'corpus.sources=[{url: "https://me:canary@h/a.jsonl?token=canary&t=${TOKEN}"}]'
    monkeypatch.setattr("sys.argv", ["/bin/folio", "ablate", "run.yaml", "--set", setting])
    shown = 'corpus.sources=[{url: "https://h/a.jsonl?token=***&t=${TOKEN}"}]'
    assert typed_command() == f"folio ablate run.yaml --set '{shown}'"
