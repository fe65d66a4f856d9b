"""Experiments 7 to 9: two hosts and what lies between them. The tests about hosts carry them out; here they are run."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.faults.conftest import ROOT, environment
from tests.faults.experiments.outcome import OTHER, RECOVERED, REFUSED, Outcome, unmeasured
from tests.faults.experiments.workshop import Workshop

HOSTS, RANKS = "tests/distributed/test_hosts.py", "tests/faults/test_ranks.py"
EXTERNAL = "tests/faults/test_external_ranks.py"
# Number -> what it shows, the exit code that the test asks for, and the test.
TESTS = (
    (7, "cable between two hosts cut while they train", 6, f"{HOSTS}::test_cut_cable_ends_both_sides_in_time"),
    (
        8,
        "100 ms there and back and 5 % loss between two hosts",
        0,
        f"{HOSTS}::test_a_slow_network_that_loses_packets_changes_nothing",
    ),
    (9, "port of the master taken", 5, f"{RANKS}::test_taken_port_is_refused_before_any_rank_starts"),
    (9, "address where no master answers", 5, f"{HOSTS}::test_address_where_nobody_answers_is_refused_before_training"),
    (9, "master whose name nobody knows", 5, f"{EXTERNAL}::test_master_that_nobody_knows_is_refused_in_one_line"),
    (9, "host that cannot be reached by ssh", 5, f"{HOSTS}::test_unreachable_host_is_named_before_training"),
    (
        9,
        "ranks that nobody starts",
        5,
        f"{EXTERNAL}::test_ranks_that_nobody_started_are_named_while_they_are_awaited_and_the_cure_works",
    ),
)


def tests_of(number: int) -> list[Outcome]:
    """Run the tests of an experiment, one row each."""
    return [tested(number, what, code, test) for at, what, code, test in TESTS if at == number]


def cut_cable(shop: Workshop) -> list[Outcome]:
    return tests_of(7)


def slow_network(shop: Workshop) -> list[Outcome]:
    return tests_of(8)


def wrong_meeting_points(shop: Workshop) -> list[Outcome]:
    return tests_of(9)


def tested(number: int, what: str, code: int, test: str) -> Outcome:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    expected = REFUSED if code else RECOVERED
    passed = re.search(r"\b(\d+) passed", done.stdout)
    if done.returncode == 0 and passed is None:
        return unmeasured(number, what, expected, f"{test} was skipped: no root, or no ssh and network namespaces")
    met = done.returncode == 0
    seconds = re.search(r"in ([\d.]+)s", done.stdout)
    detail = f"{test.rpartition('::')[2]}{'' if met else ' failed'}" + (f", {seconds[1]} s in all" if seconds else "")
    return Outcome(number, what, expected, expected if met else OTHER, met, code if met else None, detail=detail)
