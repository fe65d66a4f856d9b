from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.errors import DataError
from pipeline.evaluation.intervals import DocumentLosses, Losses, Spread, arm_loss, block_windows, gain, gap, text_draws


def losses(per_token: np.ndarray, tokens_per_window: int = 10) -> Losses:
    """Losses of windows of equal length from their nats per token, (seeds, windows)."""
    tokens = np.full(per_token.shape[1], tokens_per_window)
    return Losses(per_token * tokens, tokens)


def by(side: Losses, *documents: str) -> DocumentLosses:
    return DocumentLosses(side, documents)


def experiment(rng: np.random.Generator, true_gain: float) -> tuple[Losses, Losses]:
    """Two arms with three seeds on sixty windows: a text both find hard in the same places, and normal seed effects."""
    text = 3 + 0.5 * rng.normal(size=60)
    response = 0.06 * np.convolve(rng.normal(size=62), np.ones(3) / np.sqrt(3), "valid")  # neighbours are alike
    scratch = text + true_gain + response + 0.02 * rng.normal(size=(3, 1)) + 0.02 * rng.normal(size=(3, 60))
    finetune = text + 0.01 * rng.normal(size=(3, 1)) + 0.02 * rng.normal(size=(3, 60))
    return losses(scratch), losses(finetune)


def test_loss_is_total_nats_by_total_tokens() -> None:
    arm = Losses(np.array([[8.0, 1.0], [10.0, 3.0]]), np.array([4, 1]))
    estimate = arm_loss(arm, resamples=100, seed=0)
    assert estimate.per_seed == (9 / 5, 13 / 5)
    assert estimate.mean == pytest.approx(11 / 5)


def test_gain_is_scratch_minus_finetune_by_hand() -> None:
    scratch = Losses(np.array([[8.0, 2.0], [10.0, 4.0]]), np.array([4, 2]))
    finetune = Losses(np.array([[5.0, 1.0]]), np.array([4, 2]))
    assert gain(scratch, finetune, resamples=100, seed=0).mean == pytest.approx(12 / 6 - 6 / 6)


def test_interval_over_seeds_alone_is_welchs() -> None:
    scratch, finetune = np.array([2.50, 2.53, 2.47]), np.array([2.30, 2.31, 2.32, 2.28])
    flat = np.ones((1, 30))
    found = gain(losses(scratch[:, None] * flat), losses(finetune[:, None] * flat), resamples=40_000, seed=0)
    expected = stats.ttest_ind(scratch, finetune, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.003)


def test_interval_over_text_alone_is_that_of_independent_windows() -> None:
    per_window = np.random.default_rng(0).normal(3, 0.5, size=(1, 1000))
    found = arm_loss(losses(per_window), resamples=20_000, seed=0)
    expected = 1.96 * per_window.std(ddof=1) / np.sqrt(1000)
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.15)


def test_neighbouring_windows_that_are_alike_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    passages = np.repeat(rng.normal(3, 0.5, size=100), 8)[None]
    alike = arm_loss(losses(passages), resamples=4000, seed=0)
    mixed = arm_loss(losses(rng.permutation(passages, axis=1)), resamples=4000, seed=0)
    assert alike.high - alike.low > 1.5 * (mixed.high - mixed.low)


def test_what_both_arms_find_hard_cancels_in_the_gain() -> None:
    text = np.random.default_rng(1).normal(3, 0.5, size=(1, 100))
    scratch, finetune = (losses(text + np.array([[seed], [seed + 0.01]])) for seed in (0.10, 0.01))
    paired = gain(scratch, finetune, resamples=2000, seed=0)
    alone = arm_loss(scratch, resamples=2000, seed=0)
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_interval_covers_the_true_gain_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(2)
    found = [gain(*experiment(rng, true_gain=0.05), resamples=999, seed=number) for number in range(300)]
    covered = np.mean([estimate.low <= 0.05 <= estimate.high for estimate in found])
    assert 0.92 <= covered <= 0.98


def test_no_gain_is_rarely_called_one() -> None:
    rng = np.random.default_rng(3)
    found = [gain(*experiment(rng, true_gain=0.0), resamples=999, seed=number) for number in range(300)]
    assert np.mean([estimate.low > 0 for estimate in found]) <= 0.05
    assert np.mean([estimate.p_value < 0.05 for estimate in found]) <= 0.08


def test_two_arms_that_are_the_same_are_not_called_different() -> None:
    rng = np.random.default_rng(8)
    found = [gain(*experiment(rng, true_gain=0.0), resamples=999, seed=number) for number in range(100)]
    not_shown = sum(estimate.low <= 0 <= estimate.high for estimate in found)
    assert not_shown >= 93


def test_interval_with_a_known_spread_is_that_of_all_trainings_together() -> None:
    flat = np.ones((1, 30))
    sides = [losses(np.array(values)[:, None] * flat) for values in ([2.50, 2.53, 2.47], [2.30, 2.31, 2.32])]
    found = gain(*sides, resamples=40_000, seed=0, spread=Spread(0.03, 20))
    expected = stats.t.ppf(0.975, 20) * 0.03 * np.sqrt(2 / 3)
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.02)


def test_p_value_and_interval_agree() -> None:
    rng = np.random.default_rng(4)
    for number in range(60):
        estimate = gain(*experiment(rng, true_gain=0.04), resamples=999, seed=number)
        if abs(estimate.p_value - 0.05) > 0.005:  # at the border the interpolated quantile may differ by one draw
            assert (estimate.p_value < 0.05) == (not estimate.low <= 0 <= estimate.high)


def test_p_value_is_never_zero() -> None:
    arm = losses(np.full((3, 20), 5.0))
    better = losses(np.full((3, 20), 1.0))
    assert gain(arm, better, resamples=999, seed=0).p_value == 2 / 1000
    assert gain(arm, arm, resamples=999, seed=0).p_value == 1.0


def test_same_seed_gives_the_same_interval() -> None:
    scratch, finetune = experiment(np.random.default_rng(5), true_gain=0.1)
    first, second, other = (gain(scratch, finetune, resamples=500, seed=seed) for seed in (0, 0, 1))
    assert first == second != other


def test_scaling_changes_the_unit_and_not_the_p_value() -> None:
    estimate = arm_loss(*[losses(np.array([[1.0, 2.0, 3.0]]))], resamples=100, seed=0)
    scaled = estimate.scaled(2.0)
    assert (scaled.mean, scaled.low, scaled.high) == (2 * estimate.mean, 2 * estimate.low, 2 * estimate.high)
    assert scaled.per_seed == (4.0,)
    assert scaled.p_value == estimate.p_value


def test_arms_on_other_windows_are_refused() -> None:
    with pytest.raises(DataError, match="same windows"):
        gain(losses(np.ones((1, 3))), losses(np.ones((1, 4))), resamples=10, seed=0)


def test_a_text_of_one_window_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"an interval needs two\. Leave report\.stride out, or raise target\.validation"
    ):
        arm_loss(losses(np.ones((2, 1))), resamples=10, seed=0)


@pytest.mark.parametrize(("windows", "length"), [(1, 1), (3, 1), (8, 2), (27, 6), (140, 10), (1000, 20)])
def test_blocks_grow_with_the_cube_root_of_the_text(windows: int, length: int) -> None:
    assert block_windows(windows) == length


def test_gap_is_validation_minus_train() -> None:
    train, validation = losses(np.array([[1.0, 2.0]])), losses(np.array([[2.0, 5.0]]))
    assert gap(by(train, "a", "b"), by(validation, "c", "d"), resamples=100, seed=0).mean == pytest.approx(2.0)


def test_gap_resamples_documents_and_not_their_windows() -> None:
    rng = np.random.default_rng(6)
    books = np.repeat(rng.normal(3, 0.5, size=10), 20)[None]
    names = [f"book-{at // 20}" for at in range(200)]
    by_book, by_window = (
        gap(side, side, resamples=4000, seed=0)
        for side in (by(losses(books), *names), by(losses(books), *map(str, range(200))))
    )
    assert by_book.high - by_book.low > 3 * (by_window.high - by_window.low)


def test_gap_within_one_document_resamples_its_windows() -> None:
    side = losses(np.random.default_rng(7).normal(3, 0.5, size=(1, 50)))
    book, windows = by(side, *["book"] * 50), by(side, *map(str, range(50)))
    found = gap(book, windows, resamples=500, seed=0)
    assert found.low < 0 < found.high


def test_resampled_texts_are_the_same_for_all_sides() -> None:
    rng = np.random.default_rng(1)
    harder = rng.normal(3, 0.5, size=60)
    pair = [Losses((harder + shift)[None] * 10, np.full(60, 10)) for shift in (0.0, 0.25)]
    draws = text_draws(pair, resamples=50, rng=rng)
    assert draws.shape == (50, 2)
    assert draws[:, 1] - draws[:, 0] == pytest.approx(np.full(50, 0.25))
    assert draws[:, 0].std() > 0.01
