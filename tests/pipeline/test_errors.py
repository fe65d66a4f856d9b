"""Every refusal has an exit code, is one line, and survives the way between processes."""

from __future__ import annotations

import pickle

import pytest

from pipeline import errors
from pipeline.errors import BY_EXIT_CODE, DataError, FolioError


def test_every_error_class_has_the_exit_code_of_the_contract() -> None:
    codes = {error_class.__name__: error_class.exit_code for error_class in BY_EXIT_CODE.values()}
    assert codes == {
        "ConfigError": 2,
        "DataError": 3,
        "ResumeError": 4,
        "EnvironmentFault": 5,
        "RankLost": 6,
        "Diverged": 7,
        "Preempted": 75,
        "Interrupted": 130,
    }


def test_no_error_class_is_missing_among_the_exit_codes() -> None:
    classes = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, FolioError)}
    assert classes - {FolioError} == set(BY_EXIT_CODE.values())


@pytest.mark.parametrize(
    ("message", "remedy", "line"),
    [
        ("Shard x is damaged.", "Restore it.", "Shard x is damaged. Restore it."),
        ("Shard x is damaged.", "", "Shard x is damaged."),
        ("Two\n  lines. ", "And a remedy.", "Two lines. And a remedy."),
    ],
)
def test_an_error_reads_as_one_line(message: str, remedy: str, line: str) -> None:
    assert str(DataError(message, remedy=remedy)) == line


def test_an_error_survives_the_way_out_of_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(DataError("shard x is damaged.", remedy="Restore it.")))
    assert (type(error), error.message, error.remedy) == (DataError, "shard x is damaged.", "Restore it.")
