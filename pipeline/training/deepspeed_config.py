"""DeepSpeed's JSON, derived from Folio's config in this one place, so that each number has one home."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.config.training_sections import TrainingSection
from pipeline.errors import ConfigError
from pipeline.training.training_plan import BatchGeometry

# DeepSpeed key -> the Folio keys that it is derived from; "" where Folio always sets the same.
OWNED = {
    "train_batch_size": "`batch_tokens`",
    "train_micro_batch_size_per_gpu": "`micro_batch`",
    "gradient_accumulation_steps": "`batch_tokens`",
    "managed_gradient_accumulation": "",
    "gradient_clipping": "`clip`",
    "optimizer": "`learning_rate`, `beta1`, `beta2` and `weight_decay`",
    "scheduler": "`schedule`",
    "fp16": "`dtype`",
    "bf16": "`dtype`",
    "amp": "`dtype`",
    "torch_autocast": "`dtype`",
    "data_types": "`dtype`",
    "zero_optimization.stage": "`zero`",
    "zero_optimization.compute_grad_norm": "",
    "zero_allow_untested_optimizer": "",
    "zero_force_ds_cpu_optimizer": "",
    "checkpoint": "`save_every` and `keep_checkpoints`",
    "load_universal_checkpoint": "",
    "elasticity": "",
    "steps_per_print": "",
    "wall_clock_breakdown": "",
    "activation_checkpointing": "`activation_checkpointing`",
    "compile": "`compile`",
}


@dataclass(frozen=True)
class EngineSettings:
    """What the engine is built from."""

    micro_batch: int  # samples that one rank feeds one forward
    accumulation: int  # micro-batches of one rank in a step
    zero: Literal[0, 1, 2, 3] = 1
    dtype: Literal["fp32", "bf16", "mixed"] = "fp32"  # mixed is fp32 to DeepSpeed; see pipeline/runtime/precision.py
    clip: float = 1.0  # largest gradient norm; 0 switches clipping off
    deepspeed: Mapping[str, Any] = field(default_factory=dict)  # passed through

    @classmethod
    def of(cls, section: TrainingSection, geometry: BatchGeometry, deepspeed: Mapping[str, Any]) -> EngineSettings:
        """The settings for a training section, a split of its batch, and the config's `deepspeed:` block."""
        return cls(
            micro_batch=geometry.micro_batch,
            accumulation=geometry.accumulation,
            zero=section.zero,
            dtype=section.dtype,
            clip=section.clip,
            deepspeed=deepspeed,
        )


def deepspeed_config(settings: EngineSettings) -> dict[str, Any]:
    """The JSON that DeepSpeed is started with. Raises ConfigError if `settings.deepspeed` holds a key of Folio's."""
    refuse_owned_keys(settings.deepspeed)
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": settings.micro_batch,
        "gradient_accumulation_steps": settings.accumulation,
        # Where DeepSpeed does not look at the gradients, Folio computes their norm anyway and clips, too.
        "gradient_clipping": settings.clip if checks_gradients(settings) else 0.0,
        # The norm is how all ranks learn of a number that is not finite. Its defaults have moved between releases, as
        # those of clipping and of the timeout have, which is the process group's (`distributed/rendezvous.py`).
        "zero_optimization": {"stage": settings.zero, "compute_grad_norm": True},
        # A torch optimizer object: naming one here would make DeepSpeed compile its own for minutes.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        # Ranks that stand at different steps must fail, not write one checkpoint of two steps.
        "checkpoint": {"tag_validation": "FAIL"},
        "steps_per_print": None,
        "wall_clock_breakdown": False,
    }
    if settings.dtype == "bf16":
        config["bf16"] = {"enabled": True, "check_grad_overflow": True}
        # Sums of bf16 gradients lose small terms, so ZeRO adds them up in fp32; stage 0 refuses that mix (0.19.8).
        config["data_types"] = {"buffer_dtype": "bf16"} | ({"grad_accum_dtype": "fp32"} if settings.zero else {})
    return _merged(config, settings.deepspeed)


def refuse_owned_keys(block: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first key of the `deepspeed:` block that Folio sets itself."""
    for key, value in block.items():
        nested = [f"{key}.{inner}" for inner in value] if isinstance(value, Mapping) else []
        for name in (key, *nested):
            if name in OWNED:
                home = OWNED[name]
                raise ConfigError(
                    f"deepspeed.{name} cannot be set here: Folio {f'derives it from {home}' if home else 'sets it'}.",
                    remedy=f"Set {home} of the stage instead." if home else "Remove it.",
                )


def checks_gradients(settings: EngineSettings) -> bool:
    """Whether DeepSpeed looks for non-finite gradients before an update: not in stage 0 with fp32 weights (0.19.8)."""
    return settings.zero > 0 or settings.dtype == "bf16"


def _merged(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    both = {**base, **extra}
    for key in base.keys() & extra.keys():
        if isinstance(base[key], Mapping) and isinstance(extra[key], Mapping):
            both[key] = _merged(base[key], extra[key])
    return both
