"""The models that `folio init` chooses from, the vocabulary of each, and the loss that an amount of text lets it reach.

The loss has the form of Hoffmann et al. 2022, and their balance at a hundred million parameters; its exponents were
fitted to small models that were measured here: docs/decisions/a-run-that-fits.md. Only the order of two sizes is taken
from it, never a loss. Repeated text follows Muennighoff et al. 2023 (arXiv 2305.16264), the vocabulary Tao et al. 2024
(arXiv 2407.13623).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpt.shape import GPTShape
from pipeline.config.text_sections import TokenizerSection
from pipeline.config.training_sections import ModelSection
from pipeline.graph.expected_texts import bytes_per_token

# Layers, width, heads. Each has about twice the parameters of the one before, and heads of 16 to 64 channels.
LADDER = (
    (2, 48, 2), (2, 64, 2), (3, 64, 2), (3, 96, 3), (4, 96, 3), (4, 128, 4), (5, 160, 5), (6, 192, 6), (6, 256, 4),
    (8, 320, 5), (8, 384, 6), (10, 512, 8), (12, 640, 10), (12, 768, 12), (16, 1024, 16), (24, 1024, 16),
    (24, 1280, 20), (24, 1536, 24), (24, 2048, 32),
)  # fmt: skip
# The head's parameters that are best for a model grow as a power of those of its blocks (Tao et al.), here through two
# points: theirs for 302 M, read off their figure, and ours for 2 x 64, between 1,024 and 2,048 entries.
HEAD_PARAMETERS, BLOCK_PARAMETERS, HEAD_EXPONENT = 18e6, 302e6, 0.655
TOKENS_PER_ENTRY = 200  # of the corpus: an entry that is seen less often is learnt badly
VOCABULARIES = tuple(1 << power for power in range(9, 17))
SMALLEST_VOCABULARY = 1024  # unless the text is too small for it: 512 cost 2 x 48 as much as a model of half the size
# Bits/byte that a million parameters and 4.4 MB of text (a million tokens of Hoffmann et al.) leave to be learnt. The
# exponents and the first constant fit the losses measured here; the second constant follows from twenty tokens per
# parameter at 1e8 of them.
LOSS_OF_SIZE, SIZE, SIZE_EXPONENT = 0.055, 1e6, 0.7
LOSS_OF_TEXT, TEXT_BYTES, TEXT_EXPONENT = 0.244, 4.4e6, 0.6
REPETITION_VALUE = 15.4  # Muennighoff et al., R*: after so many repetitions another one is worth 1/e


@dataclass(frozen=True)
class CandidateModel:
    """One model of the ladder with its vocabulary."""

    layers: int
    width: int
    heads: int
    context: int
    vocab_size: int

    def shape(self) -> GPTShape:
        """The model, with the defaults of the config for everything else."""
        return self.section().shape(self.vocab_size)

    def section(self) -> ModelSection:
        return ModelSection(layers=self.layers, width=self.width, heads=self.heads, context=self.context)

    @property
    def bytes_per_token(self) -> float:
        return bytes_per_token(TokenizerSection(vocab_size=self.vocab_size))


def model_sizes(text_bytes: int) -> list[CandidateModel]:
    """Every model of the ladder, smallest first, with the vocabulary that suits it and a text of this many bytes."""
    return [
        CandidateModel(layers, width, heads, _context(width), _vocabulary(layers, width, text_bytes))
        for layers, width, heads in LADDER
    ]


def _context(width: int) -> int:
    """Tokens that one forward sees: attention is a small share of the arithmetic in all of them."""
    return 256 if width < 512 else 1024


def _vocabulary(layers: int, width: int, text_bytes: int) -> int:
    """A power of two: what the model's size asks for, but no more than the text has examples for."""
    blocks = 12 * layers * width**2
    wanted = HEAD_PARAMETERS * (blocks / BLOCK_PARAMETERS) ** HEAD_EXPONENT / width
    taught = [
        size
        for size in VOCABULARIES
        if size * TOKENS_PER_ENTRY * bytes_per_token(TokenizerSection(vocab_size=size)) <= text_bytes
    ]
    nearest = 1 << round(math.log2(wanted))
    return min(max(nearest, SMALLEST_VOCABULARY), max(taught, default=VOCABULARIES[0]))


def useful_bytes(trained_bytes: float, corpus_bytes: float) -> float:
    """What training on `trained_bytes` of a corpus of `corpus_bytes` is worth in text that is never repeated."""
    if trained_bytes <= corpus_bytes:
        return trained_bytes
    repetitions = trained_bytes / corpus_bytes - 1
    return corpus_bytes * (1 + REPETITION_VALUE * (1 - math.exp(-repetitions / REPETITION_VALUE)))


def expected_excess(parameters: int, text_bytes: float) -> float:
    """Bits/byte above the loss of an endless training of an endless model; only good for comparing sizes.

    `parameters` are all of the model's, embeddings included.
    """
    of_size = LOSS_OF_SIZE * (SIZE / parameters) ** SIZE_EXPONENT
    return float(of_size + LOSS_OF_TEXT * (TEXT_BYTES / max(text_bytes, 1.0)) ** TEXT_EXPONENT)
