"""Does a model in `transformers` compute what ours computes? Nothing leaves or enters before that is answered here.

This module alone imports `transformers`, which installs with the extra `export`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from gpt.model import GPT
from gpt.sampling import generate
from pipeline.errors import DataError, EnvironmentFault, FolioError
from pipeline.evaluation.scoring import MAX_LOGITS, nats_of_windows
from pipeline.runtime.progress import Progress
from pipeline.tokens.scoring_windows import scoring_windows
from pipeline.tokens.tokenizer import Tokenizer

LARGEST_DIFFERENCE = 1e-4  # of two logits, both in float32
LARGEST_BITS = 5e-5  # of two losses in bits per byte: equal to four digits
GREEDY_TOKENS = 64
PROMPT_TOKENS = 8


class ComparedText(NamedTuple):
    """What both models read, and what it is called."""

    name: str
    content: str


@dataclass(frozen=True)
class Parity:
    """What two models make of the same text; `holds` only if all four agree."""

    text: str
    tokens: int
    same_tokens: bool
    largest_difference: float
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
        """One line per check: what was compared, and whether it agreed."""
        ours, theirs = self.bits_per_byte
        found = {
            "token ids": f"{self.tokens:,} of {self.text}",
            "logits": f"differ by {self.largest_difference:.2g} at most (allowed: below {LARGEST_DIFFERENCE:g})",
            "greedy text": f"{self.greedy_tokens} tokens",
            "bits per byte": f"{ours:.4f} here, {theirs:.4f} there",
        }
        return "\n".join(f"{'ok' if held else 'NO':<3} {name:<14} {found[name]}" for name, held in self.checks.items())

    def asserted(self, what: str) -> Parity:
        """This parity if it holds. Raises FolioError, for it must."""
        if self.holds:
            return self
        failed = ", ".join(name for name, held in self.checks.items() if not held)
        raise FolioError(
            f"{what} does not compute what it should: {failed} differ ({' | '.join(self.table().splitlines())}).",
            remedy="Nothing was written. This is a bug of Folio; please report it.",
        )


class Other(NamedTuple):
    """The model and the tokenizer of a folder, as `transformers` loads them."""

    model: Any
    tokenizer: Any


def loaded(folder: Path) -> Other:
    """What `transformers` makes of a folder, in float32; nothing is fetched.

    Raises EnvironmentFault if it is not installed, DataError if it cannot load the folder.
    """
    transformers = _transformers()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise DataError(f"transformers cannot load {folder}: {error}.", remedy="Get the folder again.") from error
    return Other(model.eval(), tokenizer)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise EnvironmentFault(
            f"Exchanging models is checked with `transformers`, which cannot be imported ({error}).",
            remedy="Install it: python -m pip install 'transformers>=5'.",
        ) from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


@torch.inference_mode()
def compare(model: GPT, tokenizer: Tokenizer, other: Other, text: ComparedText, progress: Progress) -> Parity:
    """Both models on a text that begins a document: every token of it is scored once, as the report does it."""
    tokens = np.insert(tokenizer.encode(text.content).astype(np.int64), 0, tokenizer.end_of_text)
    theirs = other.tokenizer(text.content)["input_ids"]
    prompt = torch.from_numpy(tokens[None, : min(PROMPT_TOKENS, model.shape.context // 2 + 1)])
    num_greedy = min(GREEDY_TOKENS, model.shape.context - prompt.shape[1])
    difference, nats = _scores(model, other.model, tokens, progress)
    num_bits = math.log(2) * len(text.content.encode())
    return Parity(
        text=text.name,
        tokens=len(tokens) - 1,
        same_tokens=theirs == tokens[1:].tolist(),
        largest_difference=difference,
        greedy_tokens=num_greedy,
        same_greedy_text=_greedy(model, tokenizer, prompt, num_greedy) == _their_greedy(other, prompt, num_greedy),
        bits_per_byte=(nats[0] / num_bits, nats[1] / num_bits),
    )


def _scores(
    model: GPT, other: Any, tokens: np.ndarray[Any, Any], progress: Progress
) -> tuple[float, tuple[float, float]]:
    """The largest difference of two logits, and the nats that each model loses."""
    inputs, targets = map(torch.from_numpy, scoring_windows(tokens, model.shape.context))
    num_windows = max(1, MAX_LOGITS // (model.shape.context * model.shape.vocab_size))
    largest, ours, theirs = 0.0, 0.0, 0.0
    with progress.task("comparing", len(inputs), "windows") as task:
        for batch, wanted in zip(torch.split(inputs, num_windows), torch.split(targets, num_windows), strict=True):
            here, there = model(batch), other(batch).logits
            largest = max(largest, float((here - there).abs().max()))
            ours += float(nats_of_windows(here, wanted).sum())
            theirs += float(nats_of_windows(there, wanted).sum())
            task.advance(len(batch))
    return largest, (ours, theirs)


def _greedy(model: GPT, tokenizer: Tokenizer, prompt: torch.Tensor, num_tokens: int) -> str:
    """Ours, up to an end-of-text, where `transformers` stops."""
    added = generate(model, prompt, num_tokens, temperature=0)[0, prompt.shape[1] :].tolist()
    end = added.index(tokenizer.end_of_text) if tokenizer.end_of_text in added else len(added)
    return tokenizer.decode(added[:end])


def _their_greedy(other: Other, prompt: torch.Tensor, num_tokens: int) -> str:
    mask = torch.ones_like(prompt)
    written = other.model.generate(prompt, attention_mask=mask, max_new_tokens=num_tokens, do_sample=False)
    return str(other.tokenizer.decode(written[0, prompt.shape[1] :], skip_special_tokens=True))
