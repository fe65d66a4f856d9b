from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import Config, LaunchSection
from pipeline.distributed.launch import num_ranks
from pipeline.errors import ConfigError
from pipeline.graph.stages import STAGES
from pipeline.training.preflight import refuse_impossible


def config(**changes: Any) -> Config:
    return Config.model_validate({"name": "x", "corpus": {"sources": [{"path": "x"}]}, **changes})


def test_ranks_are_the_hostfiles_or_the_configs(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("a slots=3\nb slots=2\n")
    assert num_ranks(LaunchSection(hostfile=str(hosts), ranks=7)) == 5
    assert num_ranks(LaunchSection(ranks=7)) == 7


def test_ranks_that_somebody_else_started_count_before_all(monkeypatch: pytest.MonkeyPatch) -> None:
    world = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}
    for name, value in {**world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29400"}.items():
        monkeypatch.setenv(name, value)
    assert num_ranks(LaunchSection(ranks=7)) == 4


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"scratch": {"batch_tokens": 1000}}, r"scratch\.batch_tokens is 1,000, not a multiple of 512"),
        ({"pretrain": {"tokens": 100}}, r"pretrain\.tokens is 100, less than one batch of 8,192"),
        ({"pretrain": {"optimizer": "muon"}}, r"pretrain\.optimizer muon needs whole matrices; zero 1"),
        (
            {"scratch": {"optimizer": "muon", "zero": 0, "dtype": "bf16"}},
            r"scratch\.optimizer muon .* zero 0 with bf16",
        ),
        ({"deepspeed": {"train_batch_size": 3}}, r"deepspeed\.train_batch_size is decided by Folio"),
    ],
)
def test_what_no_data_can_mend_is_refused(changes: dict[str, Any], refusal: str) -> None:
    refuse_impossible(config(), STAGES, 2)
    with pytest.raises(ConfigError, match=refusal):
        refuse_impossible(config(**changes), STAGES, 2)


def test_stages_that_are_not_ahead_are_not_judged() -> None:
    refuse_impossible(config(scratch={"batch_tokens": 1000}), [s for s in STAGES if s.name != "scratch"], 2)
