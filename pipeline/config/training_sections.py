"""The keys about models and their training: the model, pretraining or imported weights, and both arms."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gpt.shape import GPTShape
from pipeline.config.quantities import Count, Real, Share
from pipeline.config.section import Section, added_later, not_fingerprinted


class PretrainedSection(Section):
    """Weights and tokenizer of somebody else's GPT-2, in place of a corpus, a tokenizer and pretraining."""

    path: str  # a local folder as `transformers` saves it
    sha256: str | None = None  # of its model.safetensors: another file is refused


class ModelSection(Section):
    """The GPT; `gpt.shape.GPTShape` says what each option does."""

    layers: Count = 6
    width: Count = 256
    heads: Count = 4
    kv_heads: Count | None = None
    context: Count = 256
    hidden: Count | None = None  # feed-forward width; default 4 x width (8/3 x width for swiglu)
    position: Literal["learned", "rope"] = "rope"
    norm: Literal["layernorm", "rmsnorm"] = "rmsnorm"
    activation: Literal["relu", "gelu", "relu2", "swiglu"] = "relu2"
    qk_norm: bool = True
    bias: bool = False
    qkv_bias: bool | None = None  # default: as bias; the lecture's model has biases everywhere but here
    tie_embeddings: bool = True
    zero_init: bool = False
    residual_scalars: bool = False
    value_embeddings: bool = False
    logit_softcap: Real | None = None
    document_mask: bool = False  # attention stays inside a document
    dropout: Share = 0.0

    @model_validator(mode="after")
    def _sizes_that_fit(self) -> ModelSection:
        self.shape(vocab_size=1)
        return self

    def shape(self, vocab_size: int, dropout: float | None = None, end_of_text: int = 0) -> GPTShape:
        """The model's shape for a vocabulary of this size, in which the id `end_of_text` begins each document.

        Raises ShapeError, a ValueError, if the sizes do not fit together.
        """
        changes = {} if dropout is None else {"dropout": dropout}
        start = end_of_text if self.document_mask else None
        fields = {**self.model_dump(exclude={"document_mask"}), **changes}
        return GPTShape(vocab_size=vocab_size, document_start=start, **fields)


class TrainingSection(Section):
    """What pretraining and both arms have in common. Each stage has its own copy, so each may differ."""

    optimizer: Literal["adamw", "muon"] = "adamw"  # muon for the matrices inside the blocks, adamw for the rest
    batch_tokens: Count = 8192
    micro_batch: Count = 16  # samples that one rank feeds one forward
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup: Share = 0.02  # share of the steps
    decay: Share = 0.3  # share of the steps, at the end (wsd only)
    final_learning_rate: Share = 0.0  # as a share of the peak
    weight_decay: Real = 0.1
    beta1: Real = 0.9
    beta2: Real = 0.95
    clip: Real = 1.0  # largest gradient norm; 0 switches clipping off
    zero: Literal[0, 1, 2, 3] = 1
    # bf16: weights and products, with fp32 copies in the optimizer. mixed: fp32 weights; products in bf16 where the
    # hardware has units for them.
    dtype: Literal["fp32", "bf16", "mixed"] = "fp32"
    activation_checkpointing: bool = False
    compile: bool = False
    evaluate_every: Count = 100
    save_every: Count = not_fingerprinted(200)
    keep_checkpoints: Count = not_fingerprinted(2)
    # Steps in a row with a non-finite loss or gradient that are skipped; one more, and training has diverged.
    skip_limit: Count = 3


class PretrainSection(TrainingSection):
    tokens: Count = 30_000_000
    learning_rate: Real = 2e-3
    schedule: Literal["cosine", "wsd", "constant"] = "wsd"
    evaluate_tokens: Count = 65_536  # of the corpus' validation split, the same ones each time
    # Steps at which a branch of pretraining ends, decay included, for the gain as a curve; needs schedule wsd.
    # docs/decisions/branches-share-the-stable-phase.md
    branch_at: tuple[Count, ...] = added_later(())
    seed: Count = 0

    @property
    def steps(self) -> int:
        """Whole batches in `tokens`; what does not fill a batch is not trained on."""
        return self.tokens // self.batch_tokens


class ArmSection(TrainingSection):
    """One arm of the comparison: a grid of learning rates on the first seed, then the best rate on every seed."""

    learning_rates: tuple[Real, ...] = Field(min_length=1)
    max_steps: Count = 300
    seeds: tuple[Count, ...] = Field(default=(1, 2, 3), min_length=1)
    evaluate_every: Count = 20
    patience: Count = 5  # evaluations without a better selection loss before the trial stops; 0 never stops early
    dropout: Share | None = None  # default: the model's


class ScratchSection(ArmSection):
    learning_rates: tuple[Real, ...] = Field(default=(5e-4, 1e-3, 2e-3), min_length=1)
    max_steps: Count = 600


class FinetuneSection(ArmSection):
    learning_rates: tuple[Real, ...] = Field(default=(1e-4, 3e-4, 6e-4), min_length=1)
