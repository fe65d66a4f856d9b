"""The program `folio`: results on stdout, messages and progress on stderr, one exit code per class of error.

Nothing heavy is imported before a command runs, so that `folio --help` answers at once.
"""

from __future__ import annotations

import signal
import sys
import traceback
from types import FrameType, TracebackType

import typer

from cli import checkpoint, data, experiments, models, new_config, runs
from cli.main import leave_at_once
from pipeline.addresses import without_secrets_in
from pipeline.errors import FolioError, Interrupted, Preempted

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
    # Schedulers send SIGTERM, which Python does not turn into an exception by itself.
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
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
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as Python does, without the secrets of addresses that libraries quote in it."""
    text = "".join(traceback.format_exception(kind, error, trace))
    print(without_secrets_in(text), end="", file=sys.stderr)


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave: finished stages are kept. Training has its own handler, which saves first."""
    # Libraries try imports and swallow whatever goes wrong in them, an order to stop included.
    if _importing(frame):
        leave_at_once(number, frame)
    error_class = Interrupted if number == signal.SIGINT else Preempted
    raise error_class(
        f"Stopped by {signal.Signals(number).name}; finished stages are kept.", remedy="The same command goes on."
    )


def _importing(frame: FrameType | None) -> bool:
    """Whether an import is under way in a frame or in one that called it."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
