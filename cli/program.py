"""The program `folio`: results on stdout, messages and progress on stderr, one exit code per class of error.

Nothing heavy is imported before a command runs, so that `folio --help` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from types import FrameType, TracebackType

import typer

from cli import checkpoint, data, experiments, models, new_config, runs
from cli.main import exit_code_of, leave_at_once, what_stopped
from pipeline.addresses import without_secrets_in
from pipeline.errors import BY_EXIT_CODE, FolioError
from pipeline.runtime.stop_signals import DUPLICATE_SECONDS, handle_stop_signals

app = typer.Typer(
    name="folio",
    help="How much does pretraining help on this target? From raw text to a defensible answer.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # typer's own tracebacks print every local variable, tensors included
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
new_config.add_to(app)
runs.add_to(app)
models.add_to(app)
experiments.add_to(app)
app.add_typer(data.app, name="data")
app.add_typer(checkpoint.app, name="checkpoint")


def run_program() -> None:
    """Do the command of this process's arguments; every refusal is one line and the exit code of its kind."""
    # Python turns none of them but SIGINT into an exception by itself.
    handlers = handle_stop_signals(_Leave())
    # Not an option of typer's: it may stand anywhere in the line, before or after the command.
    debug = "--debug" in sys.argv
    sys.excepthook = _show_bug
    try:
        app(args=[argument for argument in sys.argv[1:] if argument != "--debug"])
    except FolioError as error:
        if debug:
            _show_bug(type(error), error, error.__traceback__)
        print(f"folio: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    finally:
        # Python is taken down from here on, and has no place any more that an exception could go to.
        for number in handlers:
            signal.signal(number, signal.SIG_DFL)


def _show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as Python does, without the secrets of addresses that libraries quote in it."""
    text = "".join(traceback.format_exception(kind, error, trace))
    print(without_secrets_in(text), end="", file=sys.stderr)


class _Leave:
    """Handles stop signals: finished stages are kept. Training has its own handler, which saves first.

    The first one raises what ends the command; a second one ends the process, whatever still holds the first one up.
    """

    def __init__(self) -> None:
        self._since: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        # Libraries try imports and swallow whatever goes wrong in them, an order to stop included.
        if _importing(frame):
            leave_at_once(number, frame)
        now = time.monotonic()
        if self._since is None:
            self._since = now
            error_class = BY_EXIT_CODE[exit_code_of(number)]
            raise error_class(f"{what_stopped(number)}; finished stages are kept.", remedy="The same command goes on.")
        if now - self._since > DUPLICATE_SECONDS:
            os._exit(exit_code_of(number))


def _importing(frame: FrameType | None) -> bool:
    """Whether an import is under way in a frame or in one that called it."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
