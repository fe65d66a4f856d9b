"""What every command promises: help with an example, quick start, one-line refusals with the contract's exit code."""

import os
import pickle
import subprocess
import sys
import time

import pytest
import typer

from cli.main import app
from pipeline import errors

group = typer.main.get_command(app)


def commands(command, name="folio"):
    inner = getattr(command, "commands", None)
    if inner is None:
        return {name: command}
    return {path: one for key, child in inner.items() for path, one in commands(child, f"{name} {key}").items()}


COMMANDS = commands(group)


def folio(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


def test_the_commands_are_those_of_the_contract():
    expected = {"run", "plan", "status", "verify", "sample", "export", "import", "ablate", "lr-range", "lecture"}
    expected |= {"data show", "checkpoint list", "checkpoint verify", "checkpoint convert"}
    expected |= {"target", "corpus", "tokenizer", "shards", "pretrain", "scratch", "finetune", "report"}
    assert {name.removeprefix("folio ") for name in COMMANDS} == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_line_and_an_example(name):
    text = COMMANDS[name].help
    assert text.splitlines()[0].endswith(".")
    assert f"Example: {name}" in text


def test_help_loads_nothing_heavy():
    heavy = ("torch", "datasets", "deepspeed", "pyarrow", "transformers")
    script = f"import sys; import cli.main; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def test_every_error_class_has_its_own_exit_code():
    codes = {kind.__name__: kind.exit_code for kind in errors.BY_EXIT_CODE.values()}
    assert codes == {
        "ConfigError": 2,
        "DataError": 3,
        "ResumeError": 4,
        "EnvironmentFault": 5,
        "RankLost": 6,
        "Diverged": 7,
        "Preempted": 75,
        "Interrupted": 130,
    }


def test_an_error_survives_the_way_out_of_a_worker_process():
    error = pickle.loads(pickle.dumps(errors.DataError("shard x is damaged.", remedy="Restore it.")))
    assert (type(error), str(error)) == (errors.DataError, "shard x is damaged. Restore it.")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["run", "no-such.yaml"], 2, "no-such.yaml cannot be read"),
        (["run", "configs/demo.yaml", "--set", "pretrain.tokenz=1"], 2, "did you mean 'tokens'"),
        (["run", "configs/demo.yaml", "--until", "reprot"], 2, "'reprot' is no stage"),
        (["report", "configs/demo.yaml"], 3, "which is not finished"),
        (["verify", "configs/demo.yaml"], 3, "No stage of configs/demo.yaml is finished"),
        (["export", "configs", "out"], 3, "configs holds no weights"),
        (["import", "configs", "out"], 3, "configs/config.json cannot be read"),
        (["import", "configs", "configs"], 2, "configs is there already"),
    ],
)
def test_refusals_are_one_line_with_the_contracts_exit_code(arguments, code, expected, tmp_path):
    done = folio(*arguments, FOLIO_STORE=str(tmp_path / "store"))
    assert (done.returncode, done.stdout) == (code, "")
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_usage_errors_leave_with_2():
    assert folio("run").returncode == 2
    assert folio("no-such-command").returncode == 2


def test_debug_shows_the_traceback():
    assert "Traceback" in folio("run", "no-such.yaml", "--debug").stderr


def test_an_absent_target_without_network_is_refused_in_seconds(tmp_path):
    started = time.monotonic()
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    folders = dict.fromkeys(("FOLIO_DATA", "FOLIO_STORE", "XDG_CACHE_HOME", "HOME"), str(tmp_path))
    config = tmp_path / "run.yaml"
    config.write_text("target: {name: tiny-shakespeare}")
    done = folio("target", str(config), **nowhere, **folders)
    assert done.returncode in (2, 5)
    assert "FOLIO_DATA" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert time.monotonic() - started < 30
