"""Where the console script `folio` begins: what has to be settled before the first import that takes time.

Nothing but Python's own modules is imported at the top, and only those that every process has loaded already or that
take a millisecond: an interrupt before `main` has taken over ends in Python's own traceback.
"""

from __future__ import annotations

import os
import signal
import sys

# What Interrupted and Preempted of pipeline/errors.py leave with; importing them would take too long here.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}


def main() -> None:
    """Run the program; the process ends with the exit code of what happened."""
    for number in EXIT_CODES:
        signal.signal(number, leave_at_once)
    forget_current_folder()
    from cli.program import run_program

    run_program()


def leave_at_once(number: int, frame: object) -> None:
    """Say in one line which signal came, and end the process. A signal handler for when nothing is under way."""
    stopped = signal.Signals(number)
    # Past Python's buffers: the code that was interrupted may be writing to them.
    os.write(2, f"folio: Stopped by {stopped.name}; finished stages are kept. The same command goes on.\n".encode())
    os._exit(EXIT_CODES[stopped])


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
