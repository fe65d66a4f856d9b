"""Machines by name: their figures, the ranks on them, and what is refused with what is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gpt.shape import GPTShape
from pipeline.errors import ConfigError
from pipeline.graph import machines
from pipeline.graph.machines import DEVICES, EFFICIENCY, Machine, named_machine, named_ranks, this_machine

SHAPE = GPTShape(vocab_size=100, layers=2, width=8, heads=2, context=16)


@pytest.mark.parametrize(
    ("name", "units", "memory_gb", "bf16"),
    [("h100x8", 8, 80, 989), ("h200x1", 1, 141, 989), ("A100x4", 4, 80, 312), ("rtx4090x2", 2, 24, 165)],
)
def test_gpus_by_name_have_their_data_sheets_figures(name: str, units: int, memory_gb: int, bf16: int) -> None:
    machine = named_machine(name)
    assert (machine.units, machine.memory_bytes, machine.gpu, machine.here) == (units, memory_gb * 10**9, True, False)
    assert machine.flops_per_second(SHAPE, "bf16", 4, ranks=units) == pytest.approx(units * EFFICIENCY * bf16 * 1e12)
    assert machine.flops_per_second(SHAPE, "mixed", 4, 1) > machine.flops_per_second(SHAPE, "fp32", 4, 1)
    assert f"on {name.lower()}: at 40% of its published peak ({bf16} TFLOP/s in bf16" in machine.described
    assert machine.ranks_per_memory(units) == 1


def test_every_name_that_a_refusal_lists_is_accepted() -> None:
    with pytest.raises(ConfigError, match="--on 'x' is not a known machine") as caught:
        named_machine("x")
    names = caught.value.remedy.removeprefix("Known are ").rstrip(".").split(", ")
    assert len(names) == len(DEVICES) + 1
    assert all(named_machine(name.replace("N", "2")).units == 2 for name in names)


@pytest.mark.parametrize("name", ["h10x8", "h100", "h100x0", "cpu:0", "cpu", "cpu:1e3", "", "h100x8x2"])
def test_what_is_no_machine_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a known machine"):
        named_machine(name)


def test_a_misspelt_name_is_corrected() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean h100x8\?"):
        named_machine("h10x8")


def test_cores_are_as_fast_as_those_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {("cpu", 8): 2e9}
    monkeypatch.setattr(machines, "flops_per_second", lambda shape, dtype, samples, *where: speeds[where])
    machine = named_machine("cpu:64")
    assert machine.flops_per_second(SHAPE, "fp32", 4, ranks=8) == 64 * 2e9
    assert (machine.memory_bytes, machine.ranks_per_memory(8)) == (64 * machines.CORE_BYTES, 8)
    assert "64 cores like this machine's" in machine.described


def test_ranks_are_one_per_gpu_unless_asked_for_and_no_more_than_there_are() -> None:
    assert [named_ranks(named_machine(name), None) for name in ("h100x8", "cpu:64")] == [8, 1]
    assert named_ranks(named_machine("h100x8"), 4) == 4
    with pytest.raises(ConfigError, match=r"--ranks 9 is more than the 8 GPUs of h100x8. Use --ranks 8"):
        named_ranks(named_machine("h100x8"), 9)


def test_this_machine_is_timed_and_has_the_memory_that_is_free() -> None:
    here = this_machine()
    assert here.here and here.described == "" and here.device is None
    assert here.units >= 1 and here.memory_bytes > 100_000_000


def test_models_that_were_timed_together_are_not_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_turns(shapes: Sequence[GPTShape], *arguments: Any) -> list[float]:
        assert arguments == ("fp32", 8, "cpu", 2, 1.5)
        return [1e9, 3e9]

    monkeypatch.setattr(machines, "speeds_in_turns", in_turns)
    monkeypatch.setattr(machines, "flops_per_second", lambda *arguments: 5e9)
    wide = replace(SHAPE, width=16)
    machine = Machine("", 4, 10**10).timed([SHAPE, wide], "fp32", 8, 2, 1.5)
    assert machine.flops_per_second(replace(wide, dropout=0.1), "fp32", 1, ranks=2) == 4 * 3e9
    assert machine.flops_per_second(SHAPE, "mixed", 1, ranks=2) == 4 * 5e9, "another dtype"
    assert machine.flops_per_second(replace(SHAPE, layers=9), "fp32", 1, ranks=2) == 4 * 5e9
    published = named_machine("h100x1")
    assert published.timed([SHAPE], "fp32", 8, 1, 1.5) is published


def test_a_gpu_here_is_timed_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        machines, "flops_per_second", lambda shape, dtype, samples, device, ranks: {("cuda", 1): 5e12}[device, ranks]
    )
    assert Machine("", 4, 80 * 10**9, gpu=True).flops_per_second(SHAPE, "bf16", 4, ranks=2) == 2 * 5e12
