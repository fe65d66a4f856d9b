import pytest
import torch

from pipeline.runtime.threads import fixed_threads


def test_thread_count_is_put_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="stop"), fixed_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ValueError("stop")
    assert torch.get_num_threads() == before
