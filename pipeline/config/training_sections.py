"""The keys about models and their training: the model, pretraining or imported weights, and both arms."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gpt.shape import GPTShape
from pipeline.config.quantities import (
    Count,
    LearningRate,
    ModelSize,
    NonNegativeReal,
    PositiveCount,
    PositiveReal,
    Seed,
    Share,
    ShareBelowOne,
)
from pipeline.config.section import Section, added_later, counted_as_default, not_fingerprinted, refuse_repeated

ROUNDING = 1e-9  # what a sum of shares may exceed 1 by


class PretrainedSection(Section):
    """Weights and tokenizer of somebody else's GPT-2, in place of a corpus, a tokenizer and pretraining."""

    path: str  # a local folder as `transformers` saves it
    sha256: str | None = None  # of its model.safetensors: another file is refused


class ModelSection(Section):
    """The GPT; `gpt.shape.GPTShape` says what each option does."""

    layers: ModelSize = 6
    width: ModelSize = 256
    heads: ModelSize = 4
    kv_heads: ModelSize | None = None
    context: ModelSize = 256
    hidden: ModelSize | None = None  # feed-forward width; default 4 x width (8/3 x width for swiglu)
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
    logit_softcap: PositiveReal | None = None
    document_mask: bool = False  # attention stays inside a document
    dropout: ShareBelowOne = 0.0

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
    batch_tokens: PositiveCount = 8192
    micro_batch: PositiveCount = 16  # samples that one rank feeds one forward
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup: Share = 0.02  # share of the steps
    decay: Share = 0.3  # share of the steps, at the end (wsd only)
    final_learning_rate: Share = 0.0  # as a share of the peak
    weight_decay: NonNegativeReal = 0.1
    beta1: ShareBelowOne = 0.9
    beta2: ShareBelowOne = 0.95
    clip: NonNegativeReal = 1.0  # largest gradient norm; 0 switches clipping off
    # How the state is divided among the ranks, like their number no part of what is computed: a training goes on at
    # another stage.
    zero: Literal[0, 1, 2, 3] = counted_as_default(1)
    # bf16: weights and products, with fp32 copies in the optimizer. mixed: fp32 weights; products in bf16 where the
    # hardware has units for them.
    dtype: Literal["fp32", "bf16", "mixed"] = "fp32"
    activation_checkpointing: bool = False
    compile: bool = False
    evaluate_every: Count = 100  # steps; 0 evaluates at the end only
    save_every: Count = not_fingerprinted(200)  # steps; 0 saves nothing on the way
    keep_checkpoints: PositiveCount = not_fingerprinted(2)  # the newest ones; the best one is kept, too
    keep_every: Count = not_fingerprinted(0)  # steps; checkpoints of their multiples are kept for good, 0 keeps none
    # Steps in a row with a non-finite loss or gradient, or a spike, that are skipped; one more, and training diverged.
    skip_limit: Count = 3
    # A loss so many robust standard deviations above the median of the last 64 is skipped, too; by default none is.
    spike: PositiveReal | None = added_later(None)

    @model_validator(mode="after")
    def _decay_after_warmup(self) -> TrainingSection:
        if self.schedule == "wsd" and self.warmup + self.decay > 1 + ROUNDING:
            raise ValueError(f"warmup {self.warmup} and decay {self.decay} are together more than all steps")
        return self


class PretrainSection(TrainingSection):
    tokens: PositiveCount = 30_000_000
    learning_rate: LearningRate = 2e-3
    schedule: Literal["cosine", "wsd", "constant"] = "wsd"
    evaluate_tokens: PositiveCount = 65_536  # of the corpus' validation split, the same ones each time
    # Steps at which a branch of pretraining ends, decay included, for the gain as a curve; needs schedule wsd.
    # docs/decisions/branches-share-the-stable-phase.md
    branch_at: tuple[PositiveCount, ...] = added_later(())
    seed: Seed = 0

    @model_validator(mode="after")
    def _one_step_at_least(self) -> PretrainSection:
        if not self.steps:
            raise ValueError(f"tokens {self.tokens:,} is less than one batch of batch_tokens {self.batch_tokens:,}")
        return self

    @property
    def steps(self) -> int:
        """Whole batches in `tokens`, one at least; what does not fill a batch is not trained on."""
        return self.tokens // self.batch_tokens


class ArmSection(TrainingSection):
    """One arm of the comparison: a grid of learning rates on the first seed, then the best rate on every seed."""

    learning_rates: tuple[LearningRate, ...] = Field(min_length=1)
    max_steps: PositiveCount = 300
    seeds: tuple[Seed, ...] = Field(default=(1, 2, 3), min_length=1)
    evaluate_every: Count = 20
    patience: Count = 5  # evaluations without a better selection loss before the trial stops; 0 never stops early
    dropout: ShareBelowOne | None = None  # default: the model's
    # Report seeds that were trained on the selection text, too, with the rate and the steps that it chose; else the
    # trials themselves, at their best steps. docs/decisions/choose-then-refit.md
    refit: bool = added_later(True)

    @model_validator(mode="after")
    def _each_trial_once(self) -> ArmSection:
        refuse_repeated("learning_rates", self.learning_rates)
        refuse_repeated("seeds", self.seeds)
        return self


class ScratchSection(ArmSection):
    learning_rates: tuple[LearningRate, ...] = Field(default=(5e-4, 1e-3, 2e-3), min_length=1)
    max_steps: PositiveCount = 600


class FinetuneSection(ArmSection):
    learning_rates: tuple[LearningRate, ...] = Field(default=(1e-4, 3e-4, 6e-4), min_length=1)
