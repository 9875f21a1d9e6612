"""Tasks as stages of a flow: `flow.shell(...)` and `flow.task(...)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stabilize_nb import Engine, Flow, ShellTask, secret
from stabilize_nb.errors import ConfigError
from stabilize_nb.models.status import WorkflowStatus
from tests.tasks.commands import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

S = WorkflowStatus


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(":memory:") as made:
        yield made


def test_names_in_braces_are_stages_inputs_and_outputs(engine):
    """A stage that is named is followed; its value is one word whatever it is."""
    flow = Flow("f")

    @flow.stage
    def words(n):
        return {"many": ["a b"] * n, "one": "$(x) `y`"}

    @flow.stage
    def plain(words):
        return "it's"

    said = flow.shell("printf '%s|' {plain} {one} {n} \"{many}\" {none}", name="said")
    run = engine.start(flow, n=1)

    assert run.result(20)["stdout"] == 'it\'s|$(x) `y`|1|["a b"]|{none}|'
    assert flow.requisites(said) == {"plain"}
    assert flow.inputs["n"] is True


def test_condition_and_retry_and_options(engine, tmp_path):
    """Its outputs can be asked for; `retry` counts for codes too."""
    flow = Flow("f")
    flow.shell("test -e {there} || { touch {there}; exit 1; }", name="again", retry=1)
    flow.shell("exit 3", name="code", expected_codes=[3], after="again")
    flow.shell("echo yes", name="yes", when="code.returncode == 3")
    flow.shell("echo no", name="no", when="code.returncode == 0")
    run = engine.start(flow, there=str(tmp_path / "there"))

    assert run.wait(20) is S.SUCCEEDED
    assert run.outputs["yes"]["stdout"] == "yes"
    assert "no" not in run.outputs


def test_stage_that_is_withdrawn_ends_its_command(engine, tmp_path):
    """Of two commands the second is ended as soon as it is not needed any more."""
    flow = Flow("f")
    flow.shell("while [ ! -e begun ]; do sleep 0.02; done", name="quick", cwd="{folder}")
    flow.shell("trap 'touch ended; exit' TERM; touch begun; sleep 300 & wait", name="slow", cwd="{folder}")

    @flow.stage(after=["quick", "slow"], join="any", cancel_rest=True)
    def end():
        return "end"

    assert engine.start(flow, folder=str(tmp_path)).wait(20) is S.SUCCEEDED
    wait_for((tmp_path / "ended").exists)


def test_secrets_are_looked_up_and_hidden():
    """In options, in inputs and in what a stage returned; a command has the values, and nobody is shown them."""
    flow = Flow("f")

    @flow.stage
    def token(given):
        return given

    flow.shell("echo $KEY {token} | tr a-z A-Z; echo $KEY {given}", name="it", env={"KEY": secret("ONE")})
    with Engine(":memory:", secrets={"ONE": "one-1234567", "TWO": "two-1234567"}) as engine:
        run = engine.start(flow, given=secret("TWO"))

        assert run.result(20)["stdout"] == "ONE-1234567 TWO-1234567\n[secret ONE] [secret TWO]"
        assert run.log("it") == "ONE-1234567 TWO-1234567\n[secret ONE] [secret TWO]\n"


def test_names_of_commands_are_made_of_their_text():
    """Different ones, also for the same text."""
    flow = Flow("f")
    made = [flow.shell("make test"), flow.shell("make test"), flow.shell("7z x"), flow.task(ShellTask(command="ls"))]

    assert [each.name for each in made] == ["make_test", "make_test_2", "run_7z_x", "shelltask"]


def test_what_is_wrong_is_said_at_once():
    """In one sentence."""
    flow = Flow("f")
    with pytest.raises(ConfigError, match="a Task is expected"):
        flow.task("shell", "x")
    with pytest.raises(ConfigError, match=r"afer=\.\.\. is not known; did you mean 'after'"):
        flow.shell("ls", afer="x")
    flow.shell("ls", name="it")
    flow.shell("ls", name="x", when="it")
    with pytest.raises(ConfigError, match=r"reads all of 'it'; name an output of it, as in it\.returncode"):
        flow.check()


def test_other_command_is_other_code():
    """A run that was begun goes on with the command that it was begun with."""

    def code_of(command: str, **options: object) -> str:
        flow = Flow("f")
        return flow.task_name(flow.shell(command, name="it", **options))

    assert code_of("ls") == code_of("ls")
    assert code_of("ls") != code_of("ls -l")
    assert code_of("ls") != code_of("ls", cwd="/")
