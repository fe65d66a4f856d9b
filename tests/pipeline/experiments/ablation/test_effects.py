from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.config.schema import Config
from pipeline.evaluation.intervals import Losses, corrected, pooled_spread
from pipeline.experiments.ablation.ablate import AblationResults, ChangeResult, Trained
from pipeline.experiments.ablation.changed_configs import ChangedConfig
from pipeline.experiments.ablation.effects import Findings, findings
from pipeline.experiments.ablation.page import HEAD, as_page, headline, records, row

CONFIG = Config.model_validate({"name": "x"})
TOKENS = np.full(60, 10)


def trained(rng: np.random.Generator, text: np.ndarray, effect: float, tokens: int = 1000, seeds: int = 3) -> Trained:
    """Losses with a seed effect of 0.02 nats, and windows that each react a little in their own way."""
    per_token = text + effect + 0.02 * rng.normal(size=(seeds, 1)) + 0.02 * rng.normal(size=60)
    return Trained(tokens, Losses(per_token * TOKENS, TOKENS), 100)


def experiment(seed: int, effects: dict[str, float], timed: dict[str, float] | None = None) -> AblationResults:
    rng = np.random.default_rng(seed)
    text = 3 + 0.5 * rng.normal(size=60)
    outcomes = [ChangeResult(ChangedConfig("baseline", CONFIG, {}), 100.0, trained(rng, text, 0.0), None)]
    for name, effect in effects.items():
        by_time = trained(rng, text, timed[name], tokens=800) if timed and name in timed else None
        variant = ChangedConfig(name, CONFIG, {"model.x": name})
        outcomes.append(ChangeResult(variant, 80.0 if by_time else 100.0, trained(rng, text, effect), by_time))
    return AblationResults(Path(), tuple(outcomes), bits=0.5, git_commit="c")


def test_large_effects_are_shown_and_small_ones_are_not() -> None:
    found = findings(experiment(0, {"better": -0.5, "worse": 0.5, "same": 0.0}))
    verdicts = {one.name: one.by_tokens.verdict for one in found.changes}
    assert verdicts == {"better": "helps", "worse": "hurts", "same": "not shown"}
    assert [one.name for one in found.changes] == ["better", "same", "worse"], "the best first"
    better = found.changes[0]
    assert better.by_tokens.bits_per_byte.mean == pytest.approx(-0.25, abs=0.02), "half a nat is a quarter of a bit"
    assert better.by_tokens.bits_per_byte.high < 0


def test_matched_time_may_say_the_opposite_of_matched_tokens() -> None:
    found = findings(experiment(1, {"slow": -0.5}, timed={"slow": 0.5}))
    (slow,) = found.changes
    assert (slow.by_tokens.verdict, slow.by_time.verdict) == ("helps", "hurts")
    assert (slow.by_tokens.tokens, slow.by_time.tokens, slow.same_run) == (1000, 800, False)
    assert (found.tries, slow.speed_ratio) == (2, 0.8)


def test_ten_changes_without_effect_are_rarely_called_anything() -> None:
    nothing = {f"change {number}": 0.0 for number in range(10)}
    found = [findings(experiment(seed, nothing)) for seed in range(40)]
    wrong = [any(one.by_time.verdict != "not shown" for one in each.changes) for each in found]
    assert np.mean(wrong) <= 0.1


def test_corrected_p_values_are_holms() -> None:
    # By hand: 0.01 x 4; 0.02 x 3 = 0.06; 0.03 x 2 = 0.06; 0.5 x 1.
    assert corrected([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert corrected([0.4, 0.6]) == [0.8, 0.8], "never in another order, never above 1"


def test_pooled_spread_is_that_of_all_kinds_together() -> None:
    kinds = [Losses(np.array(values)[:, None] * np.ones((1, 2)), np.ones(2, dtype=int)) for values in ([1, 3], [5, 5])]
    spread = pooled_spread(kinds)
    assert (spread.deviation, spread.degrees) == (pytest.approx(1.0), 2)  # squares 1 + 1 + 0 + 0 over 2 degrees


@pytest.fixture(scope="module")
def found() -> Findings:
    return findings(experiment(2, {"better": -0.5, "slow": -0.1, "same": 0.0}, timed={"slow": 0.6}))


def test_page_has_a_row_for_every_change_and_says_how(found: Findings) -> None:
    page = as_page(found, "folio ablate x.yaml", "abc123")
    table = [line for line in page.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in table[2:]] == ["| better", "| same", "| slow"]
    assert all(line.count(" | ") == len(HEAD) - 1 for line in table)
    assert "`folio ablate x.yaml` at commit `abc123`" in page
    assert "all 4 comparisons" in " ".join(page.split())
    assert "{" not in page


def test_headline_follows_from_the_verdicts(found: Findings) -> None:
    assert headline(found) == (
        "In the same time: 1 change helps: better. 1 change hurts: slow. Of 1 other, no effect is shown."
    )
    nothing = findings(experiment(3, {"a": 0.0, "b": 0.0}))
    assert headline(nothing) == "No effect is shown of any change."


def test_records_hold_what_the_table_shows(found: Findings) -> None:
    figures = {figure["name"]: figure for figure in records(found, "folio ablate x.yaml", "abc123")}
    assert len(figures) == 3 * 3
    slow = figures["slow, change at matched time"]
    assert (slow["unit"], slow["verdict"], slow["commit"]) == ("bits/byte", "hurts", "abc123")
    assert f"{slow['value']:+.4f}" in row(found.changes[2])[4]
    assert figures["slow, speed"]["value"] == 0.8
    assert set(slow) >= {"name", "value", "unit", "target", "met", "command", "commit", "machine", "date"}
