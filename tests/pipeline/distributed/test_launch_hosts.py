"""What is checked before DeepSpeed's launcher starts, and whose output is shown; training over two hosts is in
`tests/distributed/test_hosts.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config.schema import LaunchSection
from pipeline.distributed.hostfile import Host
from pipeline.distributed.job import Job
from pipeline.distributed.launch_hosts import _relay_output, _start_launcher, check_hosts, refuse_special_characters
from pipeline.errors import ConfigError, EnvironmentFault

# Reaches only the hosts a and b, and runs the command here. Its arguments are -o OPTION -o OPTION HOST COMMAND.
SSH = """#!/bin/sh
case "$5" in a|b) exec sh -c "$6";; esac
echo "warning: some key" >&2
echo "ssh: Could not resolve hostname $5" >&2
exit 255
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, with an ssh and a pdsh."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name, text in {"ssh": SSH, "pdsh": "#!/bin/sh\n", "sh": '#!/bin/sh\nexec /bin/sh "$@"\n'}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_hosts_that_see_the_artifact_pass(tools: Path, tmp_path: Path) -> None:
    check_hosts([Host("a", 1), Host("b", 2)], tmp_path)


def test_every_host_that_does_not_is_named_with_the_reason(tools: Path, tmp_path: Path) -> None:
    path = tmp_path / "absent"
    with pytest.raises(EnvironmentFault) as refused:
        check_hosts([Host("a", 1), Host("nowhere", 1)], path)
    assert refused.value.message == (
        f"a does not see {path}; nowhere is not reachable by ssh (ssh: Could not resolve hostname nowhere)."
    )


@pytest.mark.parametrize("tool", ["ssh", "pdsh"])
def test_missing_tool_is_named(tools: Path, tmp_path: Path, tool: str) -> None:
    (tools / tool).unlink()
    with pytest.raises(EnvironmentFault, match=f"{tool} is not installed"):
        check_hosts([Host("a", 1)], tmp_path)


@pytest.mark.parametrize("path", ["/a b", "/a;b", "/a$b", "/a'b", "/a*", "/ä(1)"])
def test_path_that_a_remote_shell_would_interpret_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="a remote shell would interpret"):
        refuse_special_characters("/plain", path)


def test_plain_paths_pass() -> None:
    refuse_special_characters("/home/user-1/store_2/pretrain-0123.d/job.json", "/a+b,c:d=e@f%g")


def test_only_the_first_hosts_lines_are_shown_and_all_are_kept(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    script = "import sys; sys.stderr.write('a: step 1\\nb: step 1\\npdsh: hello\\na: step 2\\n')"
    (tmp_path / "log").write_bytes(b"stdout\n")
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as launcher:
        _relay_output(launcher, Host("a", 1), tmp_path / "log")
    assert capfdbinary.readouterr().err == b"step 1\nstep 2\n"
    assert (tmp_path / "log").read_bytes() == b"stdout\na: step 1\nb: step 1\npdsh: hello\na: step 2\n"
    assert launcher.returncode == 0


def test_no_credential_of_the_environment_stands_on_the_command_line_of_a_host(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tools / "pdsh").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\n')
    for name in ("MLFLOW_TRACKING_PASSWORD", "HF_TOKEN", "COMET_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setenv("MASTER_ADDR", "a")  # or the launcher asks the host over ssh
    (tmp_path / "hosts").write_text("a slots=1\n")
    job = Job("pretrain", {}, {}, {}, str(tmp_path / "artifact"), LaunchSection())
    job.write()
    launcher = _start_launcher(job, tmp_path / "hosts")
    said = launcher.communicate(timeout=120)[1]
    assert launcher.returncode == 0, said
    arguments = (tmp_path / "arguments").read_text()
    assert "export PYTHONSAFEPATH=1" in arguments
    assert "canary" not in arguments + (job.logs / "launcher.log").read_text()
