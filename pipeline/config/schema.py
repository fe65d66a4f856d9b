"""The config tree: every key a run understands, its default, and what it means. Defaults live only here.

A stage never sees the tree, only the slice that `graph/stages.py` names; what is outside its slice cannot change its
artifact. A field marked `not_fingerprinted` may differ without making an artifact stale: it changes how often things
are saved or shown, never what is computed.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gpt.shape import GPTShape
from pipeline.config.quantities import Bytes, Count, Real, Share


def not_fingerprinted(default: Any) -> Any:
    """A field that is left out of fingerprints: another value gives the same artifact."""
    return Field(default=default, json_schema_extra={"identity": False})


def added_later(default: Any) -> Any:
    """A field added later: fingerprinted only when it differs from its default, so older artifacts stay valid."""
    return Field(default=default, json_schema_extra={"identity": "unless default"})


class Section(BaseModel):
    """A part of the config: frozen, and strict about keys, because a misspelt key would silently keep a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class TargetSection(Section):
    """The text whose validation loss is reported. Its origin is exactly one of `name`, `path` or `hub`."""

    name: Literal["tiny-shakespeare"] | None = None
    path: str | None = None
    hub: str | None = None
    subset: str | None = None
    split: str = "train"
    revision: str = "main"
    field: str = "text"
    validation: Share = 0.1  # of the characters, at the end: scored by the report, never trained or chosen on
    selection: Share = 0.05  # of the characters, just before the validation split: chooses learning rate and best step
    fallback: bool = False  # for the demo: use text that every installation has when the target cannot be found

    @model_validator(mode="after")
    def _one_origin(self) -> TargetSection:
        if sum(origin is not None for origin in (self.name, self.path, self.hub)) != 1:
            raise ValueError("give exactly one of name, path or hub")
        return self


class SourceSection(Section):
    """A source of corpus text: exactly one of `path` (file or glob), `url` (https, one file) or `hub` (dataset id)."""

    name: str = ""
    path: str | None = None
    url: str | None = None
    hub: str | None = None
    subset: str | None = None
    split: str = "train"
    revision: str = "main"
    field: str = "text"
    license: str = "unknown"
    max_bytes: Bytes | None = None  # of kept text, UTF-8
    # How often the source's samples appear in one epoch of pretraining; 0.5 shows half of them. It changes no text, so
    # it is fingerprinted with pretraining (`graph/stages.py`) and not with the corpus.
    weight: Real = not_fingerprinted(1.0)

    @model_validator(mode="before")
    @classmethod
    def _named_after_origin(cls, values: Any) -> Any:
        origin = next((values[key] for key in ("path", "url", "hub") if values.get(key)), "")
        return {"name": origin, **values} if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _one_origin(self) -> SourceSection:
        origins = [origin for origin in (self.path, self.url, self.hub) if origin is not None]
        if len(origins) != 1:
            raise ValueError("give exactly one of path, url or hub")
        if self.weight <= 0:
            raise ValueError(f"weight {self.weight} is not above 0")
        return self


class DecontaminateSection(Section):
    ngram_words: Count = 13


class CorpusSection(Section):
    sources: tuple[SourceSection, ...] = ()
    decontaminate: DecontaminateSection | Literal[False] = DecontaminateSection()
    validation: Share = 0.01  # of the documents, chosen by hash
    min_characters: Count = 200  # shorter documents are dropped, and counted
    # Of kept text over all sources. They share it evenly; what a small source leaves unused goes to the others.
    max_bytes: Bytes | None = None
    seed: Count = 0
    fallback: bool = False  # for the demo: use docstrings of the installed packages when a source cannot be found

    @model_validator(mode="after")
    def _distinct_names(self) -> CorpusSection:
        names = [source.name for source in self.sources]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"source name {repeated[0]!r} appears twice; give each source its own name")
        return self


class TokenizerSection(Section):
    kind: Literal["bpe", "char"] = "bpe"
    vocab_size: Count = 4096
    sample_bytes: Bytes = 50_000_000
    seed: Count = 0


class PretrainedSection(Section):
    """Weights and tokenizer of somebody else's GPT-2, in place of a corpus, a tokenizer and pretraining."""

    path: str  # a local folder as `transformers` saves it
    sha256: str | None = None  # of its model.safetensors: another file is refused


class ShardsSection(Section):
    shard_bytes: Bytes = 64_000_000


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


class ReportSection(Section):
    stride: Count | None = None  # tokens scored per validation window; default the context: windows do not overlap
    prompt: str = "ROMEO:"
    sample_tokens: Count = 300
    temperature: Real = 0.8
    resamples: Count = 10_000  # of the bootstrap over windows and seeds
    # Also pretrain without decontamination and finetune from that: how much of the gain would be memory?
    leak_ablation: bool = False
    # Other models from scratch that the gain must hold against: name -> dotted keys of tokenizer, model or scratch, and
    # their values. One seed each, unless scratch.seeds says otherwise.
    rivals: dict[str, dict[str, Any]] = {}
    # Other sizes of the model, for the gain over model size: name -> dotted keys of the model, and their values. Each
    # is pretrained, finetuned and trained from scratch on one seed.
    sizes: dict[str, dict[str, Any]] = {}
    seed: Count = 0

    @model_validator(mode="after")
    def _distinct_names(self) -> ReportSection:
        # A variant's name stands before its stages (`leak.corpus`), in `folio plan` and as keys of report.json.
        taken = ({"leak"} | self.rivals.keys()) & self.sizes.keys() or {"leak"} & self.rivals.keys()
        if taken:
            raise ValueError(f"the name {min(taken)!r} is taken; rivals and sizes need names of their own")
        return self


class AblationSection(Section):
    """What `folio ablate` compares with the rest of this config, one change at a time. The run itself ignores it."""

    stage: Literal["pretrain", "scratch"] = "pretrain"  # whose weights are compared
    seeds: tuple[Count, ...] = Field(default=(1, 2, 3), min_length=2)
    changes: dict[str, dict[str, Any]] = {}  # name -> dotted keys of `model` and the stage, and their values


class LaunchSection(Section):
    """How training is started, which never changes what is computed. `folio run --ranks/--hostfile` override it."""

    ranks: Count | None = None  # on this machine; default one per GPU, one on a CPU machine
    workers: Count | None = None  # processes that read and encode text; default one per core
    threads: Count | None = None  # per rank; default the cores divided by the local ranks
    hostfile: str | None = None
    port: Count | None = None  # default: a free one
    startup_seconds: Count = 600
    timeout_seconds: Count = 120


class Config(Section):
    """One run, from its data to its report: the content of a YAML file under configs/."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    target: TargetSection = TargetSection(name="tiny-shakespeare")
    corpus: CorpusSection = CorpusSection()
    tokenizer: TokenizerSection = TokenizerSection()
    pretrained: PretrainedSection | None = None
    shards: ShardsSection = ShardsSection()
    model: ModelSection = ModelSection()
    pretrain: PretrainSection = PretrainSection()
    scratch: ScratchSection = ScratchSection()
    finetune: FinetuneSection = FinetuneSection()
    report: ReportSection = ReportSection()
    ablation: AblationSection = AblationSection()
    launch: LaunchSection = LaunchSection()
    deepspeed: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_origin_of_weights(self) -> Config:
        if self.pretrained and (self.corpus.sources or self.corpus.fallback):
            raise ValueError("give either a corpus to pretrain on or pretrained weights, not both")
        return self
