"""An ablation with known effects, without training anything: losses are drawn around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.schema import Config
from pipeline.evaluation.intervals import Losses
from pipeline.experiments.ablation.ablate import AblationResults, ChangeResult, TrainedSeeds
from pipeline.experiments.ablation.changed_configs import ChangedConfig

CONFIG = Config.model_validate({"name": "x"})
TOKENS = np.full(60, 10)


def _trained(
    rng: np.random.Generator, text: np.ndarray, effect: float, tokens: int = 1000, seeds: int = 3
) -> TrainedSeeds:
    """Losses of three seeds with a seed effect of 0.02 nats, and windows that each react a little in their own way."""
    per_token = text + effect + 0.02 * rng.normal(size=(3, 1)) + 0.02 * rng.normal(size=60)
    return TrainedSeeds(tokens, Losses(per_token * TOKENS, TOKENS), 100)


def _experiment(seed: int, effects: dict[str, float], timed: dict[str, float] | None = None) -> AblationResults:
    rng = np.random.default_rng(seed)
    text = 3 + 0.5 * rng.normal(size=60)
    results = [ChangeResult(ChangedConfig("baseline", CONFIG, {}), 100.0, _trained(rng, text, 0.0), None)]
    for name, effect in effects.items():
        by_time = _trained(rng, text, timed[name], tokens=800) if timed and name in timed else None
        changed = ChangedConfig(name, CONFIG, {"model.x": name})
        results.append(ChangeResult(changed, 80.0 if by_time else 100.0, _trained(rng, text, effect), by_time))
    return AblationResults(Path(), tuple(results), bits_per_nat=0.5, git_commit="c")


@pytest.fixture(scope="session")
def experiment() -> Callable[..., AblationResults]:
    """Builds an ablation from {change: its effect in nats} at matched tokens and, if it is slower, at matched time."""
    return _experiment
