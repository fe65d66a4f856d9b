from dataclasses import replace

import pytest

from gpt.shape import GPTShape, ShapeError

TINY = GPTShape(vocab_size=17, layers=2, width=16, heads=4, context=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "width 16 cannot be divided into heads 3"),
        ({"kv_heads": 3}, "heads 4 cannot be divided into kv_heads 3"),
        ({"kv_heads": 8}, "heads 4 cannot be divided into kv_heads 8"),
        ({"width": 12, "position": "rope"}, "3 channels a head is odd"),
        ({"layers": 0}, "layers is 0"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"hidden": 0}, "hidden_width is 0"),
        ({"kv_heads": 0}, "key_value_heads is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"logit_softcap": 0.0}, "logit_softcap is 0.0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        replace(TINY, **change)


def test_defaults_follow_from_the_other_sizes() -> None:
    assert (TINY.head_width, TINY.key_value_heads, TINY.hidden_width, TINY.biased_qkv) == (4, 4, 64, True)
    assert replace(TINY, bias=False).biased_qkv is False
    assert replace(TINY, hidden=5).hidden_width == 5


def test_default_swiglu_width_is_a_multiple_of_eight_near_eight_thirds() -> None:
    assert replace(TINY, width=768, activation="swiglu").hidden_width == 2048
    assert replace(TINY, width=256, activation="swiglu").hidden_width == 680  # 8 x 85; 8/3 x 256 = 682.7
