"""Trainings of many configs into one store, several at a time; finished ones are not repeated.

Each is led by a process of its own, which starts the training's ranks: a stop signal reaches the main thread of a
process alone, and it must reach every training so that each can save.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from pipeline.config.schema import Config
from pipeline.config.training_sections import ArmSection
from pipeline.errors import FolioError, RankLost
from pipeline.graph.runner import Selection, run_nodes
from pipeline.graph.store import Store
from pipeline.graph.work import Artifact
from pipeline.runtime.processes import cores_of_a_rank, importing_nothing_from_here
from pipeline.runtime.progress import Progress


@dataclass(frozen=True)
class TrainingJob:
    """One training to do: the name that its progress shows, and the config whose stage is trained."""

    name: str
    config: Config


def train_all(
    jobs: Sequence[TrainingJob], stage: str, store: Store, at_once: int, progress: Progress
) -> list[Artifact]:
    """The stage's artifacts in the order of the jobs, whose inputs must be finished; `at_once` train at a time.

    Raises what the first failed training raised. Whatever ends this, trainings under way are asked to stop and waited
    for: they save a checkpoint first.
    """
    waiting, leaders = list(enumerate(jobs)), dict[int, _Leader]()
    artifacts: dict[int, Artifact] = {}
    with progress.task("trainings", len(jobs), "trainings") as task:
        try:
            while waiting or leaders:
                while waiting and len(leaders) < at_once:
                    index, job = waiting.pop(0)
                    leaders[index] = _Leader.start(job.config, stage, store, _threads(job.config, at_once))
                # Sleeps until a process ends, however it ends; it may be more than one.
                wait([leader.process.sentinel for leader in leaders.values()])
                for index in [index for index, leader in leaders.items() if not leader.process.is_alive()]:
                    artifacts[index] = leaders.pop(index).result()
                    task.advance(1, jobs[index].name)
        finally:
            # First all, then each: they save at the same time.
            for leader in leaders.values():
                leader.process.terminate()
            for leader in leaders.values():
                leader.process.join()
    return [artifacts[index] for index in range(len(jobs))]


def with_share(config: Config, stage: str, share: float) -> Config:
    """The config with a share of the stage's tokens, in whole batches."""
    section = getattr(config, stage)
    if isinstance(section, ArmSection):
        return with_section(config, stage, max_steps=round(section.max_steps * share))
    return with_section(config, stage, tokens=round(section.steps * share) * section.batch_tokens)


def with_section(config: Config, stage: str, **changes: object) -> Config:
    """The config with values of one section replaced. They must be valid: `model_copy` does not check them."""
    return config.model_copy(update={stage: getattr(config, stage).model_copy(update=changes)})


@dataclass(frozen=True)
class _Leader:
    """A process that leads one training, and the pipe on which it sends the artifact or the error."""

    process: SpawnProcess
    answer: Connection

    @classmethod
    def start(cls, config: Config, stage: str, store: Store, threads: int | None) -> _Leader:
        # Spawned, not forked: torch's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_lead, args=(config, stage, store, threads, theirs))
        with importing_nothing_from_here():
            process.start()
        theirs.close()  # now only the child holds that end, so `recv` ends when the child does
        return cls(process, ours)

    def result(self) -> Artifact:
        """The artifact, once the process has ended. Raises what it raised, RankLost if it was killed."""
        try:
            answer = self.answer.recv()
        except EOFError:
            raise RankLost(
                f"The process that led a training ended with {self.process.exitcode} and did not say why.",
                remedy="Run the same command again: it continues.",
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        artifact: Artifact = answer
        return artifact


def _threads(config: Config, at_once: int) -> int | None:
    """Threads for each rank, so that trainings at the same time share the cores; None leaves it to the training."""
    if at_once == 1:
        return None
    return cores_of_a_rank(at_once * (config.launch.ranks or 1))


def _lead(config: Config, stage: str, store: Store, threads: int | None, answer: Connection) -> None:
    """Train in this process's ranks, and send the artifact, or the error: an exit status alone could not tell it."""
    shared = with_section(config, "launch", threads=config.launch.threads or threads)
    try:
        answer.send(run_nodes(shared, store, Selection(stage, stage))[stage])
    except FolioError as error:
        answer.send(error)
