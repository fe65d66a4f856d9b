"""Whether a model in `transformers` computes the same as ours. Nothing is exported or imported unless it does.

This module alone imports `transformers`, which installs with the extra `export`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from gpt.model import GPT
from gpt.sampling import generate
from pipeline.errors import DataError, EnvironmentFault, FolioError
from pipeline.evaluation.bits_per_byte import bits_per_byte
from pipeline.evaluation.scoring import MAX_LOGITS, nats_of_windows
from pipeline.runtime.progress import Progress
from pipeline.tokens.scoring_windows import scoring_windows
from pipeline.tokens.tokenizer import Tokenizer

# Two implementations add in different orders, so equal models differ by rounding: 1e-6 to 1e-5 in logits near 10.
LARGEST_DIFFERENCE = 1e-4  # of two logits, both in float32
LARGEST_BITS = 5e-5  # of two losses in bits per byte: equal to four digits
GREEDY_TOKENS = 64
PROMPT_TOKENS = 8


class ComparedText(NamedTuple):
    """The text that both models read, and the name it has in the results."""

    name: str
    content: str


@dataclass(frozen=True)
class Parity:
    """How two models compare on the same text; it `holds` only if all four checks do."""

    text: str
    tokens: int
    same_tokens: bool
    largest_difference: float  # of two logits
    greedy_tokens: int
    same_greedy_text: bool
    bits_per_byte: tuple[float, float]  # ours, theirs

    @property
    def checks(self) -> dict[str, bool]:
        ours, theirs = self.bits_per_byte
        return {
            "token ids": self.same_tokens,
            "logits": self.largest_difference < LARGEST_DIFFERENCE,
            "greedy text": self.same_greedy_text,
            "bits per byte": abs(ours - theirs) < LARGEST_BITS,
        }

    @property
    def holds(self) -> bool:
        return all(self.checks.values())

    def table(self) -> str:
        """One line per check: whether it holds, and what was compared."""
        ours, theirs = self.bits_per_byte
        details = {
            "token ids": f"{self.tokens:,} of {self.text}",
            "logits": f"differ by {self.largest_difference:.2g} at most (allowed: below {LARGEST_DIFFERENCE:g})",
            "greedy text": f"{self.greedy_tokens} tokens",
            "bits per byte": f"{ours:.4f} here, {theirs:.4f} there",
        }
        held = {name: "ok" if holds else "NO" for name, holds in self.checks.items()}
        return "\n".join(f"{held[name]:<3} {name:<14} {detail}" for name, detail in details.items())

    def checked(self, what: str) -> Parity:
        """This parity, if it holds; else raises FolioError. `what` names the new model in the error."""
        if self.holds:
            return self
        failed = ", ".join(name for name, held in self.checks.items() if not held)
        raise FolioError(
            f"{what} does not compute what it should: {failed} differ ({' | '.join(self.table().splitlines())}).",
            remedy="Nothing was written. This is a bug in Folio; please report it.",
        )


class TransformersModel(NamedTuple):
    """The model and the tokenizer of a folder, as `transformers` loads them; any of its classes."""

    model: Any
    tokenizer: Any


def load_with_transformers(folder: Path) -> TransformersModel:
    """The model of a folder in float32 and evaluation mode, and its tokenizer; nothing is downloaded.

    Raises EnvironmentFault if `transformers` is not installed, DataError if it cannot load the folder.
    """
    transformers = _transformers()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise DataError(f"transformers cannot load {folder}: {error}.", remedy="Get the folder again.") from error
    return TransformersModel(model.eval(), tokenizer)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise EnvironmentFault(
            f"Export and import are checked with `transformers`, which cannot be imported ({error}).",
            remedy="Install it: python -m pip install 'transformers>=5'.",
        ) from error
    # Its advice and its bars would run through ours; what is wrong is raised, and shown by us.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


@torch.inference_mode()
def compare(
    model: GPT, tokenizer: Tokenizer, theirs: TransformersModel, text: ComparedText, progress: Progress
) -> Parity:
    """Compare both models on a text as one document: every token of it is scored once, as the report does it."""
    tokens = np.insert(tokenizer.encode(text.content).astype(np.int64), 0, tokenizer.end_of_text)
    their_ids = theirs.tokenizer(text.content)["input_ids"]
    prompt = torch.from_numpy(tokens[None, : min(PROMPT_TOKENS, model.shape.context // 2 + 1)])
    # Only within the context: beyond it the two drop earlier tokens in different ways.
    num_greedy = min(GREEDY_TOKENS, model.shape.context - prompt.shape[1])
    difference, nats = _logits_and_losses(model, theirs.model, tokens, progress)
    text_bytes = len(text.content.encode())
    return Parity(
        text=text.name,
        tokens=len(tokens) - 1,
        same_tokens=their_ids == tokens[1:].tolist(),
        largest_difference=difference,
        greedy_tokens=num_greedy,
        same_greedy_text=_greedy(model, tokenizer, prompt, num_greedy) == _their_greedy(theirs, prompt, num_greedy),
        bits_per_byte=(bits_per_byte(nats[0], text_bytes), bits_per_byte(nats[1], text_bytes)),
    )


def _logits_and_losses(
    model: GPT, their_model: Any, tokens: np.ndarray[Any, Any], progress: Progress
) -> tuple[float, tuple[float, float]]:
    """The largest difference of two logits, and each model's loss, summed over the tokens (N,) int64 in nats."""
    inputs, targets = map(torch.from_numpy, scoring_windows(tokens, model.shape.context))
    num_windows = max(1, MAX_LOGITS // (model.shape.context * model.shape.vocab_size))
    largest, our_nats, their_nats = 0.0, 0.0, 0.0
    with progress.task("comparing", len(inputs), "windows") as task:
        for batch, wanted in zip(torch.split(inputs, num_windows), torch.split(targets, num_windows), strict=True):
            ours, theirs = model(batch), their_model(batch).logits  # (windows, T, V)
            largest = max(largest, float((ours - theirs).abs().max()))
            our_nats += float(nats_of_windows(ours, wanted).sum())
            their_nats += float(nats_of_windows(theirs, wanted).sum())
            task.advance(len(batch))
    return largest, (our_nats, their_nats)


def _greedy(model: GPT, tokenizer: Tokenizer, prompt: torch.Tensor, num_tokens: int) -> str:
    """Our greedy text after the prompt (1, T), cut at an end-of-text, where `transformers` stops."""
    added = generate(model, prompt, num_tokens, temperature=0)[0, prompt.shape[1] :].tolist()
    end = added.index(tokenizer.end_of_text) if tokenizer.end_of_text in added else len(added)
    return tokenizer.decode(added[:end])


def _their_greedy(theirs: TransformersModel, prompt: torch.Tensor, num_tokens: int) -> str:
    # Without a mask `transformers` takes the first token, end-of-text, for padding and hides it.
    mask = torch.ones_like(prompt)
    written = theirs.model.generate(prompt, attention_mask=mask, max_new_tokens=num_tokens, do_sample=False)
    return str(theirs.tokenizer.decode(written[0, prompt.shape[1] :], skip_special_tokens=True))
