"""Trainings of many variants in one store, several at a time; whatever is finished is not repeated."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from pipeline.graph.config import Arm, Config
from pipeline.graph.progress import Progress
from pipeline.graph.runner import Selection, run
from pipeline.graph.store import Store
from pipeline.graph.work import Artifact


@dataclass(frozen=True)
class Training:
    """One training to do: a name for the operator, and the config whose stage it is."""

    name: str
    config: Config


def carried_out(
    trainings: Sequence[Training], stage: str, store: Store, jobs: int, progress: Progress
) -> list[Artifact]:
    """The stage's artifacts in the order of the trainings, whose inputs must be finished; `jobs` run at a time.

    Raises what the first failed training raised, after those that had begun are through.
    """
    if not trainings:
        return []
    threads = max(len(os.sched_getaffinity(0)) // (jobs * (trainings[0].config.launch.ranks or 1)), 1)
    found = []
    with progress.task("trainings", len(trainings), "trainings") as task, _pool(jobs) as pool:
        results = [pool.submit(_train, one.config, stage, store, threads if jobs > 1 else None) for one in trainings]
        try:
            for one, result in zip(trainings, results, strict=True):
                found.append(result.result())
                task.advance(1, one.name)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return found


def with_share(config: Config, stage: str, share: float) -> Config:
    """The config with a share of the stage's tokens, in whole batches."""
    section = getattr(config, stage)
    if isinstance(section, Arm):
        return with_section(config, stage, max_steps=round(section.max_steps * share))
    return with_section(
        config, stage, tokens=round(section.tokens // section.batch_tokens * share) * section.batch_tokens
    )


def with_section(config: Config, stage: str, **changes: object) -> Config:
    """The config with values of one section replaced, which must be valid already."""
    return config.model_copy(update={stage: getattr(config, stage).model_copy(update=changes)})


def _pool(jobs: int) -> ProcessPoolExecutor:
    """Each training is led by a process of its own, because only a main thread hears signals."""
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))


def _train(config: Config, stage: str, store: Store, threads: int | None) -> Artifact:
    shared = with_section(config, "launch", threads=config.launch.threads or threads)
    return run(shared, store, Selection(stage, stage))[stage]
