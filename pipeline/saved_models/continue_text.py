"""Text that a model writes after a prompt."""

from __future__ import annotations

import torch

from gpt.model import GPT
from gpt.sampling import generate
from pipeline.tokens.tokenizer import Tokenizer


def continued(
    model: GPT, tokenizer: Tokenizer, prompt: str, num_tokens: int, *, seed: int, **choices: float | int | None
) -> str:
    """The prompt and `num_tokens` more tokens as text; `choices` are temperature, top_k and top_p of `generate`.

    The same seed gives the same text on the same device.
    """
    device = next(model.parameters()).device
    # Training texts begin with end-of-text, so a prompt does too: the model then sees it as the start of a document.
    start = torch.tensor([[tokenizer.end_of_text, *tokenizer.encode(prompt).tolist()]], device=device)
    generator = torch.Generator(device).manual_seed(seed)
    tokens = generate(model, start, num_tokens, generator=generator, **choices)  # type: ignore[arg-type]
    return tokenizer.decode(tokens[0, 1:].cpu().numpy())
