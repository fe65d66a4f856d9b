"""What `folio init` prints: in five lines what it chose and why, and the next command."""

from __future__ import annotations

import math

from gpt.counts import num_parameters
from pipeline.runtime.formatting import counted, readable_bytes, readable_count, readable_seconds
from pipeline.sizing.choice import Choice
from pipeline.sizing.recipe import CORPUS_EPOCHS, Wish

SHORT_SHARE = 0.75  # of the minutes; a run that ends sooner has used up its text


def summary(choice: Choice, wish: Wish, file: str) -> list[str]:
    """Five lines: the text, the model, the training, the time, the next command."""
    values, size = choice.values, choice.size
    parameters, tokens = num_parameters(size.shape()), values["pretrain"]["tokens"]
    return [
        f"text      target {readable_bytes(wish.texts.target_bytes)}, corpus {_corpus(wish)}",
        f"model     {size.layers} layers x {size.width}, {readable_count(parameters)} parameters, vocabulary "
        f"{size.vocab_size:,}: the best of the sizes that the time trains",
        f"training  {readable_count(tokens)} tokens of pretraining, {_seen(choice, wish)}, "
        f"{tokens / parameters:.0f} tokens per parameter; the control gets as much as pretraining and finetuning",
        f"time      about {readable_seconds(choice.seconds)} of {wish.minutes:g} minutes "
        f"on {counted(wish.ranks, 'rank')}" + _remark(choice, wish),
        f"wrote {file}; next: folio run {file}",
    ]


def _corpus(wish: Wish) -> str:
    size = wish.texts.corpus_bytes
    return "of unknown size" if math.isinf(size) else readable_bytes(size)


def _seen(choice: Choice, wish: Wish) -> str:
    text = choice.values["pretrain"]["tokens"] * choice.size.bytes_per_token
    epochs = text / wish.texts.corpus_bytes
    return f"{epochs:.1f} epochs of the corpus" if epochs >= 1 else f"{readable_bytes(text)} of the corpus once"


def _remark(choice: Choice, wish: Wish) -> str:
    if choice.seconds > 66 * wish.minutes:
        return ": less does not train anything, so give it more"
    if choice.seconds >= 60 * wish.minutes * SHORT_SHARE:
        return ""
    return f": more than {CORPUS_EPOCHS} epochs teach little, so more time needs more text (--corpus)"
