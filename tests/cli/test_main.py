"""What every command promises: help with an example, quick start, one-line refusals with the contract's exit code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.program import _show_bug, app

TINY_SHAKESPEARE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"


def tree(command, name="folio"):
    """The program's groups and commands by what an operator types."""
    children = getattr(command, "commands", {})
    return {name: command} | {
        path: descendant for key, child in children.items() for path, descendant in tree(child, f"{name} {key}").items()
    }


TREE = tree(typer.main.get_command(app))
GROUPS = [name for name, command in TREE.items() if hasattr(command, "commands")]
COMMANDS = {name: command for name, command in TREE.items() if name not in GROUPS}


def folio(*arguments, **environment):
    return subprocess.run(
        [Path(sys.executable).with_name("folio"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


def test_the_commands_are_those_of_the_contract():
    expected = {
        "init",
        "run",
        "plan",
        "status",
        "verify",
        "sample",
        "export",
        "import",
        "ablate",
        "lr-range",
        "lecture",
    }
    expected |= {"data show", "checkpoint list", "checkpoint verify", "checkpoint convert", "checkpoint prune"}
    expected |= {"target", "corpus", "tokenizer", "shards", "pretrain", "scratch", "finetune", "report"}
    assert {name.removeprefix("folio ") for name in COMMANDS} == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_line_and_an_example(name):
    text = COMMANDS[name].help
    assert text.splitlines()[0].endswith(".")
    assert f"Example: {name}" in text


def test_the_groups_are_those_of_the_contract():
    assert GROUPS == ["folio", "folio data", "folio checkpoint"]


@pytest.mark.parametrize("group", GROUPS)
def test_help_at_80_columns_shows_the_whole_line_of_every_command(group):
    said = folio(*group.split()[1:], "--help", COLUMNS="80").stdout.splitlines()
    listed = said[said.index("Commands:") + 1 :]
    expected = [
        [name.removeprefix(f"{group} "), command.help.splitlines()[0]]
        for name, command in TREE.items()
        if name.rpartition(" ")[0] == group
    ]
    assert len(expected) >= 1
    assert [line.split(maxsplit=1) for line in listed] == expected
    assert max(map(len, said)) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_at_80_columns_begins_with_its_whole_line(name):
    said = CliRunner().invoke(app, [*name.split()[1:], "--help"], prog_name="folio", terminal_width=80).stdout
    usage, first_line, *_ = [block.strip() for block in said.split("\n\n")]
    assert usage.startswith(f"Usage: {name} ")
    assert first_line == COMMANDS[name].help.splitlines()[0]
    assert max(map(len, said.splitlines())) <= 80


def test_help_loads_nothing_heavy():
    heavy = ("torch", "datasets", "deepspeed", "pyarrow", "transformers", "pydantic", "yaml")
    script = f"import sys; import cli.program; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["run", "no-such.yaml"], 2, "no-such.yaml cannot be read"),
        (["run", "configs/demo.yaml", "--set", "pretrain.tokenz=1"], 2, "did you mean 'tokens'"),
        (["run", "configs/demo.yaml", "--until", "reprot"], 2, "'reprot' is not a stage"),
        (["report", "configs/demo.yaml"], 3, "finetune, which are not finished"),
        (["verify", "configs/demo.yaml"], 3, "No stage of configs/demo.yaml is finished"),
        (["export", "configs", "out"], 3, "configs holds no weights"),
        (["import", "configs", "out"], 3, "configs/config.json cannot be read"),
        (["import", "configs", "configs"], 2, "configs is there already"),
    ],
)
def test_refusals_are_one_line_with_the_contracts_exit_code(arguments, code, expected, tmp_path):
    done = folio(*arguments, FOLIO_STORE=str(tmp_path / "store"))
    assert (done.returncode, done.stdout) == (code, "")
    lines = done.stderr.splitlines()
    assert expected in lines[-1]
    # Before it may stand which texts take the place of those that are not on this machine.
    assert [line for line in lines if line.startswith("folio: ")] == [lines[-1]]
    assert all("Text of the installation stands in" in line for line in lines[:-1])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run"], "Missing argument 'CONFIG'"),
        (["no-such-command"], "No such command 'no-such-command'"),
        (["run", "configs/demo.yaml", "--ranks", "0"], "Invalid value for '--ranks'"),
    ],
)
def test_usage_errors_leave_with_2_and_say_what_is_wrong(arguments, expected):
    done = folio(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr


@pytest.mark.parametrize("arguments", [["run", "no-such.yaml", "--debug"], ["--debug", "run", "no-such.yaml"]])
def test_debug_shows_the_traceback_above_the_same_line(arguments):
    done = folio(*arguments)
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("folio: no-such.yaml cannot be read")
    assert lines[-2] == "pipeline.errors.ConfigError: " + lines[-1].removeprefix("folio: ")


def test_the_traceback_of_a_bug_shows_no_secret(capsys):
    try:
        raise OSError("https://me:canary@h/a?token=canary does not answer")
    except OSError as error:
        _show_bug(type(error), error, error.__traceback__)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "Traceback (most recent call last):"
    assert said[-1] == "OSError: https://h/a?token=*** does not answer"


def test_an_absent_target_without_network_is_refused_in_seconds(tmp_path):
    started = time.monotonic()
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    folders = dict.fromkeys(("FOLIO_DATA", "FOLIO_STORE", "XDG_CACHE_HOME", "HOME"), str(tmp_path))
    config = tmp_path / "run.yaml"
    config.write_text("target: {name: tiny-shakespeare}")
    done = folio("target", str(config), **nowhere, **folders)
    assert time.monotonic() - started < 30
    assert (done.returncode, done.stdout) == (5, "")
    [line] = done.stderr.splitlines()
    # Where it was looked for, where it was asked for, and what to do.
    assert line.startswith(f"folio: Tiny Shakespeare is not in FOLIO_DATA, not in {tmp_path / 'folio'}")
    assert TINY_SHAKESPEARE in line
    assert "Set FOLIO_DATA to a folder with tinyshakespeare/input.txt" in line
    assert not list(tmp_path.rglob("*.txt"))
    assert not list(tmp_path.rglob("manifest.json"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_stop_signal_between_stages_is_one_line_with_its_exit_code(number, code):
    script = f"import os, cli.program as p; p.app = lambda args: os.kill(os.getpid(), {int(number)}); p.run_program()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code
    assert done.stderr == (f"folio: Stopped by {number.name}; finished stages are kept. The same command goes on.\n")
