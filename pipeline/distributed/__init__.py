"""Processes and ranks: how a training job reaches every rank, and what the operator is told when it ends.

A job (`job.py`) is a file that every rank reads. `launch.py` starts ranks here or on the hosts of a hostfile, or uses
those that torchrun, deepspeed or srun started; each rank begins in `start_rank.py`, and in `worker.py` meets the
others (`rendezvous.py`) and calls the job's entry point. Nothing here knows a model or a loss. May be imported here:
`graph`, `config`, `execution`, `runtime` and `errors`. Start with `launch.py` and `worker.py`; `exit_status.py` is
where a run ends.
"""
