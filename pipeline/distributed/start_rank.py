"""One rank: `python -m pipeline.distributed.start_rank JOB.json`, started by Folio or by DeepSpeed's launcher.

It settles what must hold while torch is imported, which takes seconds: where the output goes, what a stop signal
does, and that whatever ends the process leaves a note.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from pipeline.distributed.failures import Failure, reserve_note
from pipeline.distributed.rank_log import LOGS, OPERATOR, log_path, redirect_output
from pipeline.distributed.signals import PARENT
from pipeline.errors import EnvironmentFault
from pipeline.runtime.processes import die_with_parent
from pipeline.runtime.stop_signals import STOP_SIGNALS


def main() -> None:
    """Run the rank to its end; the process ends here, with the exit code of what happened."""
    # Until training listens a stop signal simply ends the process, and the launcher knows why. Python's own handler of
    # SIGINT would leave a traceback instead. Folio's launcher had the signals wait for this.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    # DeepSpeed's launcher sets no PARENT: its child on this host is our parent then.
    die_with_parent(int(os.environ.get(PARENT) or os.getppid()))
    job_file, rank = Path(sys.argv[1]), int(os.environ.get("RANK", "0"))
    logs = job_file.parent / LOGS
    operator = int(os.environ.get(OPERATOR) or os.dup(sys.stderr.fileno()))
    redirect_output(logs, rank)
    reserve_note(logs, rank)
    # The process ends in this hook, before Python's own exit, which would join threads that wait for a lost peer.
    sys.excepthook = lambda kind, error, trace: exit_with_note(error, logs, rank)
    try:
        from pipeline.distributed import worker
    except Exception as error:
        raise EnvironmentFault(
            f"Rank {rank} on {socket.gethostname()} could not load its program: {type(error).__name__}: {error}.",
            remedy=f"Repair the installation there; the traceback is in {log_path(logs, rank)}.",
        ) from error
    # Progress is rank 0's to show.
    if rank == 0:
        os.dup2(operator, sys.stderr.fileno())
    os.close(operator)
    worker.run_rank(job_file)


def exit_with_note(error: BaseException, logs: Path, rank: int) -> NoReturn:
    """Leave a note about the failure and end now: with a peer gone, an orderly end would wait for it."""
    failure = Failure.of(error, rank)
    failure.write(logs)
    with suppress(OSError):  # the disk may be what failed
        print(failure.traceback, flush=True)
    os._exit(failure.exit_code)


if __name__ == "__main__":
    main()
