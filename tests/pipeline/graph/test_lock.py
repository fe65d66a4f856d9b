"""One writer per artifact."""

import os

import pytest

from pipeline.errors import EnvironmentFault
from pipeline.graph.lock import exclusive, held


def test_a_folder_has_one_writer_and_the_refusal_names_it(tmp_path):
    with exclusive(tmp_path / "a"):
        assert held(tmp_path / "a")
        with pytest.raises(EnvironmentFault, match=f"process {os.getpid()}"), exclusive(tmp_path / "a"):
            pass
    assert not held(tmp_path / "a")
