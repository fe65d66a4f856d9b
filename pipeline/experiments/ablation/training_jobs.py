"""Trainings of many variants in one store, several at a time; whatever is finished is not repeated."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from pipeline.config.schema import ArmSection, Config
from pipeline.errors import FolioError, RankLost
from pipeline.graph.runner import Selection, run_nodes
from pipeline.graph.store import Store
from pipeline.graph.work import Artifact
from pipeline.runtime.progress import Progress


@dataclass(frozen=True)
class TrainingJob:
    """One training to do: a name for the operator, and the config whose stage it is."""

    name: str
    config: Config


def carried_out(
    trainings: Sequence[TrainingJob], stage: str, store: Store, jobs: int, progress: Progress
) -> list[Artifact]:
    """The stage's artifacts in the order of the trainings, whose inputs must be finished; `jobs` run at a time.

    Raises what the first failed training raised. Whatever ends this, those that run are asked to stop and waited for:
    they save first.
    """
    cores = len(os.sched_getaffinity(0))
    waiting, running = list(enumerate(trainings)), dict[int, _Led]()
    found: dict[int, Artifact] = {}
    with progress.task("trainings", len(trainings), "trainings") as task:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    index, training = waiting.pop(0)
                    ranks = training.config.launch.ranks or 1
                    threads = max(cores // (jobs * ranks), 1) if jobs > 1 else None
                    running[index] = _Led.start(training.config, stage, store, threads)
                wait([one.process.sentinel for one in running.values()])
                for index in [index for index, one in running.items() if not one.process.is_alive()]:
                    found[index] = running.pop(index).result()
                    task.advance(1, trainings[index].name)
        finally:
            for one in running.values():
                one.process.terminate()
            for one in running.values():
                one.process.join()
    return [found[index] for index in range(len(trainings))]


@dataclass(frozen=True)
class _Led:
    """A training that is led by a process of its own, because only a main thread hears signals."""

    process: SpawnProcess
    answer: Connection

    @classmethod
    def start(cls, config: Config, stage: str, store: Store, threads: int | None) -> _Led:
        context = multiprocessing.get_context("spawn")
        answer, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_train, args=(config, stage, store, threads, theirs))
        process.start()
        theirs.close()  # so that a process that dies without a word is noticed
        return cls(process, answer)

    def result(self) -> Artifact:
        """The artifact, once the process has ended. Raises what it raised, RankLost if it was killed."""
        try:
            answer = self.answer.recv()
        except EOFError:
            raise RankLost(
                f"The process that led a training ended with {self.process.exitcode} and without a word.",
                remedy="The same command goes on.",
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        artifact: Artifact = answer
        return artifact


def with_share(config: Config, stage: str, share: float) -> Config:
    """The config with a share of the stage's tokens, in whole batches."""
    section = getattr(config, stage)
    if isinstance(section, ArmSection):
        return with_section(config, stage, max_steps=round(section.max_steps * share))
    return with_section(
        config, stage, tokens=round(section.tokens // section.batch_tokens * share) * section.batch_tokens
    )


def with_section(config: Config, stage: str, **changes: object) -> Config:
    """The config with values of one section replaced, which must be valid already."""
    return config.model_copy(update={stage: getattr(config, stage).model_copy(update=changes)})


def _train(config: Config, stage: str, store: Store, threads: int | None, answer: Connection) -> None:
    shared = with_section(config, "launch", threads=config.launch.threads or threads)
    try:
        answer.send(run_nodes(shared, store, Selection(stage, stage))[stage])
    except FolioError as error:
        answer.send(error)
