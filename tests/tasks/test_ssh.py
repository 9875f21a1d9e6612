"""SSHTask against a real sshd: keys of hosts and users, quoting, time limits and cancels that reach the other side."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from stabilize_nb import Engine, SSHTask
from stabilize_nb.models.status import WorkflowStatus
from tests.tasks.commands import alive, begun, carried_out, engine_with, wait_for
from tests.tasks.sshd import Sshd

if TYPE_CHECKING:
    from collections.abc import Iterator

S = WorkflowStatus
NASTY = "a  b$(echo X)`echo Y`'\";*\n echo Z \\"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with engine_with(ssh=SSHTask) as made:
        yield made


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def mark() -> str:
    """A word that the processes of one test have in their command lines."""
    return f"mark-{uuid.uuid4().hex}"


def test_outputs_of_a_command(engine, there):
    """Both streams and the code, and where it was."""
    done = carried_out(engine, "ssh", **there.context, command="echo one; echo two >&2; cat")

    assert done.status is S.SUCCEEDED
    assert done.outputs == {
        "stdout": "one", "stderr": "two", "exit_code": 0, "host": "127.0.0.1", "user": there.context["user"],
    }  # fmt: skip


@pytest.mark.parametrize("command", ["printf '%s|' {v} \"x {v}\"", ["printf", "%s|", "{v}", "x {v}"]])
def test_command_is_quoted_once(engine, there, command):
    """Text is the shell's, a list is arguments, and values are values."""
    done = carried_out(engine, "ssh", **there.context, command=command, v=NASTY)

    assert done.outputs["stdout"] == f"{NASTY}|x {NASTY}|"


def test_code_that_is_not_0_fails_the_stage(engine, there):
    """It says where and how."""
    done = carried_out(engine, "ssh", **there.context, command="echo some; echo bad >&2; exit 3")

    assert done.context["error"] == (
        f"stage 'it': the command on [127.0.0.1]:{there.port} ended with code 3: bad"
    )  # fmt: skip
    assert done.context["stdout"] == "some"


def test_prints_come_while_it_runs_and_are_large(engine, there, tmp_path):
    """A line is in the log before the command ends; more than a window of the channel does not block."""
    command = (
        "echo first; while [ ! -e {go} ]; do sleep 0.02; done; head -c 5000000 /dev/zero | tr '\\0' x | tee /dev/stderr"
    )
    run = begun(engine, "ssh", **there.context, command=command, go=str(tmp_path / "go"))

    wait_for(lambda: run.log() == "it: first\n")
    (tmp_path / "go").touch()
    assert run.wait(20) is S.SUCCEEDED
    assert len(run.outputs["it"]["stdout"]) == len("first\n") + 5_000_000
    assert len(run.outputs["it"]["stderr"]) == 5_000_000


def test_host_that_is_not_known_is_refused(engine, there, tmp_path):
    """Nothing is run, and the error says how the key is accepted."""
    (tmp_path / "none").touch()
    context = {**there.context, "known_hosts": str(tmp_path / "none"), "command": f"touch {tmp_path}/ran"}
    done = carried_out(engine, "ssh", **context)

    assert done.status is S.TERMINAL
    assert f"host [127.0.0.1]:{there.port} is not known: its key is ssh-ed25519 SHA256:" in done.context["error"]
    assert f"ssh-keyscan -p {there.port} 127.0.0.1 >> {tmp_path}/none" in done.context["error"]
    assert not (tmp_path / "ran").exists()

    assert carried_out(engine, "ssh", **context, strict_host_key=False).status is S.SUCCEEDED


@pytest.mark.parametrize("strict", [True, False])
def test_host_key_that_has_changed_is_refused(engine, there, tmp_path, strict):
    """Whatever the stage says."""
    (tmp_path / "known").write_text(there.line_of(there.folder / "other_key"))
    context = {**there.context, "known_hosts": str(tmp_path / "known"), "command": f"touch {tmp_path}/ran"}
    done = carried_out(engine, "ssh", **context, strict_host_key=strict)

    assert "is not the one that" in done.context["error"]
    assert f"ssh-keygen -f {tmp_path}/known -R '[127.0.0.1]:{there.port}'" in done.context["error"]
    assert not (tmp_path / "ran").exists()


def test_user_key_that_is_not_let_in(engine, there):
    """It says who and by which key."""
    key = str(there.folder / "other_key")
    done = carried_out(engine, "ssh", **{**there.context, "key_file": key}, command="true")

    assert f"does not let in {there.context['user']!r} by the key {key}" in done.context["error"]


def test_host_that_does_not_answer(engine, there):
    """One sentence, and what follows may go on."""
    done = carried_out(engine, "ssh", **{**there.context, "port": 1}, command="true", continue_on_failure=True)

    assert done.status is S.FAILED_CONTINUE
    assert "host [127.0.0.1]:1 cannot be reached" in done.context["error"]


TREE = "echo begun; (trap '' TERM; sleep 300; : {mark})& sh -c 'sleep 300; : {mark}' & sleep 300; : {mark}"


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_tree_on_the_other_side_is_ended(engine, there, mark, how):
    """With children, also those that ignore TERM; what was printed is kept."""
    command = TREE.format(mark=mark)
    run = begun(engine, "ssh", **there.context, command=command, **({"timeout": 1} if how == "timeout" else {}))
    wait_for(lambda: "begun" in run.log())
    assert alive(mark)
    if how == "cancel":
        run.cancel()
    run.wait(20)

    wait_for(lambda: not alive(mark))
    if how == "timeout":
        done = run.workflow.stages[0]
        assert "timed out on [127.0.0.1]" in done.context["error"]
        assert done.context["stdout"] == "begun"


def test_what_a_command_leaves_running_is_ended_and_hangs_nothing(engine, there, mark):
    """As here."""
    done = carried_out(engine, "ssh", **there.context, command=f"sh -c 'sleep 300; : {mark}' & echo done")

    assert done.outputs["stdout"] == "done"
    wait_for(lambda: not alive(mark))


ENGINE = """
import json, sys
from stabilize_nb import Engine, SSHTask, TaskRegistry
from tests.makers import stage, workflow
registry = TaskRegistry()
registry.register("ssh", SSHTask)
Engine(":memory:", registry=registry).start(workflow(stage("it", task="ssh", context=json.loads(sys.argv[1])))).wait(60)
"""


def test_command_of_a_killed_engine_is_ended(there, mark):
    """The connection is lost, and the other side ends what it ran."""
    import json

    command = f"sleep 300; : {mark}"
    with subprocess.Popen([sys.executable, "-c", ENGINE, json.dumps({**there.context, "command": command})]) as process:
        wait_for(lambda: [each for each in alive(mark) if each.pid != process.pid])
        process.send_signal(signal.SIGKILL)

    wait_for(lambda: not alive(mark))


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ({"command": "true"}, "the name or the address of a host is expected"),
        ({"host": "-oProxyCommand=touch x", "command": "true"}, "does not begin with '-'"),
        ({"host": "a b", "command": "true"}, "the name or the address of a host"),
        ({"host": "a\nb", "command": "true"}, "one line of text is expected"),
        ({"host": "a", "user": "-l", "command": "true"}, "does not begin with '-'"),
        ({"host": "a", "user": "x y", "command": "true"}, "the name of a user is expected"),
        ({"host": "a", "port": 70_000, "command": "true"}, "a whole number from 1 to 65535"),
        ({"host": "a"}, "No 'command' specified"),
        ({"host": "a", "command": "true", "known_hosts": "/there/is/none"}, "there is no file /there/is/none"),
    ],
)
def test_wrong_key_fails_the_stage_with_a_sentence(engine, context, said):
    """Nothing is looked up or reached."""
    done = carried_out(engine, "ssh", **context)

    assert done.status is S.TERMINAL
    assert said in done.context["error"]


def test_missing_extra_is_one_sentence(engine, there, monkeypatch):
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "paramiko", None)
    done = carried_out(engine, "ssh", **there.context, command="true")

    assert done.context["error"].endswith("pip install 'stabilize-nb[tasks]'")
