"""Where the console script `folio` begins: what has to be settled before the first import that takes time.

Nothing but Python's own modules is imported at the top, and only those that every process has loaded already or that
take a millisecond: an interrupt before `main` has taken over ends in Python's own traceback.
"""

from __future__ import annotations

import os
import signal
import sys

# What Interrupted and Preempted of pipeline/errors.py leave with, for the signals of pipeline/runtime/stop_signals.py;
# importing them would take too long here.
PREEMPTED, INTERRUPTED = 75, 130
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)


def main() -> None:
    """Run the program; the process ends with the exit code of what happened."""
    for number in STOP_SIGNALS:
        if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN):  # as `nohup` wants it
            signal.signal(number, leave_at_once)
    forget_current_folder()
    from cli.program import run_program

    run_program()


def leave_at_once(number: int, frame: object) -> None:
    """Say in one line which signal came, and end the process. A signal handler for when nothing is under way."""
    # Past Python's buffers: the code that was interrupted may be writing to them.
    os.write(2, f"folio: {what_stopped(number)}; finished stages are kept. The same command goes on.\n".encode())
    os._exit(exit_code_of(number))


def what_stopped(number: int) -> str:
    """The beginning of the line that says why a run ended."""
    return "Its minutes are over" if number == signal.SIGALRM else f"Stopped by {signal.Signals(number).name}"


def exit_code_of(number: int) -> int:
    """What a process that a stop signal ends leaves with."""
    return INTERRUPTED if number == signal.SIGINT else PREEMPTED


def forget_current_folder() -> None:
    """Import nothing from the current folder from here on, and let no process that is started from here do so.

    An empty entry of PYTHONPATH, or ".", means the current folder, and is taken out unless Folio itself lies there.
    Other relative entries were named on purpose; they become absolute, for processes that start in another folder.
    """
    os.environ["PYTHONSAFEPATH"] = "1"  # from Python 3.11 on `-c` and `-m` do not look there either
    # Python's first place is the script's own folder, such as ~/bin, where learners keep more than programs.
    if sys.path[:1] == [os.path.dirname(os.path.realpath(sys.argv[0]))]:
        del sys.path[0]
    if not os.environ.get("PYTHONPATH"):
        return
    own_root, kept = os.path.dirname(os.path.dirname(os.path.abspath(__file__))), []
    for entry in os.environ["PYTHONPATH"].split(os.pathsep):
        try:
            folder = os.path.abspath(entry)
        except OSError:  # the current folder was deleted: nothing can be in it
            continue
        if os.path.normpath(entry) != "." or folder == own_root:
            kept.append(folder)
        elif folder in sys.path:
            sys.path.remove(folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(kept)
