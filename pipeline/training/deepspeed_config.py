"""DeepSpeed's JSON, derived from Folio's settings in this one place, so that each number has one home."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.errors import ConfigError

# DeepSpeed key -> the Folio key that decides it; "" where Folio decides it alone.
OWNED = {
    "train_batch_size": "batch_tokens",
    "train_micro_batch_size_per_gpu": "micro_batch",
    "gradient_accumulation_steps": "batch_tokens",
    "managed_gradient_accumulation": "",
    "gradient_clipping": "clip",
    "optimizer": "learning_rate, beta1, beta2 and weight_decay",
    "scheduler": "schedule",
    "fp16": "dtype",
    "bf16": "dtype",
    "amp": "dtype",
    "torch_autocast": "dtype",
    "data_types": "dtype",
    "zero_optimization.stage": "zero",
    "zero_allow_untested_optimizer": "",
    "zero_force_ds_cpu_optimizer": "",
    "checkpoint": "save_every and keep_checkpoints",
    "load_universal_checkpoint": "",
    "elasticity": "",
    "steps_per_print": "",
    "wall_clock_breakdown": "",
    "activation_checkpointing": "activation_checkpointing",
    "compile": "compile",
}


@dataclass(frozen=True)
class EngineSettings:
    """What the engine is built from."""

    micro_batch: int  # samples that one rank feeds one forward
    accumulation: int  # micro-batches of one rank in a step
    zero: Literal[0, 1, 2, 3] = 1
    dtype: Literal["fp32", "bf16", "mixed"] = "fp32"  # mixed is fp32 to DeepSpeed; see pipeline/runtime/precision.py
    clip: float = 1.0  # 0 switches clipping off
    deepspeed: Mapping[str, Any] = field(default_factory=dict)  # passed through


def deepspeed_config(settings: EngineSettings) -> dict[str, Any]:
    """The JSON that DeepSpeed is started with. Raises ConfigError if `settings.deepspeed` holds a key of Folio's."""
    refuse_owned_keys(settings.deepspeed)
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": settings.micro_batch,
        "gradient_accumulation_steps": settings.accumulation,
        "gradient_clipping": settings.clip if _deepspeed_clips(settings) else 0.0,
        "zero_optimization": {"stage": settings.zero},
        # A torch optimizer object: naming one here would make DeepSpeed compile its own for minutes.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "checkpoint": {"tag_validation": "FAIL"},
        "steps_per_print": None,
        "wall_clock_breakdown": False,
    }
    if settings.dtype == "bf16":
        config["bf16"] = {"enabled": True}
        config["data_types"] = {"buffer_dtype": "bf16"} | ({"grad_accum_dtype": "fp32"} if settings.zero else {})
    return _merged(config, settings.deepspeed)


def refuse_owned_keys(block: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first key of the `deepspeed:` block that Folio decides itself."""
    for key, value in block.items():
        nested = [f"{key}.{inner}" for inner in value] if isinstance(value, Mapping) else []
        for name in (key, *nested):
            if name in OWNED:
                home = OWNED[name]
                raise ConfigError(
                    f"deepspeed.{name} is decided by Folio.",
                    remedy=f"Set {home} of the stage instead." if home else "Remove it.",
                )


def checks_gradients(settings: EngineSettings) -> bool:
    """Whether DeepSpeed looks for non-finite gradients before an update: not in stage 0 with fp32 weights (0.19.8)."""
    return settings.zero > 0 or settings.dtype == "bf16"


_deepspeed_clips = checks_gradients  # where Folio computes the norm anyway, it clips too


def _merged(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    both = {**base, **extra}
    for key in base.keys() & extra.keys():
        if isinstance(base[key], Mapping) and isinstance(extra[key], Mapping):
            both[key] = _merged(base[key], extra[key])
    return both
