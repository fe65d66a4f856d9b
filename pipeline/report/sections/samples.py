"""Section `samples`: what each arm writes after the same prompt."""

from __future__ import annotations

import torch

from pipeline.report.finished_run import FinishedRun
from pipeline.report.section_records import ReportedSamples
from pipeline.saved_models.continue_text import continued
from pipeline.saved_models.weights import load_model


def samples_section(run: FinishedRun, device: torch.device) -> ReportedSamples:
    """What the first seed of each arm writes after the prompt, from the same random numbers."""
    section = run.section
    texts: dict[str, str | None] = {"scratch": None, "finetune": None}
    for arm in run.arms:
        texts[arm.name] = continued(
            load_model(arm.weights[0], arm.model_json, device),
            run.tokenizer,
            section.prompt,
            section.sample_tokens,
            seed=section.seed,  # the same draws for both arms, so that texts differ by the models alone
            temperature=section.temperature,
        )
    return ReportedSamples(**texts, prompt=section.prompt, temperature=section.temperature)
