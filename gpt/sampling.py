"""Tokens sampled from a model one at a time; the key-value cache lets each be fed only once."""

from __future__ import annotations

import torch
from torch import Tensor

from gpt.attention import Cache
from gpt.model import GPT


@torch.no_grad()
def generate(
    model: GPT,
    tokens: Tensor,
    num_tokens: int,
    temperature: float = 1.0,
    *,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The prompt `tokens` (B, T) int64, T >= 1, continued by `num_tokens`: (B, T + num_tokens).

    Temperature 0 always takes the likeliest token. The text may outgrow the context: when the cache is full, the model
    starts over from the second half of its context, so a token sees between context / 2 and context earlier ones
    (the lecture crops to exactly `context` instead, which costs a whole forward per token). The generator must be on
    the model's device.

    Raises ValueError if the prompt is empty, or if temperature, top_k or top_p is out of range.
    """
    if tokens.shape[1] < 1:
        raise ValueError("The prompt is empty; begin with at least one token, for example end-of-text.")
    was_training = model.training
    model.eval()
    try:
        cache, unseen = _fresh_cache(model, tokens), tokens[:, -model.shape.context :]
        for _ in range(num_tokens):
            # A full cache cannot drop its oldest token: learned positions would shift under all the others.
            if cache.length == model.shape.context:
                cache, unseen = _fresh_cache(model, tokens), tokens[:, -max(1, model.shape.context // 2) :]
            logits = model(unseen, cache=cache)[:, -1]  # (B, V)
            unseen = _pick(logits, temperature, top_k, top_p, generator)  # (B, 1)
            tokens = torch.cat((tokens, unseen), dim=1)
    finally:
        model.train(was_training)
    return tokens


def _pick(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator | None
) -> Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    return torch.multinomial(probabilities(logits, temperature, top_k, top_p), 1, generator=generator)


def probabilities(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """The distribution that is sampled from, (B, V) float32: softmax(logits / temperature) without improbable tokens.

    `top_k` keeps the k likeliest. `top_p` then keeps the fewest likeliest tokens that hold at least that probability
    (Holtzman et al. 2019), always at least one. The rest is scaled up to sum to 1.

    Raises ValueError if temperature, top_k or top_p is out of range.
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}, but must be above 0 (0 itself means the likeliest token).")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}, but must be at least 1.")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}, but must be above 0 and at most 1.")
    shares = torch.softmax(logits.float() / temperature, dim=-1)
    # Stable, so that of tokens with equal logits the lower ids are kept, on every machine.
    shares, order = shares.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        shares[:, top_k:] = 0
        shares /= shares.sum(dim=-1, keepdim=True)
    if top_p is not None:
        # What lies before a token in this order must not reach top_p yet; so the first is always kept.
        shares = shares.masked_fill(shares.cumsum(dim=-1) - shares >= top_p, 0)
    return torch.zeros_like(shares).scatter(1, order, shares / shares.sum(dim=-1, keepdim=True))


def _fresh_cache(model: GPT, tokens: Tensor) -> Cache:
    weight = model.token_embedding.weight
    return Cache(model.shape, tokens.shape[0], device=weight.device, dtype=weight.dtype)
