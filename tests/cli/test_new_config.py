"""`folio init`: a text and some minutes become a config that runs, and five lines that say why it is so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.new_config import cpu_ranks
from pipeline.config.loading import load_config
from pipeline.errors import ConfigError


@pytest.fixture
def own_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of somebody with a text of 30 kB and a folder of others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("pipeline.sizing.run_forecast.TIMED_SECONDS", 0.01)  # a rough forecast is quick
    (tmp_path / "my.txt").write_text("My own text, line by line.\n" * 1200)
    (tmp_path / "texts").mkdir()
    for number in range(3):
        (tmp_path / "texts" / f"{number}.txt").write_text(f"Text {number} of others, line by line.\n" * 2000)
    return tmp_path


def test_init_writes_a_config_that_fits_and_five_lines(own_texts: Path, invoke: Callable[..., Any]) -> None:
    result = invoke("init", "my.txt", "--corpus", "texts", "--minutes", "3", "-o", "mine.yaml")
    assert result.exception is None, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 5
    assert lines[0] == "text      target 32.4 kB, corpus 192.0 kB"
    assert lines[4] == "wrote mine.yaml; next: folio run mine.yaml"
    config = load_config(own_texts / "mine.yaml")
    assert (config.name, config.target.path) == ("mine", "my.txt")
    assert [source.path for source in config.corpus.sources] == ["texts/**/*.txt"]
    plan = invoke("plan", "mine.yaml")
    assert plan.exception is None, plan.output
    assert "It fits on this machine." in plan.stdout


def test_without_a_name_the_config_is_called_after_the_target(own_texts: Path, invoke: Callable[..., Any]) -> None:
    invoke("init", "my.txt", "--corpus", "texts", "--minutes", "3")
    assert load_config(own_texts / "my.yaml").name == "my"


def test_a_config_that_exists_is_kept_unless_the_user_insists(own_texts: Path, invoke: Callable[..., Any]) -> None:
    (own_texts / "mine.yaml").write_text("name: precious\n")
    arguments = ("init", "my.txt", "--corpus", "texts", "--minutes", "3", "-o", "mine.yaml")
    refused = invoke(*arguments)
    assert isinstance(refused.exception, ConfigError)
    assert (own_texts / "mine.yaml").read_text() == "name: precious\n"
    assert "--force" in str(refused.exception)
    assert invoke(*arguments, "--force").exception is None
    assert load_config(own_texts / "mine.yaml").name == "mine"


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (("nowhere.txt",), "nowhere.txt"),
        (("my.txt", "--corpus", "nothing/*.txt"), "nothing/*.txt"),
        (("my.txt", "--corpus", "texts", "-o", "no/such/folder/mine.yaml"), "no/such/folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    arguments: tuple[str, ...], refusal: str, own_texts: Path, invoke: Callable[..., Any]
) -> None:
    before = sorted(own_texts.rglob("*.yaml"))
    result = invoke("init", *arguments, "--minutes", "3")
    assert isinstance(result.exception, ConfigError), result.output
    assert refusal in str(result.exception)
    assert sorted(own_texts.rglob("*.yaml")) == before


@pytest.mark.parametrize(("cores", "ranks"), [(1, 1), (2, 1), (15, 1), (16, 2), (64, 8), (256, 8)])
def test_without_a_gpu_eight_cores_share_a_rank(cores: int, ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    assert cpu_ranks() == ranks
