from __future__ import annotations

from typing import Any

import torch

from pipeline.report.finished_run import FinishedRun
from pipeline.report.sections.samples import samples_section


def test_samples_continue_the_prompt(written: Any) -> None:
    samples = written.report.samples
    assert samples.scratch.startswith("the ") and samples.finetune.startswith("the ")
    assert len(samples.scratch) == len("the ") + 12
    assert samples.scratch != samples.finetune
    assert (samples.prompt, samples.temperature) == ("the ", 0.8)


def test_an_arm_that_the_run_has_not_writes_nothing(chain: Any) -> None:
    chain.without_pretraining()
    samples = samples_section(FinishedRun.of(chain.work()), torch.device("cpu"))
    assert samples.finetune is None and samples.scratch is not None
