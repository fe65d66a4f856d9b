from __future__ import annotations

import errno
import hashlib
import threading
from pathlib import Path

import pytest
import torch

from pipeline.training.file_writing import FileWriting, bytes_of, copied_to_host


def test_files_are_written_beside_other_work_and_hashed(tmp_path: Path) -> None:
    writing, go_on = FileWriting(), threading.Event()

    def slowly(path: Path) -> None:
        go_on.wait(10)
        path.write_bytes(b"slow")

    writing.add(tmp_path / "slow", slowly)
    writing.add(tmp_path / "fast", lambda path: path.write_bytes(b"fast"))
    writing.start()
    assert not writing.is_done
    go_on.set()
    entries = writing.entries()
    assert writing.is_done
    assert [(entry.path, entry.bytes, entry.sha256) for entry in entries] == [
        (name, 4, hashlib.sha256(name.encode()).hexdigest()) for name in ("slow", "fast")
    ]


def test_what_there_is_no_memory_for_is_written_at_once(tmp_path: Path) -> None:
    writing = FileWriting()
    writing.write_now(tmp_path / "now", lambda path: path.write_bytes(b"now"))
    assert (tmp_path / "now").exists()
    writing.start()
    assert [entry.path for entry in writing.entries()] == ["now"]


@pytest.mark.parametrize(
    ("raised", "number"), [(OSError(errno.ENOSPC, "full"), errno.ENOSPC), (RuntimeError("iostream error"), errno.EIO)]
)
def test_the_first_failure_is_the_last_attempt(tmp_path: Path, raised: Exception, number: int) -> None:
    def fail(path: Path) -> None:
        raise raised

    writing = FileWriting()
    writing.add(tmp_path / "one", fail)
    writing.add(tmp_path / "two", lambda path: path.write_bytes(b"two"))
    writing.start()
    with pytest.raises(OSError, match=str(raised.args[-1])) as caught:
        writing.entries()
    assert caught.value.errno == number
    assert not (tmp_path / "two").exists()


def test_a_copy_holds_the_values_of_then_and_shared_memory_once(tmp_path: Path) -> None:
    flat = torch.arange(1000.0)
    state = {"flat": flat, "part": (flat[100:200], [flat.view(10, 100)[3]]), "step": 4}
    copy = copied_to_host(state)
    flat.zero_()
    assert torch.equal(copy["part"][0], torch.arange(100.0, 200.0))
    assert torch.equal(copy["part"][1][0], torch.arange(300.0, 400.0))
    assert copy["step"] == 4
    assert bytes_of(state) == bytes_of(copy) == 4000
    torch.save(copy, tmp_path / "copy.pt")
    assert (tmp_path / "copy.pt").stat().st_size < 6000


def test_a_parameter_is_copied_as_a_tensor_without_its_gradient() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    copy = copied_to_host({"weight": parameter})["weight"]
    assert type(copy) is torch.Tensor and not copy.requires_grad
