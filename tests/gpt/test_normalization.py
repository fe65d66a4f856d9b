import pytest
import torch
import torch.nn.functional as F

from gpt.normalization import EPSILON, rms_norm


def test_three_and_four_are_divided_by_their_root_mean_square() -> None:
    torch.testing.assert_close(rms_norm(torch.tensor([3.0, 4.0])), torch.tensor([3.0, 4.0]) / 12.5**0.5)


def test_zeros_stay_zeros() -> None:
    x = torch.zeros(2, 4, requires_grad=True)
    rms_norm(x).sum().backward()
    assert torch.equal(rms_norm(x), torch.zeros(2, 4))
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_norm_and_gradient_equal_those_of_torch(scale: float) -> None:
    x = scale * torch.randn(5, 7, 16, generator=torch.Generator().manual_seed(0))
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = torch.randn(16, generator=torch.Generator().manual_seed(1))
    normed, expected = rms_norm(ours), F.rms_norm(theirs, (16,), eps=EPSILON)
    torch.testing.assert_close(normed, expected)
    (normed * weight).square().sum().backward()
    (expected * weight).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
