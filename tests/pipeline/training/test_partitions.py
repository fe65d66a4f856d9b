"""A route in one process; between ranks it is what Muon travels on: tests/distributed/test_muon.py."""

from __future__ import annotations

import torch

from pipeline.training.partitions import Route


def test_runs_arrive_where_the_route_says() -> None:
    source, target = torch.arange(10.0), torch.full((8,), -1.0)
    Route(sent=[[(6, 3), (0, 2)]], received=[[(1, 3), (5, 2)]]).carry(source, target)
    assert target.tolist() == [-1, 6, 7, 8, -1, 0, 1, -1]


def test_nothing_may_travel() -> None:
    target = torch.ones(2)
    Route(sent=[[]], received=[[]]).carry(torch.arange(3.0), target)
    assert target.tolist() == [1, 1]
