from __future__ import annotations

import numpy as np
import pytest

from pipeline.tokens.data_order import Permutation, order_key


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 16, 17, 99, 1000, 4097])
def test_permutation_is_a_bijection(size: int) -> None:
    places = Permutation(size, key=7)(np.arange(size))
    assert sorted(places.tolist()) == list(range(size))


def test_single_index_agrees_with_the_whole_array() -> None:
    permutation = Permutation(1000, key=3)
    assert [int(permutation(index)) for index in range(1000)] == permutation(np.arange(1000)).tolist()


def test_permutation_does_not_change_between_versions() -> None:
    """Golden numbers: another order would make every old checkpoint resume on other data."""
    assert Permutation(10, order_key(1, 2))(np.arange(10)).tolist() == [6, 1, 7, 5, 2, 3, 4, 0, 9, 8]


def test_keys_give_unrelated_orders() -> None:
    orders = np.array([Permutation(100, order_key(seed))(np.arange(100)) for seed in range(200)])
    assert len({tuple(order) for order in orders.tolist()}) == 200
    # Each index lands everywhere equally often: chi-square over 10 bins of 10 places, 9 degrees of freedom.
    bins = np.stack([np.bincount(orders[:, index] // 10, minlength=10) for index in range(100)])
    chi_square = ((bins - 20.0) ** 2 / 20).sum(axis=1)
    assert 8.0 < chi_square.mean() < 10.0
    assert chi_square.max() < 35


def test_neighbours_are_scattered() -> None:
    places = Permutation(10_000, key=5)(np.arange(10_000))
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 0.05


def test_huge_sizes_cost_no_memory() -> None:
    permutation = Permutation(10**15, key=5)
    places = permutation(np.array([0, 1, 10**15 - 1]))
    assert len(set(places.tolist())) == 3
    assert places.max() < 10**15


def test_index_outside_is_refused() -> None:
    with pytest.raises(AssertionError, match="outside"):
        Permutation(10, key=1)(10)


def test_key_depends_on_every_part() -> None:
    assert len({order_key(1, 2), order_key(2, 1), order_key(12), order_key("1", 2), order_key(1, 2, 0)}) == 5
