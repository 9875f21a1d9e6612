"""ShellTask: keys and outputs, values that stay values, processes that are ended, and prints that come at once."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING

import psutil
import pytest

from stabilize_nb import Engine, ShellTask
from stabilize_nb.errors import ConfigError, TaskNotFoundError
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.tasks.warden import WARDEN
from tests.makers import stage, workflow
from tests.tasks.commands import alive, begun, carried_out, engine_with, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

S = WorkflowStatus


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with engine_with(shell=ShellTask) as made:
        yield made


@pytest.fixture
def mark() -> str:
    """A word that the processes of one test have in their command lines."""
    return f"mark-{uuid.uuid4().hex}"


def test_outputs_of_a_command(engine):
    """Both streams, stripped, and the code."""
    done = carried_out(engine, "shell", command="echo one; echo two >&2")

    assert done.status is S.SUCCEEDED
    assert done.outputs == {"stdout": "one", "stderr": "two", "returncode": 0, "truncated": False}


def test_list_runs_without_a_shell(engine):
    """Each element is one argument, as it is."""
    done = carried_out(engine, "shell", command=["printf", "%s|", "a b", "$HOME", "{who}"], who="it's; me")

    assert done.outputs["stdout"] == "a b|$HOME|it's; me|"


def test_values_and_stdin_and_folder_and_environment(engine, tmp_path):
    """`{key}` is one word whatever it holds; unknown names and names of options are left alone."""
    done = carried_out(
        engine, "shell", command='cat; pwd; echo "$A" {name} {unknown} {timeout}', stdin="fed\n", cwd=str(tmp_path),
        env={"A": "b c"}, name="x  y", timeout=9,
    )  # fmt: skip

    assert done.outputs["stdout"] == f"fed\n{tmp_path}\nb c x  y {{unknown}} {{timeout}}"


def test_place_alone_is_filled_in_elsewhere_too(engine, tmp_path):
    """In cwd, stdin and env."""
    done = carried_out(
        engine, "shell", command="pwd; cat; echo $A", cwd="{where}", stdin="{text}", env={"A": "{rows}"},
        where=str(tmp_path), text="{rows}\n", rows=[1, 2],
    )  # fmt: skip

    assert done.outputs["stdout"] == f"{tmp_path}\n{{rows}}\n[1, 2]"


def test_outputs_of_others_are_no_options(engine):
    """A stage before this one that gives `env` or `shell` decides nothing here."""
    flow = workflow(
        stage("before", task="give"), stage("it", "before", task="shell", context={"command": "echo ${A:-none} {env}"})
    )
    engine.processor.registry.replace("give", lambda: {"env": {"A": "b"}, "shell": "/bin/none", "expected_codes": [9]})
    run = engine.start(flow)
    run.wait(10)

    assert run.outputs["it"]["stdout"] == "none {env}"


def test_task_that_nobody_registered_is_named(tmp_path):
    """Commands are not built in; the error says how they are made known."""
    with (
        Engine(tmp_path / "runs.db") as bare,
        pytest.raises(TaskNotFoundError, match=r"registry\.register\('shell', ShellTask\)"),
    ):
        begun(bare, "shell", command="true")


def test_task_with_options_of_its_own(engine):
    """They hold for every stage, and a stage cannot say otherwise."""
    engine.processor.registry.replace("fixed", ShellTask(command="echo {who}; exit 3", expected_codes=[3]))
    done = carried_out(engine, "fixed", command="touch /tmp/never", who="me")

    assert (done.status, done.outputs["stdout"]) == (S.SUCCEEDED, "me")
    with pytest.raises(ConfigError, match="ShellTask has no option 'comand'; known are binary, command"):
        ShellTask(comand="ls")


def test_environment_is_an_allow_list(engine, monkeypatch):
    """Keys of services that the engine's process has do not reach a command, unless they are named."""
    monkeypatch.setenv("SOME_API_KEY", "s3cret")
    command = 'echo "${SOME_API_KEY:-none} ${PATH:+path}"'

    assert carried_out(engine, "shell", command=command).outputs["stdout"] == "none path"
    named = carried_out(engine, "shell", command=command, inherit_env=["SOME_API_KEY"])
    assert named.outputs["stdout"] == "s3cret path"
    assert carried_out(engine, "shell", command=command, inherit_env=True).outputs["stdout"] == "s3cret path"


def test_code_that_was_not_expected_fails_the_stage(engine):
    """The error says how it ended and what it said last; what was printed is in the context."""
    done = carried_out(engine, "shell", command="echo partly; echo no such thing >&2; exit 3")

    assert done.status is S.TERMINAL
    assert done.context["error"] == "stage 'it': the command ended with code 3: no such thing"
    assert done.context["stdout"] == "partly"
    assert carried_out(engine, "shell", command="exit 3", expected_codes=[0, 3]).status is S.SUCCEEDED


def test_failure_may_be_passed_by(engine):
    """`continue_on_failure` gives the outputs to what follows."""
    done = carried_out(engine, "shell", command="echo x; kill -TERM $$", continue_on_failure=True)

    assert done.status is S.FAILED_CONTINUE
    assert done.outputs["stdout"] == "x"
    assert done.context["error"] == "stage 'it': the command was killed by SIGTERM"


def test_failure_may_be_tried_again(engine, tmp_path):
    """`restart_on_failure` runs the command again after a while."""
    command = f"test -e {tmp_path}/there || {{ touch {tmp_path}/there; exit 1; }}"

    assert carried_out(engine, "shell", command=command, restart_on_failure=True).status is S.SUCCEEDED


def test_secrets_are_masked(engine):
    """The longest first, in outputs, errors and the log, from the context and from env."""
    run = begun(
        engine, "shell", command="echo {token} {short}; echo $KEY {token} >&2; exit 1", token="abc-def",
        short="abc", env={"KEY": "k3y"}, secrets=["short", "token", "KEY"],
    )  # fmt: skip
    run.wait(10)
    done = run.workflow.stages[0]

    assert (done.context["stdout"], done.context["stderr"]) == ("*** ***", "*** ***")
    assert done.context["error"].endswith(": *** ***")
    assert run.log() == "it: *** ***\nit: *** ***\n"


def test_secret_at_the_cut_is_not_cut_in_two(engine):
    """Of a secret across the limit no part is kept."""
    command = "printf %s xxxx{token}"
    done = carried_out(engine, "shell", command=command, token="abcdefgh", secrets=["token"], max_output_size=6)

    assert (done.outputs["stdout"], done.outputs["truncated"]) == ("xxxx**", True)


def test_output_is_capped(engine):
    """The rest is read and dropped, so the command ends."""
    done = carried_out(engine, "shell", command="head -c 3000000 /dev/zero | tr '\\0' x; echo", max_output_size=1000)

    assert done.status is S.SUCCEEDED
    assert (len(done.outputs["stdout"]), done.outputs["truncated"]) == (1000, True)


def test_binary_output(engine):
    """Bytes come as base64, and not to the log."""
    run = begun(engine, "shell", command="printf '\\377\\000x'", binary=True)
    run.wait(10)

    assert base64.b64decode(run.workflow.stages[0].outputs["stdout_b64"]) == b"\xff\0x"
    assert run.log() == ""


def test_odd_bytes_are_stored(engine):
    """What is no text becomes some."""
    done = carried_out(engine, "shell", command="printf 'a\\377b\\000c\\033[31m'")

    assert done.outputs["stdout"] == "a\ufffdb\\0c\x1b[31m"


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ({}, "No 'command' specified"),
        ({"command": ["ls", 3]}, "text for a shell is expected, or a list of texts"),
        ({"command": "true", "timeout": -1}, "timeout is -1; seconds above 0 are expected"),
        ({"command": "true", "cwd": "/there/is/none"}, "there is no such folder"),
        ({"command": "true", "cwd": "-rf"}, "does not begin with '-'"),
        ({"command": "true", "env": {"A=B": "c"}}, "env has the name 'A=B'"),
        ({"command": "true", "shell": "sh"}, "the whole path of a shell"),
        ({"command": "true", "shell": "/usr/bin/env"}, "the whole path of a shell"),
        ({"command": "ls -l", "shell": False}, "a command without a shell is a list"),
        ({"command": "true", "expected_codes": 0}, "a list of whole numbers"),
        ({"command": "true", "max_output_size": "1"}, "a whole number from 0"),
        ({"command": "true", "secrets": "token"}, "a list of names"),
        ({"command": ["there-is-none-of-this"]}, "cannot be started"),
        ({"command": "rm {file}", "file": "-rf"}, "begins with '-' and would be taken for an option"),
        ({"command": ["rm", "{file}"], "file": "-rf"}, "write '--' before {file}"),
    ],
)  # fmt: skip
def test_wrong_key_fails_the_stage_with_a_sentence(engine, context, said):
    """What, where, expected, what to do."""
    done = carried_out(engine, "shell", **context)

    assert done.status is S.TERMINAL
    assert said in done.context["error"]


def test_prints_come_while_it_runs(engine, tmp_path):
    """A line is in the log before the command ends."""
    run = begun(engine, "shell", command=f"echo first; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo last")

    wait_for(lambda: run.log() == "it: first\n")
    assert run.status is S.RUNNING
    (tmp_path / "go").touch()
    run.wait(10)
    assert run.log() == "it: first\nit: last\n"


TREE = "(trap '' TERM; sleep 300; : {mark})& (sleep 300; : {mark})& trap '' TERM; sleep 300; sleep 300; : {mark}"


def test_timeout_ends_the_tree(engine, mark):
    """Children, children of children, and those that ignore TERM; what was printed is kept."""
    done = carried_out(engine, "shell", command="echo begun; " + TREE.format(mark=mark), timeout=0.5)

    assert done.context["error"] == "stage 'it': the command timed out after 0.5 s"
    assert done.context["stdout"] == "begun"
    assert alive(mark) == []


@pytest.mark.parametrize("what", ["run", "stage"])
def test_cancel_ends_the_tree(engine, mark, what):
    """A stage that is withdrawn, alone or with its run, leaves no process."""
    run = begun(engine, "shell", command="sleep 300 & echo begun; sleep 300; : " + mark)
    wait_for(lambda: "begun" in run.log())
    assert alive(mark)

    run.cancel(*(["it"] if what == "stage" else []))
    run.wait(10)

    wait_for(lambda: not alive(mark))


def test_child_that_holds_the_pipe_hangs_nothing(engine, mark):
    """What a command leaves running is ended with it."""
    begin = time.monotonic()
    done = carried_out(engine, "shell", command=f"sh -c 'sleep 300; : {mark}' & echo done")

    assert done.outputs["stdout"] == "done"
    assert alive(mark) == []
    assert time.monotonic() - begin < 8


def test_own_session_gets_away_and_hangs_nothing(engine, mark, tmp_path):
    """A process that is meant to stay says so by a session of its own."""
    done = carried_out(
        engine, "shell", command=f"setsid sh -c 'echo $$ >{tmp_path}/id; sleep 300; : {mark}' & sleep .2"
    )

    assert done.status is S.SUCCEEDED
    assert len(alive(mark)) == 1
    os.killpg(int((tmp_path / "id").read_text()), signal.SIGKILL)


ENGINE = """
import sys
from stabilize_nb import Engine, ShellTask, TaskRegistry
from tests.makers import stage, workflow
registry = TaskRegistry()
registry.register("shell", ShellTask)
engine = Engine(sys.argv[1], registry=registry)
flow = workflow(stage("it", task="shell", context={"command": sys.argv[2]}))
run = engine.resume()[0] if engine.unfinished() else engine.start(flow)
run.wait(60)
print("result", run.workflow.stages[0].outputs["stdout"])
"""


def engine_process(folder: Path, command: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", ENGINE, str(folder / "runs.db"), command]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})


def test_killed_engine_takes_its_commands_along(tmp_path, mark):
    """After kill -9 nothing goes on unattended; the next engine runs the stage once more, and the result is right."""
    command = f"cd {tmp_path}; echo x >>began; echo begun; [ -e go ] || {{ sleep 300; : {mark}; }}; wc -l <began"
    with engine_process(tmp_path, command) as first:
        assert first.stdout.readline() == "begun\n"
        first.kill()
    wait_for(lambda: not [each for each in alive(mark) if each.name() != "python"])

    (tmp_path / "go").touch()
    with engine_process(tmp_path, command) as second:
        printed, _ = second.communicate(timeout=60)

    assert printed.split() == ["begun", "2", "result", "begun", "2"]


def test_warden_that_was_killed_is_missed_by_nobody(engine):
    """Commands run all the same."""
    carried_out(engine, "shell", command="true")
    assert WARDEN._process is not None
    psutil.Process(WARDEN._process.pid).kill()
    WARDEN._process.wait()

    assert carried_out(engine, "shell", command="echo on").outputs["stdout"] == "on"
    WARDEN.forget()
