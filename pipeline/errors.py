"""Every way Folio refuses, one class per exit code.

FolioError
├── ConfigError        2  usage or configuration
├── DataError          3  damaged or missing data: shard, manifest, checkpoint, tokenizer
├── ResumeError        4  the checkpoint does not fit this run
├── EnvironmentFault   5  disk, ports, compiler, versions, unreachable node
├── RankLost           6  a rank was lost or timed out
├── Diverged           7  training diverged
├── Preempted         75  saved, run me again
└── Interrupted      130  stopped by the user

A message says what and where, the remedy says what to do; together they are the one line the user sees.
"""

from __future__ import annotations

from pipeline.addresses import without_secrets_in


class FolioError(Exception):
    """A refusal with a remedy; the program prints it as one line and leaves with `exit_code`."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        # Messages of other libraries, quoted in ours, repeat the addresses that they were given, tokens included.
        self.message, self.remedy = without_secrets_in(message), without_secrets_in(remedy)
        super().__init__(self.message)

    def __str__(self) -> str:
        # Messages of other libraries, quoted in ours, may have line breaks; the operator is promised one line.
        line = f"{self.message.rstrip()} {self.remedy}".strip()
        return " ".join(line.split())

    def __reduce__(self) -> tuple[object, ...]:
        # The remedy is keyword-only, so the default pickling would lose it on the way out of a worker process.
        return _rebuild, (type(self), self.message, self.remedy)


class ConfigError(FolioError):
    exit_code = 2


class DataError(FolioError):
    exit_code = 3


class ResumeError(FolioError):
    exit_code = 4


class EnvironmentFault(FolioError):
    exit_code = 5


class RankLost(FolioError):
    exit_code = 6


class Diverged(FolioError):
    exit_code = 7


class Preempted(FolioError):
    exit_code = 75  # EX_TEMPFAIL of sysexits.h: schedulers can be told to run the same command again


class Interrupted(FolioError):
    exit_code = 130  # 128 + SIGINT, as shells report it


# How a rank's error comes back to the launcher: its note holds the exit code, not a pickled exception.
BY_EXIT_CODE: dict[int, type[FolioError]] = {
    error_class.exit_code: error_class
    for error_class in (
        ConfigError,
        DataError,
        ResumeError,
        EnvironmentFault,
        RankLost,
        Diverged,
        Preempted,
        Interrupted,
    )
}


def _rebuild(error_class: type[FolioError], message: str, remedy: str) -> FolioError:
    return error_class(message, remedy=remedy)
