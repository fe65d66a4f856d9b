"""What mixed precision buys: a step with bf16 products against one in fp32, which take turns on one core (or the GPU).

python -m tests.bench.bench_precision            half a minute
"""

from __future__ import annotations

import json

import torch

from pipeline.config.schema import Config
from pipeline.config.text_sections import CorpusSection
from pipeline.config.training_sections import ModelSection, PretrainSection
from pipeline.experiments.ablation.changed_configs import shape_of
from pipeline.experiments.ablation.speed import tokens_per_second
from pipeline.runtime.precision import has_bf16_units
from pipeline.runtime.progress import Progress


def main() -> None:
    """Print one JSON record per size of the model; above 1 mixed precision is faster."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for layers, width in ((4, 128), (6, 256)):
        configs = {dtype: config(layers, width, dtype) for dtype in ("mixed", "fp32")}
        rates = tokens_per_second(configs, "pretrain", Progress("bench"))
        size = f"{layers} x {width}, vocabulary {shape_of(configs['fp32']).vocab_size}"
        found = {
            "name": f"training step with Muon, mixed precision / fp32, {size}",
            "value": round(rates["mixed"] / rates["fp32"], 3),
            "unit": "x",
            "target": None,
            "tokens_per_second": [round(rates["mixed"]), round(rates["fp32"])],
            "bf16_units": "yes" if has_bf16_units(device) else "none, so mixed is fp32",
        }
        print(json.dumps(found), flush=True)


def config(layers: int, width: int, dtype: str) -> Config:
    section = {"optimizer": "muon", "zero": 0, "dtype": dtype, "batch_tokens": 4096, "micro_batch": 8}
    return Config(
        name="bench",
        corpus=CorpusSection(fallback=True),
        model=ModelSection(layers=layers, width=width),
        pretrain=PretrainSection.model_validate(section),
    )


if __name__ == "__main__":
    main()
