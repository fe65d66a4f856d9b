"""Two ranks, each a process, agree on Python values."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

RANK = """
import json
from pipeline.distributed import rendezvous
from pipeline.distributed.collectives import all_gather, broadcast
from pipeline.distributed.world import World
world = World.from_environment()
rendezvous.join(world, startup_seconds=60)
own = {"rank": world.rank, "text": "x" * world.rank}
print(json.dumps([broadcast(own), all_gather(own)]))
rendezvous.leave()
"""


def test_every_rank_hears_rank_0_and_gathers_all_by_rank() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment = {**os.environ, **world, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    first, second = {"rank": 0, "text": ""}, {"rank": 1, "text": "x"}
    for rank in ranks:
        assert json.loads(rank.communicate(timeout=120)[0]) == [first, [first, second]]
