import pytest
import torch

from gpt.attention import attend, rotate, rotation_table


def random(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def test_a_quarter_turn_takes_one_and_two_to_minus_two_and_one() -> None:
    quarter = torch.tensor([[[0.0, 1.0]]])  # cosine and sine of the only pair, at the only position
    torch.testing.assert_close(rotate(torch.tensor([[[[1.0, 2.0]]]]), quarter), torch.tensor([[[[-2.0, 1.0]]]]))


def test_rotation_angles_are_position_times_frequency() -> None:
    table = rotation_table(context=3, head_width=4)
    angles = torch.tensor([[0.0, 0.0], [1.0, 0.01], [2.0, 0.02]])  # frequencies 1 and 10,000 ** -1/2
    torch.testing.assert_close(table, torch.stack((angles.cos(), angles.sin()), dim=-1))


def test_rotated_products_depend_on_the_distance_alone() -> None:
    q, k = random(1, 1, 1, 8), random(1, 1, 1, 8, seed=1)
    table = rotation_table(context=64, head_width=8)
    turned_q, turned_k = rotate(q.expand(1, 64, 1, 8), table), rotate(k.expand(1, 64, 1, 8), table)
    scores = turned_q[0, :, 0] @ turned_k[0, :, 0].T  # (query position, key position)
    for distance in (-9, 0, 5):
        same = scores.diagonal(distance)
        torch.testing.assert_close(same, same[:1].expand_as(same), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(scores[0, 0], scores[0, 5], atol=1e-2)


def test_rotation_keeps_lengths() -> None:
    x = random(2, 16, 3, 8)
    torch.testing.assert_close(rotate(x, rotation_table(16, 8)).norm(dim=-1), x.norm(dim=-1))


def test_attention_weighs_values_by_the_softmax_of_scores() -> None:
    # D = 1, so the scores are q k / 1: the second query sees scores 0 and log 3, thus weights 1/4 and 3/4.
    q = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1)
    k = torch.tensor([0.0, 3.0]).log().clamp_min(0).view(1, 1, 2, 1)
    v = torch.tensor([4.0, 8.0]).view(1, 1, 2, 1)
    torch.testing.assert_close(attend(q, k, v, 0.0).flatten(), torch.tensor([4.0, 7.0]))


@pytest.mark.parametrize("new", [1, 2, 5])
def test_last_queries_see_what_they_see_among_all(new: int) -> None:
    q, k, v = random(2, 4, 6, 8), random(2, 2, 6, 8, seed=1), random(2, 2, 6, 8, seed=2)
    everything = attend(q, k, v, 0.0)
    torch.testing.assert_close(attend(q[:, :, -new:], k, v, 0.0), everything[:, :, -new:])
