"""Where units of work run: a stage hands over a function and its units, and gets the results in their order.

`worker_pool.py` is the only module: in this process, or in a pool of processes on this machine. Other executors, such
as a cluster's, belong here, and no stage has to know. Only `runtime` and `errors` may be imported. Training is not
spread here: its ranks talk to each other at every step, and `distributed` starts them.
"""
